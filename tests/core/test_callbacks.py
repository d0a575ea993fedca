"""What is called in the course of a training, what it may ask for, and the norms of the gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lrnn import ModelSpec, SlidingWindows, Trainer, TrainingSpec, backend, initial_parameters, load_run
from d2lrnn.contract.values import Batch, StepResult
from d2lrnn.data.corpus import Corpus, load_corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import SpecError
from d2lrnn.saving.callbacks import SaveRun
from d2lrnn.saving.run import Run
from d2lrnn.training.callbacks import Callback, EarlyStopping, GradientNormLog, SamplePrinter
from d2lrnn.training.history import EpochPart, EpochRecord, Position, Progress
from d2lrnn.training.patience import Patience


class Learner:
    """Gives validation losses and norms from lists."""

    def __init__(self, validation: Sequence[float] = (), norms: Sequence[float] = (), clip: float = 1.0):
        self.training, self.learning_rate, self.step = TrainingSpec(clip=clip), 1.0, 0
        self._validation, self._norms = iter(validation), norms

    def initial_state(self, batch_size: int) -> None: ...

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, None]:
        self.step += 1
        return StepResult(1.0, self._norms[self.step - 1] if self._norms else 0.5), None

    def eval_step(self, batch: Batch, state: Any) -> tuple[float, None]:
        return next(self._validation, 1.0), None

    def export_parameters(self) -> dict[str, Any]:
        return {}

    export_optimizer_state = export_parameters

    def import_parameters(self, parameters: Any) -> None: ...

    import_optimizer_state = import_parameters

    def synchronize(self) -> None: ...


class Data:
    """Some batches an epoch, one to validate on."""

    carries_state, batch_size, num_steps = False, 2, 3

    def __init__(self, num_batches: int = 2, num_validation: int = 1) -> None:
        self.num_train_batches, self.num_validation_batches = num_batches, num_validation

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        return self._batches(self.num_train_batches)

    def validation_batches(self) -> Iterator[Batch]:
        return self._batches(self.num_validation_batches)

    def _batches(self, number: int) -> Iterator[Batch]:
        for _ in range(number):
            yield Batch(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.int32))

    def describe(self) -> str:
        return "data"


def _trainer(learner: Any, data: Any = None, **options: Any) -> Trainer:
    return Trainer(learner, data or Data(), **options)


@pytest.mark.parametrize(
    ("patience", "validation", "num_epochs"),
    [
        (1, [3.0, 2.0, 2.0, 1.0], 3),
        (2, [3.0, 2.0, 2.5, 1.9, 1.9, 1.9, 1.0], 6),
        (3, [1.0, 1.1, 1.2, 1.3, 0.5], 4),
        (3, [5.0, 4.0, 3.0, 2.0, 1.0, 0.5], 6),
    ],
)
def test_early_stopping_counts_epochs_that_are_no_better(
    patience: int, validation: list[float], num_epochs: int
) -> None:
    history = _trainer(Learner(validation), callbacks=[EarlyStopping(patience)]).fit(6)
    assert len(history.epochs) == num_epochs
    assert history.ended == ("stopped" if num_epochs < 6 else "finished")
    assert history.cut_short is None


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
def test_a_resumed_training_counts_on(stopped_after: int) -> None:
    validation = [3.0, 2.0, 2.5, 2.4, 2.3, 1.0]
    first = _trainer(Learner(validation), callbacks=[EarlyStopping(3)])
    first.fit(stopped_after)
    learner = Learner(validation[stopped_after:])
    second = _trainer(learner, position=first.position(), callbacks=[EarlyStopping(3)])
    assert len(second.fit(9).epochs) == 5


def test_a_further_fit_goes_on_for_an_epoch_and_with_what_is_better() -> None:
    trainer = _trainer(Learner([1.0, 2.0, 2.0, 0.5, 0.6, 0.6, 0.1]), callbacks=[EarlyStopping(1)])
    assert [len(trainer.fit(9).epochs) for _ in range(3)] == [2, 3, 5]
    # Or all counts anew.
    trainer = _trainer(Learner([1.0, 2.0, 2.0, 2.0, 2.0]), callbacks=[EarlyStopping(Patience(2, since=2))])
    assert len(trainer.fit(9).epochs) == 4


def test_early_stopping_needs_a_number_and_something_to_validate_on() -> None:
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(SpecError, match="the patience is"):
            EarlyStopping(wrong)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="needs text to validate on"):
        _trainer(Learner(), Data(num_validation=0), callbacks=[EarlyStopping(1)]).fit(1)


def test_a_callback_stops_inside_an_epoch_and_training_goes_on() -> None:
    class Once(Callback):
        def on_step(self, progress: Progress) -> None:
            if self.trainer.learner.step == 3:
                self.trainer.stop()

    records: list[EpochRecord] = []
    trainer = _trainer(Learner(), Data(5), callbacks=[Once()], on_epoch=records.append)
    history = trainer.fit(2)
    assert (history.ended, history.epochs, trainer.learner.step) == ("stopped", [], 3)
    assert [record.num_steps for record in records] == [3]
    assert trainer.fit(2).ended == "finished"
    assert [record.num_steps for record in records] == [3, 5, 5]
    assert trainer.learner.step == 10


def test_a_stop_that_is_asked_for_before_the_first_step() -> None:
    class AtOnce(Callback):
        def on_begin(self, trainer: Trainer) -> None:
            trainer.stop()

    history = _trainer(Learner(), callbacks=[AtOnce()]).fit(2)
    assert (history.ended, history.records) == ("stopped", [])


def test_a_stop_with_the_last_epoch_is_its_end() -> None:
    assert _trainer(Learner([1.0, 2.0]), callbacks=[EarlyStopping(1)]).fit(2).ended == "finished"


def test_callbacks_come_in_their_order_and_before_the_functions() -> None:
    calls: list[str] = []

    class Notes(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_step(self, progress: Progress) -> None:
            calls.append(f"{self.name} step {progress.step}")

        def on_epoch(self, record: EpochRecord) -> None:
            calls.append(f"{self.name} epoch {record.epoch}")

    _trainer(
        Learner(), Data(1), callbacks=[Notes("a"), Notes("b")],
        on_step=lambda progress: calls.append("function"), on_epoch=lambda record: calls.append("at the end"),
    ).fit(1)  # fmt: skip
    assert calls == ["a step 1", "b step 1", "function", "a epoch 1", "b epoch 1", "at the end"]


NORMS = [0.5, 3.0, 1.0, 0.25, 2.0, 1.5] * 5


def test_a_record_has_mean_maximum_and_share_of_clipped_steps() -> None:
    first, second = _trainer(Learner(norms=NORMS), Data(15)).fit(2).epochs
    for record, norms in ((first, NORMS[:15]), (second, NORMS[15:])):
        assert record.grad_norm == pytest.approx(sum(norms) / 15)
        assert record.grad_norm_max == 3.0
        # A norm of exactly theta is not clipped.
        assert record.clipped == sum(norm > 1 for norm in norms) / 15
    (record,) = _trainer(Learner(norms=[0.5, 3.0], clip=None)).fit(1).epochs  # type: ignore[arg-type]
    assert (record.grad_norm_max, record.clipped) == (3.0, 0.0)


def test_norms_are_read_late_and_all_of_them() -> None:
    """A norm is read some steps after it was dispatched: no step waits for the device."""
    read: list[int] = []

    class Late(float):
        def __float__(self) -> float:
            read.append(learner.step)
            return float.__add__(self, 0.0)

    learner = Learner(norms=[Late(each) for each in NORMS])
    _trainer(learner, Data(15)).fit(1)
    assert len(read) == 15
    assert read[:7] == list(range(9, 16))


def test_the_norms_of_an_epoch_that_was_resumed_are_those_of_all_its_steps() -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 7:
            trainer.stop()

    (whole,) = _trainer(Learner(norms=NORMS), Data(30)).fit(1).epochs
    trainer = _trainer(Learner(norms=NORMS), Data(30), on_step=stop)
    cut_short = trainer.fit(1).cut_short
    assert cut_short is not None
    assert cut_short.grad_norm == pytest.approx(sum(NORMS[:7]) / 7)
    (record,) = _trainer(Learner(norms=NORMS), Data(30), position=trainer.position()).fit(1).epochs
    assert (record.grad_norm, record.grad_norm_max, record.clipped) == (
        whole.grad_norm, whole.grad_norm_max, whole.clipped,
    )  # fmt: skip


def test_norms_that_are_not_known_of_every_step() -> None:
    """Of an epoch that an earlier version began, or where one overflowed: that step changes nothing."""
    begun = Position(1, (), EpochPart(1, 6.0, 6, 1.0))
    (record,) = _trainer(Learner(norms=NORMS), Data(3), position=begun).fit(1).epochs
    assert (record.grad_norm, record.grad_norm_max, record.clipped) == (None, None, None)
    (record,) = _trainer(Learner(norms=[1.0, math.inf])).fit(1).epochs
    assert (record.grad_norm, record.grad_norm_max, record.clipped) == (None, None, None)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus("sample")


def _small(corpus: Corpus) -> tuple[Any, Any]:
    numpy, spec = backend("numpy"), ModelSpec(len(corpus.vocab), num_hiddens=4)
    learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
    data = SlidingWindows(corpus, batch_size=32, num_steps=5, num_train=64, num_val=32)
    return learner, data


def test_logs_and_samples(corpus: Corpus) -> None:
    lines: list[str] = []
    learner, data = _small(corpus)
    log, samples = GradientNormLog(lines.append), SamplePrinter(corpus, "it", 8, write=lines.append)
    (record,) = Trainer(learner, data, callbacks=[log, samples]).fit(1).epochs
    assert lines[0] == (
        f"epoch 1: gradient norm {record.grad_norm:.3g} on average, {record.grad_norm_max:.3g} at most; "
        f"{record.clipped:.0%} of the steps clipped"
    )
    assert lines[1].startswith("epoch 1: it")
    assert len(lines[1]) == len("epoch 1: it") + 8


def test_a_run_is_saved_as_it_is_trained(corpus: Corpus, tmp_path: Path) -> None:
    numpy = backend("numpy")
    spec = DataSpec(batch_size=32, num_steps=5, num_train=128, num_val=32)
    model, training = ModelSpec(len(corpus.vocab), num_hiddens=4), TrainingSpec()
    run = Run(model, initial_parameters(model), corpus.vocab, spec, training, num_epochs=2)
    learner = numpy.learner(run.build(numpy), training)
    saver = SaveRun(run, tmp_path / "run", backend=numpy, every=3, keep=9)
    Trainer(learner, spec.batches(corpus), callbacks=[saver]).fit(2)
    steps = sorted(int(path.name.removeprefix("step-")) for path in (tmp_path / "run").glob("step-*"))
    assert steps == [3, 4, 6, 8]
    saved = load_run(tmp_path / "run")
    assert (saved.step, saved.backend, saved.identity) == (8, "numpy", run.identity)
    for name, value in learner.export_parameters().items():
        np.testing.assert_array_equal(saved.parameters[name], value)
    with pytest.raises(SpecError, match="the number of steps between saves is 0"):
        SaveRun(run, tmp_path, backend=numpy, every=0)
