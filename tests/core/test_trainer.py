"""The loop: totals, carried state, validation, Ctrl-C and divergence."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any, SupportsFloat

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch, StepResult
from d2lrnn.data.batches import SequentialPartitioning, SlidingWindows
from d2lrnn.data.corpus import load_corpus
from d2lrnn.errors import DivergedError, SpecError
from d2lrnn.training.history import EpochRecord, Progress
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.schedules import Constant, Plateau
from d2lrnn.training.trainer import Trainer


class ScriptedLearner:
    """Gives losses from a list, and notes the states that it saw and the rates that it learned at."""

    def __init__(self, losses: Sequence[SupportsFloat], training: TrainingSpec | None = None) -> None:
        self.losses = losses
        self.training = training or TrainingSpec()
        self.learning_rate = self.training.learning_rate
        self.step = 0
        self.parameters = {"w": np.zeros(1)}
        self.optimizer_state = {"optimizer.m.w": np.zeros(1)}
        self.states: list[Any] = []
        self.rates: list[float] = []

    def initial_state(self, batch_size: int) -> Any:
        return "zero"

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        self.states.append(state)
        self.rates.append(self.learning_rate)
        self.step += 1
        self.parameters = {"w": self.parameters["w"] + 1}
        self.optimizer_state = {"optimizer.m.w": self.optimizer_state["optimizer.m.w"] + 2}
        return StepResult(self.losses[self.step - 1], 1.0), f"after {self.step}"

    def eval_step(self, batch: Batch, state: Any) -> tuple[float, Any]:
        self.states.append(state)
        return 2.0, "evaluated"

    def export_parameters(self) -> dict[str, Any]:
        return dict(self.parameters)

    def import_parameters(self, parameters: dict[str, Any]) -> None:
        self.parameters = dict(parameters)

    def export_optimizer_state(self) -> dict[str, Any]:
        return dict(self.optimizer_state)

    def import_optimizer_state(self, arrays: dict[str, Any]) -> None:
        self.optimizer_state = dict(arrays)

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


def _trainer(
    losses: Sequence[SupportsFloat], num_batches: int, carries: bool = False, learner: Any = None, **on: Any
) -> Trainer:
    data: Any = ScriptedData(num_batches, carries)
    return Trainer(learner or ScriptedLearner(losses), data, **on)


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
    assert trainer.learner.export_optimizer_state()["optimizer.m.w"][0] == 2 * per_epoch


def test_a_validation_that_diverges_is_an_error_and_the_epoch_before_is_kept() -> None:
    trainer = _trainer([1.0] * 6, 3)
    trainer.fit(1)
    trainer.learner.eval_step = lambda batch, state: (math.nan, state)  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"the loss became nan at step 6 \(epoch 2\)"):
        trainer.fit(2)
    assert trainer.learner.step == trainer.learner.export_parameters()["w"][0] == 3
    assert len(trainer.history.epochs) == 1
    with pytest.raises(DivergedError, match="the validation loss is nan"):
        trainer.validate()


def test_an_infinite_perplexity_is_a_divergence_though_every_loss_is_a_number() -> None:
    trainer = _trainer([1.0] * 6, 3)
    trainer.fit(1)
    trainer.learner.eval_step = lambda batch, state: (900.0, state)  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"the validation perplexity became infinite in epoch 2") as info:
        trainer.fit(2)
    assert info.value.step == 6
    assert trainer.history.ended == "diverged"
    assert trainer.learner.step == trainer.learner.export_parameters()["w"][0] == 3
    assert len(trainer.history.epochs) == 1


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


@pytest.fixture
def _python_s_own_handlers() -> Iterator[None]:
    """Where the tests run in the background of a shell, SIGINT is ignored."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in handlers.items():
        assert signal.getsignal(number) is handler
        signal.signal(number, before[number])


@pytest.mark.usefixtures("_python_s_own_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_keeps_what_was_learned(number: int) -> None:
    def interrupt(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 2):
            os.kill(os.getpid(), number)

    trainer = _trainer([1.0] * 15, 5, on_step=interrupt)
    history = trainer.fit(3)
    assert history.ended == "interrupted"
    assert [(record.epoch, record.num_steps) for record in history.epochs] == [(1, 5)]
    assert [(record["epoch"], record["num_steps"]) for record in history.to_json()] == [(1, 5), (2, 2)]
    assert trainer.learner.export_parameters()["w"][0] == 7


@pytest.mark.usefixtures("_python_s_own_handlers")
def test_what_is_ignored_or_handled_already_stays_so() -> None:
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)

    def interrupt(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, handle)
    try:
        history = _trainer([1.0] * 5, 5, on_step=interrupt).fit(1)
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert history.ended == "finished"
    assert received == [signal.SIGTERM] * 5


@pytest.mark.usefixtures("_python_s_own_handlers")
def test_a_second_ctrl_c_interrupts_at_once() -> None:
    def interrupt(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _trainer([1.0] * 5, 5, on_step=interrupt).fit(1)


class Clock:
    """A clock that goes on by itself, a second every time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        self.now += 1.0
        return self.now


def test_the_speed_counts_the_last_update_and_not_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock.read)

    class Slow(ScriptedLearner):
        def eval_step(self, batch: Batch, state: Any) -> tuple[float, Any]:
            clock.now += 1000.0
            return super().eval_step(batch, state)

        def synchronize(self) -> None:
            clock.now += 8.0  # what the device still has to do

    trainer = _trainer([], 2, learner=Slow([1.0] * 4))
    for record in trainer.fit(2).epochs:
        assert record.tokens_per_second == pytest.approx(9 / (8.0 + 1.0))


def test_the_speed_that_is_shown_does_not_swing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second a step and for what reads the clock: the losses of the last steps are not read yet."""
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock.read)
    shown: list[Progress] = []
    _trainer([1.0] * 40, 20, on_step=shown.append).fit(2)
    assert [p.tokens_per_second for p in shown if p.step > 1] == pytest.approx([6.0] * 38, rel=0.3)


@pytest.mark.usefixtures("_python_s_own_handlers")
def test_the_speed_of_an_epoch_that_was_interrupted_does_not_count_the_validation_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock.read)

    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = _trainer([1.0] * 4, 4, on_step=interrupt)
    before = trainer.learner.eval_step

    def eval_step(batch: Batch, state: Any) -> tuple[SupportsFloat, Any]:
        clock.now += 1000.0
        return before(batch, state)

    trainer.learner.eval_step = eval_step  # type: ignore[method-assign]
    assert trainer.fit(1).ended == "interrupted"
    (record,) = trainer.fit(1).epochs
    assert record.num_steps == 4
    assert record.tokens_per_second > 1.0


class Dispatched:
    """A loss that is known some steps after it was asked for, as a device's is that works ahead."""

    def __init__(self, learner: Any, step: int) -> None:
        self.learner, self.step = learner, step

    def __float__(self) -> float:
        self.learner.ahead.append(self.learner.step - self.step)
        return 1.0


class Asynchronous(ScriptedLearner):
    def __init__(self) -> None:
        super().__init__([Dispatched(self, step) for step in range(1, 41)])
        self.ahead: list[int] = []


def test_losses_are_read_when_later_steps_are_under_way() -> None:
    learner = Asynchronous()
    trainer = _trainer([], 40, learner=learner)
    trainer.fit(1)
    assert len(learner.ahead) == 40
    # The last ones are read at the end of the epoch, when no step follows.
    assert min(learner.ahead[:-8]) >= 4


def test_a_progress_bar_waits_for_the_first_loss_alone() -> None:
    learner = Asynchronous()
    trainer = _trainer([], 40, learner=learner, on_step=lambda progress: None)
    trainer.fit(1)
    assert learner.ahead[0] == 0
    assert min(learner.ahead[1:-8]) >= 4


def test_the_rate_of_every_step_is_the_schedules() -> None:
    learner = ScriptedLearner([1.0] * 6, TrainingSpec(learning_rate=0.5, schedule=Constant(warmup=4)))
    trainer = _trainer([], 3, learner=learner)
    trainer.fit(2)
    assert learner.rates == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_a_schedule_knows_the_validation_losses_of_the_whole_epochs() -> None:
    """In nats per token: of the third epoch on it knows two that are no better than the first."""
    schedule = Plateau(patience=0, gamma=0.5)
    learner = ScriptedLearner([1.0] * 8, TrainingSpec(learning_rate=4.0, schedule=schedule))
    trainer = _trainer([], 2, learner=learner)
    trainer.fit(4)
    assert learner.rates == [4.0, 4.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0]
    assert trainer._validation_losses() == pytest.approx([2.0] * 4)


def test_a_rate_without_a_schedule_is_left_alone() -> None:
    learner = ScriptedLearner([1.0] * 2)
    learner.learning_rate = 0.25
    _trainer([], 2, learner=learner).fit(1)
    assert learner.rates == [0.25, 0.25]


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
