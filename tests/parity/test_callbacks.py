"""Norms that are recorded and stops that are asked for: the same on every backend as on the reference."""

from __future__ import annotations

import pytest
from parity.models import drawn_batch, learners

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.batches import RandomSampling
from d2lrnn.training.callbacks import Callback, EarlyStopping
from d2lrnn.training.history import Progress
from d2lrnn.training.trainer import Trainer

SPEC = ModelSpec(11, "rnn", "scratch", 8, dtype="float64")


class Once(Callback):
    """Asks to stop after the step of this number."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, progress: Progress) -> None:
        if self.trainer.learner.step == self._step:
            self.trainer.stop()


def _trainers(backend: Backend, reference: Backend, training: TrainingSpec, step: int) -> list[Trainer]:
    tokens = drawn_batch(SPEC, 1, 600).inputs[0]
    data = RandomSampling(tokens, batch_size=4, num_steps=7, seed=1)
    return [
        Trainer(learner, data, callbacks=[Once(step)])
        for learner in learners(backend, reference, SPEC, training)
    ]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_recorded_norms_are_those_of_the_reference(
    backend: Backend, reference: Backend, accumulate: int
) -> None:
    """Before clipping, of whole epochs and of one that was stopped and resumed."""
    training = TrainingSpec(0.5, clip=0.25, accumulate=accumulate)
    trainer, judge = _trainers(backend, reference, training, step=5)
    for each in (trainer, judge):
        assert each.fit(2).ended == "stopped"
        assert each.learner.step == 5
        assert each.fit(2).ended == "finished"
    for record, expected in zip(trainer.history.epochs, judge.history.epochs, strict=True):
        assert expected.clipped is not None
        assert 0 < expected.clipped < 1, "some steps must be clipped, and not all"
        assert record.grad_norm == pytest.approx(expected.grad_norm, rel=1e-9)
        assert record.grad_norm_max == pytest.approx(expected.grad_norm_max, rel=1e-9)
        assert record.clipped == expected.clipped


def test_early_stopping(backend: Backend, reference: Backend) -> None:
    """At a rate that changes nothing no epoch is better than the first."""
    learner, _ = learners(backend, reference, SPEC, TrainingSpec(1e-30))
    data = RandomSampling(drawn_batch(SPEC, 1, 300).inputs[0], batch_size=4, num_steps=7)
    history = Trainer(learner, data, callbacks=[EarlyStopping(2)]).fit(9)
    assert (history.ended, len(history.epochs)) == ("stopped", 3)
