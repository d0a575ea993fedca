"""The first edition without a framework."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from d2lrnn.book import first_edition as classic
from d2lrnn.contract.values import Batch
from d2lrnn.errors import SpecError
from d2lrnn.training.trainer import EpochRecord

needs_novel = pytest.mark.skipif("D2LRNN_DATA" not in os.environ, reason="D2LRNN_DATA names no folder")


@needs_novel
def test_the_novel_has_this_editions_length() -> None:
    lines = classic.read_time_machine()
    assert lines[0] == "the time machine by h g wells"
    assert len(lines) == 3221
    corpus, vocab = classic.load_corpus_time_machine()
    assert (len(corpus), len(vocab)) == (170_580, 28)
    first, same_vocab = classic.load_corpus_time_machine(max_tokens=1000)
    assert first == corpus[:1000]
    assert same_vocab == vocab
    # Lines are joined without a space.
    assert "".join(vocab.to_tokens(first[:30])) == "the time machine by h g wellsi"


def test_lines_become_words_or_characters() -> None:
    assert classic.tokenize(["so it", ""]) == [["so", "it"], []]
    assert classic.tokenize(["so it"], token="char") == [list("so it")]
    with pytest.raises(SpecError, match="unknown token 'byte'"):
        classic.tokenize([], "byte")
    assert classic.count_corpus(["a", "b", "a"]) == {"a": 2, "b": 1}
    assert classic.count_corpus([["a"], [], ["b", "a"]]) == {"a": 2, "b": 1}
    assert classic.count_corpus([]) == {}


@pytest.mark.parametrize("epoch", [classic.random_epoch, classic.sequential_epoch])
def test_targets_follow_their_inputs(epoch: Any) -> None:
    batches: list[Batch] = list(epoch(list(range(200)), batch_size=3, num_steps=5))
    assert len(batches) >= 12
    for X, Y in batches:
        assert X.shape == Y.shape == (3, 5)
        assert np.array_equal(Y, X + 1)
    with pytest.raises(SpecError, match="both must be at least 1"):
        epoch([1, 2], 0, 5)


def test_rows_of_sequential_batches_continue_each_other() -> None:
    batches = list(classic.sequential_epoch(range(200), 3, 5))
    for before, after in pairwise(batches):
        assert np.array_equal(after.inputs[:, 0], before.targets[:, -1])


def test_random_sampling_is_random_and_leaves_nothing_out() -> None:
    random.seed(0)
    epochs = [[X[:, 0] for X, _ in classic.random_epoch(range(500), 2, 5)] for _ in range(2)]
    starts = [np.concatenate(epoch) for epoch in epochs]
    assert not np.array_equal(*[s[: min(map(len, starts))] for s in starts])
    for begun in starts:
        assert len(set(begun.tolist())) == len(begun)
        assert len(set((begun % 5).tolist())) == 1
        continued = np.mean(begun[2:] == begun[:-2] + 5)
        assert continued < 0.2
    random.seed(0)
    again = np.concatenate([X[:, 0] for X, _ in classic.random_epoch(range(500), 2, 5)])
    assert np.array_equal(again, starts[0])


@needs_novel
def test_a_loader_can_be_walked_again() -> None:
    class Loader(classic.SequenceLoader):
        random = staticmethod(classic.random_epoch)
        sequential = staticmethod(classic.sequential_epoch)

    for use_random_iter in (False, True):
        loader = Loader(32, 35, use_random_iter, 10_000)
        for _ in range(2):
            assert len(list(loader)) in (7, 8)
    assert isinstance(iter(loader), Iterator)


def test_sums_and_times() -> None:
    metric = classic.Accumulator(2)
    metric.add(np.float32(2.5), 1)
    metric.add(1, 1)
    assert (metric[0], metric[1]) == (3.5, 2)
    metric.reset()
    assert metric[0] == 0
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        metric.add(1)
    timer = classic.Timer()
    first = timer.stop()
    timer.start()
    second = timer.stop()
    assert timer.times == [first, second]
    assert timer.sum() == timer.cumsum()[-1] == 2 * timer.avg()


def test_the_frame_of_training_prints_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    def train_epoch(before: list[EpochRecord]) -> EpochRecord:
        n = len(before)
        return EpochRecord(n + 1, 9.04 - 2 * n, math.nan, 1.0, math.nan, 100.0 * (n + 1), 1)

    classic.train_epochs(2, train_epoch, lambda prefix: prefix + " …", "the device")
    assert capsys.readouterr().out.splitlines() == [
        "perplexity 7.0, 200.0 tokens/sec on the device",
        "time traveller …",
        "traveller …",
    ]
    with pytest.raises(SpecError, match="number of epochs is 0"):
        classic.train_epochs(0, train_epoch, str, "")
