"""The first edition without a framework."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from d2lrnn.book import first_edition as book
from d2lrnn.contract.values import Batch
from d2lrnn.errors import DivergedError, SpecError

needs_novel = pytest.mark.skipif("D2LRNN_DATA" not in os.environ, reason="D2LRNN_DATA names no folder")


@needs_novel
def test_the_novel_has_this_editions_length() -> None:
    lines = book.read_time_machine()
    assert lines[0] == "the time machine by h g wells"
    assert len(lines) == 3221
    corpus, vocab = book.load_corpus_time_machine()
    assert (len(corpus), len(vocab)) == (170_580, 28)
    first, same_vocab = book.load_corpus_time_machine(max_tokens=1000)
    assert first == corpus[:1000]
    assert same_vocab == vocab
    # The order of this edition, in which weights were trained: the book prints that of its first ten.
    assert vocab.idx_to_token[:10] == ["<unk>", " ", "e", "t", "a", "i", "n", "o", "s", "h"]
    assert vocab.lower
    # Lines are joined without a space.
    assert "".join(vocab.to_tokens(first[:30])) == "the time machine by h g wellsi"


def test_lines_become_words_or_characters() -> None:
    assert book.tokenize(["so it", ""]) == [["so", "it"], []]
    assert book.tokenize(["so it"], token="char") == [list("so it")]
    with pytest.raises(SpecError, match="unknown token 'byte'"):
        book.tokenize([], "byte")
    assert book.count_corpus(["a", "b", "a"]) == {"a": 2, "b": 1}
    assert book.count_corpus([["a"], [], ["b", "a"]]) == {"a": 2, "b": 1}
    assert book.count_corpus([]) == {}


@pytest.mark.parametrize("epoch", [book.random_epoch, book.sequential_epoch])
def test_targets_follow_their_inputs(epoch: Any) -> None:
    batches: list[Batch] = list(epoch(list(range(200)), batch_size=3, num_steps=5))
    assert len(batches) >= 12
    for X, Y in batches:
        assert X.shape == Y.shape == (3, 5)
        assert np.array_equal(Y, X + 1)
    with pytest.raises(SpecError, match="both must be at least 1"):
        epoch([1, 2], 0, 5)


def test_rows_of_sequential_batches_continue_each_other() -> None:
    batches = list(book.sequential_epoch(range(200), 3, 5))
    for before, after in pairwise(batches):
        assert np.array_equal(after.inputs[:, 0], before.targets[:, -1])


def test_random_sampling_is_random_and_leaves_nothing_out() -> None:
    random.seed(0)
    epochs = [[X[:, 0] for X, _ in book.random_epoch(range(500), 2, 5)] for _ in range(2)]
    starts = [np.concatenate(epoch) for epoch in epochs]
    assert not np.array_equal(*[s[: min(map(len, starts))] for s in starts])
    for begun in starts:
        assert len(set(begun.tolist())) == len(begun)
        assert len(set((begun % 5).tolist())) == 1
        continued = np.mean(begun[2:] == begun[:-2] + 5)
        assert continued < 0.2
    random.seed(0)
    again = np.concatenate([X[:, 0] for X, _ in book.random_epoch(range(500), 2, 5)])
    assert np.array_equal(again, starts[0])


class Loader(book.SeqDataLoader):
    @staticmethod
    def tensor(indices: Any) -> Any:
        return indices.astype(np.float32)


@needs_novel
def test_a_loader_can_be_walked_again() -> None:
    for use_random_iter in (False, True):
        loader, vocab = Loader.load(32, 35, use_random_iter)
        assert vocab is loader.vocab
        assert len(loader.corpus) == 10_000
        for _ in range(2):
            batches = list(loader)
            assert len(batches) in (7, 8)
            assert all(X.dtype == Y.dtype == np.float32 for X, Y in batches)
    assert isinstance(iter(loader), Iterator)


def test_sums_and_times() -> None:
    metric = book.Accumulator(2)
    metric.add(np.float32(2.5), 1)
    metric.add(1, 1)
    assert (metric[0], metric[1]) == (3.5, 2)
    metric.reset()
    assert metric[0] == 0
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        metric.add(1)
    timer = book.Timer()
    first = timer.stop()
    timer.start()
    second = timer.stop()
    assert timer.times == [first, second]
    assert timer.sum() == timer.cumsum()[-1] == 2 * timer.avg()


def test_the_parts_of_a_state_of_any_form() -> None:
    class Pair(NamedTuple):
        h: int
        c: Any

    class Layers(list[Any]):
        pass

    state = (1, Pair(2, None), {"own": [3]}, Layers([4]))
    after = book.map_state(lambda x: -x, state)
    assert after == (-1, Pair(-2, None), {"own": [-3]}, [-4])
    assert [type(part) for part in after] == [int, Pair, dict, Layers]
    assert book.map_state(abs, None) is None


def test_batches_are_drawn_as_the_book_draws_them() -> None:
    random.seed(3)
    offset = random.randint(0, 4)
    starts = list(range(offset, offset + (50 - offset - 1) // 5 * 5, 5))
    random.shuffle(starts)
    random.seed(3)
    drawn = [X[:, 0].tolist() for X, _ in book.random_epoch(range(50), 2, 5)]
    assert drawn == [starts[i : i + 2] for i in range(0, len(starts) - 1, 2)]
    random.seed(3)
    offset = random.randint(0, 5)
    random.seed(3)
    (first, _), *_ = book.sequential_epoch(range(50), 2, 5)
    assert first[0, 0] == offset


class Halving(book.Training):
    """A network of one number: its loss, which a step halves; its state counts the batches."""

    def __init__(self, loss: float) -> None:
        self.loss = loss
        self.states: list[int] = []

    def initial_state(self, batch_size: int) -> int:
        return 10 * batch_size

    def train_step(self, X: Any, Y: Any, state: int) -> tuple[float, int]:
        self.states.append(state)
        loss, self.loss = self.loss, self.loss / 2
        return loss, state + 1

    def copy_parameters(self) -> float:
        return self.loss

    def put_back_parameters(self, parameters: float) -> None:
        self.loss = parameters


BATCHES = [(np.zeros((2, 3)), np.zeros((2, 3)))] * 2


def test_an_epoch_carries_the_state_unless_batches_are_random() -> None:
    training = Halving(4.0)
    record = training.train_epoch(BATCHES, use_random_iter=False)
    assert record.train_perplexity == pytest.approx(math.exp(3.0))
    assert math.isnan(record.val_perplexity)
    training.train_epoch(BATCHES, use_random_iter=True)
    assert training.states == [20, 21, 20, 20]


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    training = Halving(4.0)
    training.train_epoch(BATCHES, False)

    def diverge(X: Any, Y: Any, state: int) -> tuple[float, int]:
        training.loss = math.nan
        return math.nan, state

    training.train_step = diverge  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"step 3 \(epoch 2\)"):
        training.train_epoch(BATCHES, False, number=2)
    assert training.loss == 1.0


def test_training_shows_every_tenth_epoch_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for between in (True, False):
        training = Halving(8.0)
        training.writes_between = between
        training.train(20, BATCHES, False, str, "")
        lines = capsys.readouterr().out.splitlines()
        assert lines[:-3] == ["time traveller"] * 2 * between


def test_training_prints_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    Halving(8.0).train(2, BATCHES, False, lambda prefix: prefix + " …", "the device")
    first, *written = capsys.readouterr().out.splitlines()
    # The mean of the second epoch's losses, 2 and 1.
    assert re.fullmatch(rf"perplexity {math.exp(1.5):.1f}, \d+\.\d tokens/sec on the device", first)
    assert written == ["time traveller …", "traveller …"]
    with pytest.raises(SpecError, match="number of epochs is 0"):
        Halving(8.0).train(0, BATCHES, False, str, "")
