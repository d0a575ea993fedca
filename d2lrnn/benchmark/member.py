"""One process of the benchmark of several workers: checks its results, then runs what it reads.

    python -m d2lrnn.benchmark.member JOB

The driver (`d2lrnn.benchmark.workers`) starts such processes: a worker that is alone, several that share a
step, one with several threads. What a process prints are lines of JSON: first what it can run, or a string
that says what is wrong; then, for every line ``WHAT NUMBER`` that it reads, the seconds of one run.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, cast

import numpy as np

from d2lrnn.allocator import keep_freed_memory
from d2lrnn.benchmark.reference import (
    LOSS_TOLERANCE,
    NUM_LOSSES,
    check_parameters_of,
    fault,
    relative_difference,
)
from d2lrnn.benchmark.settings import batches, find_model, find_setting, spec_of
from d2lrnn.benchmark.subject import BackendSubject
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import D2LError
from d2lrnn.registry import backend
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.workers.engine import worker_device
from d2lrnn.workers.parts import part_of
from d2lrnn.workers.protocols import SharingBackend, Workers

#: What is timed: a training step; the products alone of this process' rows; and, where workers share a step,
#: a step on this worker's rows without the others, and a reduction of a message of the gradient's size.
STEP, PRODUCTS, OWN_ROWS, REDUCTION = "step", "products", "own rows", "reduction"


@dataclass(frozen=True)
class Job:
    """What a process is to be.

    Attributes:
        backend: its name.
        setting: a setting's name.
        model: a model's name.
        reference: the file that `d2lrnn.benchmark.reference` wrote.
        device: as for `d2lrnn.contract.protocols.Backend.learner`.
        size: how many workers share a step; 0 for a process that is no worker.
        cores: the cores that it may use; none leaves all of them.
    """

    backend: str
    setting: str
    model: str
    reference: str
    device: str = "cpu"
    size: int = 0
    cores: tuple[int, ...] = ()

    def to_json(self) -> str:
        """``Job(**json.loads(text))`` is the inverse."""
        return json.dumps(asdict(self))


class _WrongError(Exception):
    """The numbers are not the reference's."""


def main(text: str) -> None:
    """Reads a job, and does it until standard input ends."""
    # Frameworks may print: what is meant for the driver goes where they do not.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = Job(**json.loads(text))
    if job.cores and hasattr(os, "sched_setaffinity"):
        # Some frameworks ask for no number of threads: what they may run on decides. Before their import.
        with suppress(OSError):
            os.sched_setaffinity(0, job.cores)
    keep_freed_memory()
    try:
        runs, about = _prepared(job)
    except (D2LError, _WrongError) as error:
        print(json.dumps(f"{error}"), file=answers)
        return
    print(json.dumps(about), file=answers)
    for line in sys.stdin:
        what, _, number = line.strip().rpartition(" ")
        started = time.perf_counter()
        for _ in range(int(number)):
            runs[what]()
        print(json.dumps((time.perf_counter() - started) / int(number)), file=answers)
    # Not a return: threads of the framework's engine may wait for the others.
    os._exit(0)


def _prepared(job: Job) -> tuple[dict[str, Callable[[], object]], dict[str, Any]]:
    """What can be run, and what is known before the first clock runs."""
    chosen = backend(job.backend)
    workers: Workers | None = None
    device, rank, size = job.device, 0, max(1, job.size)
    if job.size > 1:
        workers = cast("SharingBackend", chosen).join_workers(job.device)
        rank, size = workers.rank, workers.size
        device = worker_device(job.device, chosen.devices(), rank).name
    setting = find_setting(job.setting)
    spec = spec_of(setting, find_model(job.model))
    shared = {} if workers is None else {"workers": workers}
    learner = chosen.learner(
        chosen.build(spec, check_parameters_of(spec)), setting.training, device=device, **shared
    )
    reference = dict(np.load(job.reference))
    wrong, off = fault(learner, job.setting, reference)
    if wrong:
        raise _WrongError(wrong)
    learner.import_parameters(initial_parameters(spec))
    losses, norms = _first_steps(learner, job.setting, reference)

    batch, state = next(batches(setting)), learner.initial_state(setting.batch_size)
    runs: dict[str, Callable[[], object]] = {STEP: _step(learner, batch, state)}
    rows = -(-setting.batch_size // size)
    products = BackendSubject(chosen).floor(spec, rows, setting.num_steps, device=device)
    if products is not None:
        runs[PRODUCTS] = products
    num_parameters = sum(math.prod(shape) for shape in parameter_shapes(spec).values())
    if workers is not None:
        alone = chosen.learner(chosen.build(spec, initial_parameters(spec)), setting.training, device=device)
        runs[OWN_ROWS] = _step(alone, part_of(batch, rank, size).batch, alone.initial_state(rows))
        message, all_workers = np.zeros(num_parameters, spec.dtype), workers
        runs[REDUCTION] = lambda: all_workers.sum(message)
    return runs, {
        "runs": list(runs),
        "versions": chosen.versions(),
        "off": off,
        "losses": losses,
        "norms": norms,
        "message": num_parameters * np.dtype(spec.dtype).itemsize,
    }


def _first_steps(
    learner: Learner, setting_name: str, reference: Mapping[str, FloatArray]
) -> tuple[list[float], list[float]]:
    """Losses and norms of the first training steps, the losses held to the reference."""
    setting = find_setting(setting_name)
    losses, norms = [], []
    for batch in islice(batches(setting), NUM_LOSSES):
        result, _ = learner.train_step(batch, learner.initial_state(setting.batch_size))
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
    for number, (loss, right) in enumerate(zip(losses, reference["losses"], strict=True), 1):
        difference = relative_difference(loss, float(right))
        if not difference <= LOSS_TOLERANCE:
            raise _WrongError(
                f"the loss of training step {number} is off by {difference:.1e}; "
                f"{LOSS_TOLERANCE:.0e} is allowed"
            )
    return losses, norms


def _step(learner: Learner, batch: Any, state: Any) -> Callable[[], None]:
    def run() -> None:
        learner.train_step(batch, state)
        learner.synchronize()

    return run


if __name__ == "__main__":
    main(sys.argv[1])
