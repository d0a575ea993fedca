"""The loop: totals, carried state, validation, Ctrl-C and divergence."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.parameters import initial_parameters
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch, StepResult
from d2lrnn.data.batches import SequentialPartitioning, SlidingWindows
from d2lrnn.data.corpus import load_corpus
from d2lrnn.errors import DivergedError, SpecError
from d2lrnn.training.trainer import EpochRecord, Progress, Trainer


class ScriptedLearner:
    """Gives the losses that it was told to, and notes which states it saw."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses
        self.step = 0
        self.parameters = {"w": np.zeros(1)}
        self.states: list[Any] = []

    def initial_state(self, batch_size: int) -> Any:
        return "zero"

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        self.states.append(state)
        self.step += 1
        self.parameters = {"w": self.parameters["w"] + 1}
        return StepResult(self.losses[self.step - 1], 1.0), f"after {self.step}"

    def eval_step(self, batch: Batch, state: Any) -> tuple[float, Any]:
        self.states.append(state)
        return 2.0, "evaluated"

    def export_parameters(self) -> dict[str, Any]:
        return dict(self.parameters)

    def import_parameters(self, parameters: dict[str, Any]) -> None:
        self.parameters = dict(parameters)

    def synchronize(self) -> None:
        pass


class ScriptedData:
    def __init__(self, num_batches: int, carries_state: bool = False) -> None:
        self.num_train_batches = num_batches
        self.num_validation_batches = 2
        self.carries_state = carries_state
        self.batch_size, self.num_steps = 2, 3

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        for index in range(self.num_train_batches):
            targets = np.zeros((2, 3), np.int32)
            if index == 0:
                targets[1] = PADDING
            yield Batch(np.zeros((2, 3), np.int32), targets)

    def validation_batches(self) -> Iterator[Batch]:
        for _ in range(2):
            yield Batch(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.int32))

    def describe(self) -> str:
        return "scripted"


def _trainer(losses: list[float], num_batches: int, carries: bool = False, **on: Any) -> Trainer:
    return Trainer(ScriptedLearner(losses), ScriptedData(num_batches, carries), **on)  # type: ignore[arg-type]


def test_perplexity_weighs_batches_by_their_tokens() -> None:
    """The first batch has 3 tokens that count, the second 6: exp of the mean over 9, not a mean of exps."""
    (record,) = _trainer([1.0, 4.0], 2).fit(1).epochs
    mean = (3 * 1.0 + 6 * 4.0) / 9
    assert record.train_perplexity == pytest.approx(math.exp(mean))
    assert record.train_bits_per_token == pytest.approx(mean / math.log(2))
    assert record.val_perplexity == pytest.approx(math.exp(2))
    assert record.num_steps == 2
    assert record.tokens_per_second > 0


def test_the_state_is_carried_only_where_batches_continue_each_other() -> None:
    fresh = _trainer([1.0] * 4, 2)
    fresh.fit(2)
    assert fresh.learner.states == ["zero"] * 8  # type: ignore[attr-defined]
    carried = _trainer([1.0] * 4, 2, carries=True)
    carried.fit(2)
    assert carried.learner.states == [  # type: ignore[attr-defined]
        "zero", "after 1", "zero", "evaluated", "zero", "after 3", "zero", "evaluated",
    ]  # fmt: skip


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("step", [4, 6, 30])
def test_divergence_names_the_step_and_keeps_the_last_whole_epoch(loss: float, step: int) -> None:
    losses = [1.0] * 40
    losses[step - 1] = loss
    trainer = _trainer(losses, 3 if step < 10 else 20)
    with pytest.raises(DivergedError, match=rf"the loss became {loss} at step {step} \(epoch 2\)") as info:
        trainer.fit(2)
    assert info.value.step == step
    per_epoch = trainer.data.num_train_batches
    assert [record.epoch for record in trainer.history.epochs] == [1]
    assert trainer.history.ended == "diverged"
    assert trainer.learner.step == per_epoch
    assert trainer.learner.export_parameters()["w"][0] == per_epoch


def test_a_validation_that_diverges_is_told_and_the_epoch_before_kept() -> None:
    trainer = _trainer([1.0] * 6, 3)
    trainer.fit(1)
    trainer.learner.eval_step = lambda batch, state: (math.nan, state)  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"the loss became nan at step 6 \(epoch 2\)"):
        trainer.fit(2)
    assert trainer.learner.step == trainer.learner.export_parameters()["w"][0] == 3
    assert len(trainer.history.epochs) == 1
    with pytest.raises(DivergedError, match="the validation loss is nan"):
        trainer.validate()


def test_data_without_a_batch_is_an_error() -> None:
    with pytest.raises(SpecError, match="gave no batch"):
        _trainer([], 0).fit(1)


def test_divergence_is_found_long_before_a_long_epoch_ends() -> None:
    trainer = _trainer([math.nan] * 1000, 1000)
    seen: list[Progress] = []
    trainer._on_step = seen.append
    with pytest.raises(DivergedError, match="step 1 "):
        trainer.fit(1)
    assert len(seen) < 20


def test_callbacks_see_every_step_and_epoch() -> None:
    steps: list[Progress] = []
    epochs: list[EpochRecord] = []
    trainer = _trainer([1.0] * 6, 3, on_step=steps.append, on_epoch=epochs.append)
    history = trainer.fit(2)
    assert [(p.epoch, p.step, p.num_steps) for p in steps] == [(e, s, 3) for e in (1, 2) for s in (1, 2, 3)]
    assert steps[0].perplexity == pytest.approx(math.e)
    assert epochs == history.epochs
    assert [record["epoch"] for record in history.to_json()] == [1, 2]


def test_ctrl_c_ends_the_step_and_keeps_what_was_learned() -> None:
    def interrupt(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 2):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    trainer = _trainer([1.0] * 15, 5, on_step=interrupt)
    history = trainer.fit(3)
    assert history.ended == "interrupted"
    assert [(record.epoch, record.num_steps) for record in history.epochs] == [(1, 5)]
    assert [(record["epoch"], record["num_steps"]) for record in history.to_json()] == [(1, 5), (2, 2)]
    assert trainer.learner.export_parameters()["w"][0] == 7
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    def interrupt(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # Where the tests run in the background of a shell, SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            _trainer([1.0] * 5, 5, on_step=interrupt).fit(1)
    finally:
        signal.signal(signal.SIGINT, before)


def test_no_epochs_is_an_error() -> None:
    with pytest.raises(SpecError, match="number of epochs is 0"):
        _trainer([], 1).fit(0)


def test_records_that_are_not_finite_become_null() -> None:
    (record,) = _trainer([1e6], 1).fit(1).to_json()
    assert record["train_perplexity"] is None
    assert record["val_perplexity"] == pytest.approx(math.exp(2))


@pytest.mark.parametrize("iterator", [SlidingWindows, SequentialPartitioning])
def test_a_real_model_learns(iterator: type) -> None:
    corpus = load_corpus("sample")
    spec = ModelSpec(len(corpus.vocab), "gru", "concise", 24)
    backend = d2lrnn.backend("numpy")
    learner = backend.learner(backend.build(spec, initial_parameters(spec)), TrainingSpec(learning_rate=2.0))
    data = iterator(corpus, batch_size=64, num_steps=20)
    if iterator is SlidingWindows:
        data = SlidingWindows(corpus, batch_size=64, num_steps=20, num_train=1500, num_val=500)
    trainer = Trainer(learner, data)
    first, *_, last = trainer.fit(4).epochs
    assert last.val_perplexity < first.val_perplexity < 28
    nats, tokens = trainer.validate()
    assert math.exp(nats / tokens) == pytest.approx(last.val_perplexity)
