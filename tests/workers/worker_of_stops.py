"""One worker of `test_stops`: trains until another one asks to stop, and saves where that was."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import d2lrnn
from d2lrnn import ModelSpec, SequentialPartitioning, Trainer, TrainingSpec, initial_parameters
from d2lrnn.training.callbacks import Callback
from d2lrnn.training.history import EpochRecord, Progress
from d2lrnn.workers.link import Link, serve


class Asks(Callback):
    """Asks to stop after a step of the first epoch, or after that epoch."""

    def __init__(self, step: int | None) -> None:
        self._step = step

    def on_step(self, progress: Progress) -> None:
        if progress.step == self._step:
            self.trainer.stop()

    def on_epoch(self, record: EpochRecord) -> None:
        if self._step is None:
            self.trainer.stop()


def main(descriptor: int) -> NoReturn:
    """Does the job of the link."""
    link = Link(descriptor)
    if "role" in link.job:
        serve(link.job)
    try:
        backend: Any = d2lrnn.backend()
        workers = backend.join_workers("cpu")
        link.joined(workers.rank, workers.size, workers.lost)
        results = [trained(backend, workers, step) for step in (3, None)]
        (Path(link.job["folder"]) / f"results-{workers.rank}").write_text(json.dumps(results))
        workers.close()
    except BaseException:
        os.write(2, f"d2lrnn: {traceback.format_exc()!r}\n".encode())
        os._exit(1)
    os._exit(0)


def trained(backend: Any, workers: Any, step: int | None) -> tuple[str, int, int, list[float]]:
    """How training ended, after how many steps and epochs, and the norms of the records."""
    spec = ModelSpec(11, num_hiddens=4)
    model = backend.build(spec, initial_parameters(spec))
    learner = backend.learner(model, TrainingSpec(), device="cpu", workers=workers)
    tokens = np.random.default_rng(0).integers(0, 11, 400).astype(np.int32)
    data = SequentialPartitioning(tokens, batch_size=4, num_steps=5)
    # The second worker asks; the first knows nothing of it.
    trainer = Trainer(learner, data, callbacks=[Asks(step)] if workers.rank == 1 else [])
    history = trainer.fit(5)
    return history.ended, learner.step, len(history.epochs), [each.grad_norm for each in history.records]
