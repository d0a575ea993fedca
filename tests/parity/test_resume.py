"""A run that stopped and went on gives the numbers of one that did not stop, to the last bit."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn.data.corpus import Corpus, load_corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import DivergedError
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.history import EpochRecord, History, Progress
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.schedules import Cosine
from d2lrnn.training.trainer import Trainer

NUM_EPOCHS = 4

DATA = {
    "sliding": DataSpec(batch_size=64, num_steps=12, num_train=300, num_val=100, seed=3),
    "random": DataSpec(iterator="random", batch_size=32, num_steps=12, seed=3),
    "sequential": DataSpec(iterator="sequential", batch_size=32, num_steps=12, seed=3),
}
MODELS = [
    ModelSpec(28, "gru", "concise", 8, num_layers=2, dropout=0.3),
    ModelSpec(28, "lstm", "concise", 8, num_layers=3, dropout=0.5),
    ModelSpec(28, "rnn", "scratch", 8, num_layers=2),
    ModelSpec(28, "lstm", "scratch", 8),
    ModelSpec(28, "gru", "scratch", 8),
    ModelSpec(
        28,
        "lstm",
        "concise",
        8,
        num_layers=2,
        dropout=0.3,
        embedding_size=8,
        tied=True,
        input_dropout=0.2,
        output_dropout=0.2,
    ),
]
CASES = [(model, name) for model, name in zip(MODELS, ["sliding", "sequential", "random"] * 2, strict=False)]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    whole = load_corpus("sample")
    return dataclasses.replace(whole, tokens=whole.tokens[:6000])


def _new(spec: ModelSpec, data: DataSpec, corpus: Corpus) -> Run:
    """SGD for the book's models; for one with an embedding Adam, with a schedule and accumulation."""
    training = TrainingSpec(learning_rate=2.0, clip=0.5, seed=7)
    if spec.embedding_size is not None:
        training = TrainingSpec(0.01, 0.5, 7, Adam(weight_decay=1e-3), Cosine(steps=40, warmup=5), 2)
    return Run(spec, initial_parameters(spec, 1), corpus.vocab, data, training)


def _trainer(backend: Backend, run: Run, corpus: Corpus, **on: object) -> Trainer:
    assert run.data is not None
    assert run.training is not None
    learner = backend.learner(run.build(backend), run.training, device="cpu")
    if run.optimizer_state:
        learner.import_optimizer_state(run.optimizer_state)
    return Trainer(learner, run.data.batches(corpus), position=run.position, **on)  # type: ignore[arg-type]


def _save(run: Run, trainer: Trainer, folder: Path) -> None:
    now = dataclasses.replace(
        run,
        parameters=trainer.learner.export_parameters(),
        optimizer_state=trainer.learner.export_optimizer_state(),
        position=trainer.position(),
    )
    save_run(now, folder)


def _numbers(history: History) -> list[EpochRecord]:
    return [dataclasses.replace(record, tokens_per_second=0.0) for record in history.epochs]


def _equal_parameters(one: Learner, other: Learner) -> bool:
    mine, theirs = one.export_parameters(), other.export_parameters()
    return all(np.array_equal(mine[name], theirs[name]) for name in mine)


def _train_up_to(backend: Backend, run: Run, corpus: Corpus, stop: int, folder: Path) -> None:
    """Trains `stop` steps, saves and breaks off."""

    def step_ended(progress: Progress) -> None:
        if trainer.learner.step == stop:
            _save(run, trainer, folder)
            raise KeyboardInterrupt

    trainer = _trainer(backend, run, corpus, on_step=step_ended)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(NUM_EPOCHS)


@pytest.mark.parametrize(("spec", "iterator"), CASES)
def test_stopping_anywhere_changes_no_bit(
    backend: Backend, corpus: Corpus, tmp_path: Path, spec: ModelSpec, iterator: str
) -> None:
    run = _new(spec, DATA[iterator], corpus)
    whole = _trainer(backend, run, corpus)
    expected = _numbers(whole.fit(NUM_EPOCHS))
    per_epoch = whole.data.num_train_batches
    # At an epoch's end, in the middle of one, after its first batch, after its last one.
    for stop in (2 * per_epoch, per_epoch + per_epoch // 2, per_epoch + 1, 3 * per_epoch):
        folder = tmp_path / str(stop)
        _train_up_to(backend, run, corpus, stop, folder)
        again = _trainer(backend, load_run(folder), corpus)
        assert again.learner.step == stop
        assert _numbers(again.fit(NUM_EPOCHS)) == expected
        assert _equal_parameters(again.learner, whole.learner)


def test_ctrl_c_and_resuming_changes_no_bit(backend: Backend, corpus: Corpus, tmp_path: Path) -> None:
    spec = MODELS[1]
    run = _new(spec, DATA["sequential"], corpus)
    whole = _trainer(backend, run, corpus)
    expected = _numbers(whole.fit(NUM_EPOCHS))

    def interrupt(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 5):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trainer = _trainer(backend, run, corpus, on_step=interrupt)
        history = trainer.fit(NUM_EPOCHS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.ended == "interrupted"
    assert history.cut_short is not None
    assert history.cut_short.num_steps == 5
    _save(run, trainer, tmp_path)
    again = _trainer(backend, load_run(tmp_path), corpus)
    assert _numbers(again.fit(NUM_EPOCHS)) == expected
    # In the process that was interrupted it goes on as well.
    assert _numbers(trainer.fit(NUM_EPOCHS)) == expected


@pytest.mark.parametrize(("spec", "iterator"), CASES)
def test_a_run_goes_on_where_another_backend_left_it(
    backend: Backend, reference: Backend, corpus: Corpus, tmp_path: Path, spec: ModelSpec, iterator: str
) -> None:
    """The reference, in float32 too, trains half of the run and then the other half."""
    run = _new(spec, DATA[iterator], corpus)
    expected = _trainer(reference, run, corpus).fit(NUM_EPOCHS)

    per_epoch = _trainer(reference, run, corpus).data.num_train_batches
    _train_up_to(reference, run, corpus, per_epoch + 3, tmp_path)
    second = _trainer(backend, load_run(tmp_path), corpus)
    second.fit(3)
    _save(run, second, tmp_path)
    third = _trainer(reference, load_run(tmp_path), corpus)
    for mine, theirs in zip(third.fit(NUM_EPOCHS).epochs, expected.epochs, strict=True):
        assert mine.num_steps == theirs.num_steps
        assert mine.train_bits_per_token == pytest.approx(theirs.train_bits_per_token, rel=1e-4)
        assert mine.val_bits_per_token == pytest.approx(theirs.val_bits_per_token, rel=1e-4)


def test_what_diverged_is_rolled_back_with_all_that_the_optimizer_remembers(
    backend: Backend, corpus: Corpus
) -> None:
    """In the second epoch the parameters are made so large that the loss is no number."""
    run = _new(MODELS[-1], DATA["sequential"], corpus)
    kept: dict[str, dict[str, FloatArray]] = {}

    def epoch_ended(record: EpochRecord) -> None:
        kept["parameters"] = trainer.learner.export_parameters()
        kept["optimizer"] = trainer.learner.export_optimizer_state()

    def step_ended(progress: Progress) -> None:
        if (progress.epoch, progress.step) == (2, 3):
            large = {name: np.full_like(value, 3e38) for name, value in kept["parameters"].items()}
            trainer.learner.import_parameters(large)

    trainer = _trainer(backend, run, corpus, on_step=step_ended, on_epoch=epoch_ended)
    # NumPy warns of the overflow, which is wanted here.
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=r"the loss became .* \(epoch 2\)"):
        trainer.fit(NUM_EPOCHS)
    assert trainer.learner.step == trainer.data.num_train_batches
    assert any(value.any() for value in kept["optimizer"].values())
    for name, value in trainer.learner.export_parameters().items():
        np.testing.assert_array_equal(value, kept["parameters"][name])
    for name, value in trainer.learner.export_optimizer_state().items():
        np.testing.assert_array_equal(value, kept["optimizer"][name])
