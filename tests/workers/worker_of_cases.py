"""One worker of `test_numbers`: trains every case together with the others, and saves what came of it."""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path
from typing import Any, NoReturn

import d2lrnn
from d2lrnn.workers.link import Link, serve


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
    """What a case comes to, with several workers or alone; the same on every worker."""
    model = backend.build(case.spec, case.parameters)
    if workers is None:
        learner = backend.learner(model, case.training, device="cpu")
    else:
        learner = backend.learner(model, case.training, device="cpu", workers=workers)
        learner.check_agreement()
    first = case.batches[0]
    gradients = learner.gradients(first, learner.initial_state(len(first.inputs)))
    losses, norms, state = [], [], None
    for batch in case.batches:
        if state is None or not case.carried:
            state = learner.initial_state(len(batch.inputs))
        result, state = learner.train_step(batch, state)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
    exported = learner.export_state(state)
    validated, after = [], learner.import_state(exported)
    for batch in case.validation:
        loss, after = learner.eval_step(batch, after)
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
