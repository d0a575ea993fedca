"""One worker of `test_numbers`: trains every case together with the others, and saves what came of it."""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path
from typing import Any, NoReturn

import d2lrnn
from d2lrnn.contract.values import Batch
from d2lrnn.workers.link import Link, serve
from d2lrnn.workers.parts import Part, part_of


def main(descriptor: int) -> NoReturn:
    """Does the job of the link."""
    link = Link(descriptor)
    if "role" in link.job:
        serve(link.job)
    try:
        folder = Path(link.job["folder"])
        backend: Any = d2lrnn.backend()
        workers = backend.join_workers("cpu")
        link.joined(workers.rank, workers.size, workers.lost)
        results = {}
        for case in pickle.loads((folder / "cases").read_bytes()):
            results[case.name] = trained(case, backend, workers)
        (folder / f"results-{workers.rank}").write_bytes(pickle.dumps(results))
        workers.close()
    except BaseException:
        os.write(2, f"d2lrnn: {traceback.format_exc()!r}\n".encode())
        os._exit(1)
    os._exit(0)


def trained(case: Any, backend: Any, workers: Any = None) -> dict[str, Any]:
    """What a case comes to, with several workers or alone; the same on every worker.

    Workers are given whole batches and their parts of them in turn.
    """

    def given(number: int, batch: Batch) -> Batch | Part:
        return part_of(batch, workers.rank, workers.size) if workers and number % 2 else batch

    model = backend.build(case.spec, case.parameters)
    if workers is None:
        learner = backend.learner(model, case.training, device="cpu")
    else:
        learner = backend.learner(model, case.training, device="cpu", workers=workers)
        learner.check_agreement()
    first = case.batches[0]
    gradients = learner.gradients(first, learner.initial_state(len(first.inputs)))
    losses, norms, state = [], [], None
    for number, batch in enumerate(case.batches):
        if state is None or not case.carried:
            state = learner.initial_state(len(batch.inputs))
        result, state = learner.train_step(given(number, batch), state)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
    exported = learner.export_state(state)
    validated, after = [], learner.import_state(exported)
    for number, batch in enumerate(case.validation):
        loss, after = learner.eval_step(given(number, batch), after)
        validated.append((float(loss), batch.num_tokens))
    return {
        "gradients": gradients,
        "losses": losses,
        "norms": norms,
        "state": exported,
        "state after validation": learner.export_state(after),
        "validation": validated,
        "parameters": learner.export_parameters(),
        "optimizer state": learner.export_optimizer_state(),
        "step": learner.step,
    }
