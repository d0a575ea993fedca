"""A worker reads its own rows, and an epoch goes on at any batch, without a number that changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch, FloatArray
from d2lrnn.data import orders
from d2lrnn.data.batches import (
    DataModule,
    EvaluationText,
    RandomSampling,
    SequentialPartitioning,
    SlidingWindows,
)
from d2lrnn.data.corpus import load_corpus
from d2lrnn.data.encoded import Origin
from d2lrnn.data.encoder import encode_texts
from d2lrnn.data.rows import InParts, parts_of
from d2lrnn.errors import SpecError
from d2lrnn.training.history import EpochPart, Position, Progress
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.trainer import Trainer
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.parts import Part, part_of
from d2lrnn.workers.protocols import PartResult

BATCH_SIZE, NUM_STEPS = 5, 7
KINDS = [SlidingWindows, RandomSampling, SequentialPartitioning]
PLACES = [(rank, size) for size in (1, 2, 3) for rank in range(size)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An encoded text of 513 characters; `text.txt` beside it is the text itself."""
    letters = np.random.default_rng(0).choice(list("some say the world\n"), 513)
    (tmp_path / "text.txt").write_text("".join(letters))
    encode_texts(str(tmp_path / "text.txt"), tmp_path / "text.enc", Origin("char", False, "utf-8", 0))
    return tmp_path / "text.enc"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a mapped file asks for."""
    sizes: list[int] = []

    def pread(descriptor: int, size: int, offset: int, pread: Callable[..., bytes] = os.pread) -> bytes:
        sizes.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    return sizes


def _modules(path: Path) -> list[DataModule]:
    corpus = load_corpus(path, normalized=False)
    how = {"batch_size": BATCH_SIZE, "num_steps": NUM_STEPS}
    return [
        # The last batches have two rows and one.
        SlidingWindows(corpus, num_train=57, num_val=31, seed=1, **how),
        RandomSampling(corpus, val_fraction=0.3, seed=1, **how),
        SequentialPartitioning(corpus, val_fraction=0.3, seed=1, **how),
        *(EvaluationText(kind, corpus.tokens[:73], **how) for kind in KINDS),
    ]


def _all_batches(data: DataModule) -> list[Callable[[], Iterator[Batch]]]:
    return [lambda: data.train_batches(1), lambda: data.train_batches(2), data.validation_batches]


def _assert_same(found: list[Part], expected: list[Part]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.rows, one.batch_size, one.num_tokens) == (other.rows, other.batch_size, other.num_tokens)
        for array, same in zip(one.batch, other.batch, strict=True):
            np.testing.assert_array_equal(array, same)
            assert array.dtype == np.int32
            assert array.flags.c_contiguous
            assert array.flags.owndata


@pytest.mark.parametrize("name", ["text.txt", "text.enc"])
@pytest.mark.parametrize("limit", [1 << 23, 10], ids=["shuffled", "permuted"])
@pytest.mark.parametrize("kind", range(6))
def test_parts_are_cut_from_the_batches(
    kind: int, name: str, limit: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every worker, from every batch of an epoch on."""
    monkeypatch.setattr(orders, "LARGEST_SHUFFLE", limit)
    monkeypatch.setattr(orders, "_BLOCK", 3 * BATCH_SIZE)
    num_padded = 0
    for batches in _all_batches(_modules(file.with_name(name))[kind]):
        whole = list(batches())
        num_padded += sum(batch.num_tokens < batch.targets.size for batch in whole)
        for rank, size in PLACES:
            expected = [part_of(batch, rank, size) for batch in whole]
            for first in (*range(len(whole) + 2), sys.maxsize):
                _assert_same(list(parts_of(batches(), rank, size, first)), expected[first:])
    assert num_padded > 0


def test_parts_go_on_after_batches_that_were_taken(file: Path) -> None:
    for data in _modules(file)[:3]:
        whole, batches = list(data.train_batches(1)), data.train_batches(1)
        assert isinstance(batches, InParts)
        np.testing.assert_array_equal(next(batches).inputs, whole[0].inputs)
        _assert_same([next(batches.parts(1, 2, 2))], [part_of(whole[3], 1, 2)])
        np.testing.assert_array_equal(next(batches).inputs, whole[4].inputs)
        _assert_same(list(batches.parts(0, 1)), [Part.whole(batch) for batch in whole[5:]])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_worker_reads_its_own_rows(size: int, file: Path, read: list[int]) -> None:
    for data in _modules(file):
        for batches in _all_batches(data):
            read.clear()
            num_batches = len(list(batches()))
            everything = sum(read)
            for rank in range(size):
                read.clear()
                assert len(list(parts_of(batches(), rank, size))) == num_batches
                assert sum(read) <= num_batches * -(-BATCH_SIZE // size) * (NUM_STEPS + 1)
                assert sum(read) < everything or not num_batches


@pytest.mark.parametrize("limit", [1 << 23, 10], ids=["shuffled", "permuted"])
def test_a_batch_is_read_without_those_before_it(
    limit: int, file: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    permuted: list[int] = []

    def permute(numbers: Any, *how: Any, permute: Callable[..., Any] = orders.permute) -> Any:
        permuted.extend(numbers.tolist())
        return permute(numbers, *how)

    monkeypatch.setattr(orders, "permute", permute)
    monkeypatch.setattr(orders, "LARGEST_SHUFFLE", limit)
    for data in _modules(file):
        for batches in _all_batches(data):
            num_batches = len(list(batches()))
            for first in range(num_batches):
                read.clear()
                permuted.clear()
                next(parts_of(batches(), 0, 1, first))
                assert 0 < sum(read) <= BATCH_SIZE * (NUM_STEPS + 1)
                assert all(number >= first * BATCH_SIZE for number in permuted)


def test_rows_that_lie_together_are_one_read(file: Path, read: list[int]) -> None:
    sliding, random, _ = _modules(file)[3:]
    for data, num_bytes in ((sliding, BATCH_SIZE + NUM_STEPS), (random, BATCH_SIZE * NUM_STEPS + 1)):
        read.clear()
        next(data.validation_batches())
        assert read == [num_bytes]


# ---- the trainer


class _Place:
    """One of several workers, as far as a trainer asks."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def sum(self, array: FloatArray) -> FloatArray:
        return array + array  # as if there were another one with the same


class _PartLearner:
    """Keeps the parts that it is given."""

    def __init__(self) -> None:
        self.training, self.step, self.learning_rate = TrainingSpec(), 0, 1.0
        self.trained: list[Part] = []
        self.evaluated: list[Part] = []

    def initial_state(self, batch_size: int) -> None: ...

    def train_part(self, part: Part, state: Any, *, stop: bool) -> tuple[PartResult, Any]:
        self.step += 1
        self.trained.append(part)
        return PartResult(1.0, 1.0, 0.0), state

    def eval_part(self, part: Part, state: Any) -> tuple[float, Any]:
        self.evaluated.append(part)
        return 1.0, state

    def export_parameters(self) -> dict[str, Any]:
        return {}

    export_optimizer_state = export_parameters

    def synchronize(self) -> None: ...


class _Worker(WorkerLearner):
    def initial_state(self, batch_size: int) -> Any:
        assert batch_size == BATCH_SIZE, "a state is that of the whole batch"
        return super().initial_state(batch_size)


def _worker(rank: int, size: int) -> tuple[_PartLearner, WorkerLearner]:
    learner: Any = _PartLearner()
    place: Any = _Place(rank, size)
    return learner, _Worker(learner, place)


class _Others:
    """A data module of somebody else: batches, and no more."""

    def __init__(self, data: DataModule) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        yield from self._data.train_batches(epoch)

    def validation_batches(self) -> Iterator[Batch]:
        yield from self._data.validation_batches()


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("first", [0, 4])
def test_a_worker_trains_on_its_rows_of_every_batch(
    first: int, others: bool, file: Path, read: list[int]
) -> None:
    for data in _modules(file)[:3]:
        for rank, size in PLACES:
            learner, worker = _worker(rank, size)
            position = Position(first, (), EpochPart(first, 1.0, 1, 1.0) if first else None)
            module: Any = _Others(data) if others else data
            read.clear()
            trainer = Trainer(worker, module, position=position)
            (record,) = trainer.fit(1).epochs
            num_bytes = sum(read)
            trained = [part_of(batch, rank, size) for batch in data.train_batches(1)]
            evaluated = [part_of(batch, rank, size) for batch in data.validation_batches()]
            _assert_same(learner.trained, trained[first:])
            _assert_same(learner.evaluated, evaluated)
            assert trainer.coverage is not None
            own = sum(int((part.batch.targets != PADDING).sum()) for part in evaluated)
            assert trainer.coverage.tokens == 2 * own
            assert record.num_steps == len(trained)
            num_rows = -(-BATCH_SIZE // size) * (len(trained) - first + len(evaluated))
            if not others:
                assert num_bytes <= num_rows * (NUM_STEPS + 1)


def test_an_overridden_iterator_is_used(file: Path) -> None:
    class Fewer(SlidingWindows):
        def train_batches(self, epoch: int) -> Any:
            return islice(super().train_batches(epoch), 2)

    learner, worker = _worker(1, 2)
    data = Fewer(load_corpus(file), batch_size=BATCH_SIZE, num_steps=NUM_STEPS)
    Trainer(worker, data).fit(1)
    _assert_same(learner.trained, [part_of(batch, 1, 2) for batch in data.train_batches(1)])


def test_a_learner_that_is_alone_gets_batches(file: Path, read: list[int]) -> None:
    """And goes on within an epoch to the same numbers, without a read of what is done."""
    spec, numpy = ModelSpec(len(load_corpus(file).vocab), num_hiddens=4), d2lrnn.backend("numpy")

    def trainer(data: DataModule, position: Position | None = None, **on: Any) -> Trainer:
        learner = numpy.learner(numpy.build(spec, parameters), TrainingSpec())
        return Trainer(learner, data, position=position, **on)

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            stopped.extend((whole.position(), whole.learner.export_parameters()))
            read.clear()

    for data in _modules(file)[:3]:
        parameters, stopped = initial_parameters(spec), []
        whole = trainer(data, on_step=stop)
        (expected,) = whole.fit(1).epochs
        reads = list(read)
        position, parameters = stopped
        read.clear()
        (found,) = trainer(data, position).fit(1).epochs
        assert read == reads
        assert found.num_steps == expected.num_steps
        assert found.train_perplexity == expected.train_perplexity
        assert found.val_perplexity == expected.val_perplexity


def test_a_part_of_another_worker_is_refused() -> None:
    learner, worker = _worker(1, 2)
    batch = Batch(np.zeros((5, 2), np.int32), np.zeros((5, 2), np.int32))
    part = part_of(batch, 1, 2)
    zeros = worker.initial_state(5)
    worker.train_step(part, zeros)
    worker.eval_step(part, zeros)
    assert learner.trained[0] is learner.evaluated[0] is part
    for rank, size in ((0, 2), (1, 3), (0, 1)):
        for step in (worker.train_step, worker.eval_step):
            with pytest.raises(SpecError, match="worker 1 of 2 computes 3 rows from row 3 on, of a batch of"):
                step(part_of(batch, rank, size), zeros)
    with pytest.raises(SpecError, match="and was given 5 from row 3 on: give it a whole batch"):
        worker.train_step(Part(batch, part.rows, 5, 10), zeros)
    assert len(learner.trained) == len(learner.evaluated) == 1
