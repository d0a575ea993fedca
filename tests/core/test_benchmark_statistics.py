"""Summaries, ratios and intervals of the benchmark's samples."""

from __future__ import annotations

import numpy as np
import pytest

from d2lrnn.benchmark.statistics import (
    Interval,
    geometric_mean,
    median_interval,
    paired_ratio,
    summary,
    winner,
)


def _rounds(middles: list[float], spread: float = 0.01, seed: int = 0) -> list[list[float]]:
    random = np.random.default_rng(seed)
    return [(middle * (1 + spread * random.standard_normal(40))).tolist() for middle in middles]


def test_summary() -> None:
    assert summary([5.0, 1.0, 2.0, 100.0, 3.0]) == (3.0, 2.0, 5.0, 5)


def test_a_ratio_is_taken_within_a_round() -> None:
    # The machine is ten times slower in the second round, for both: the ratio does not see it.
    ratio = paired_ratio(_rounds([2.0, 20.0, 2.1]), _rounds([1.0, 10.0, 1.05], seed=1))
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0, rel=0.02)
    assert 1.9 < ratio.low <= ratio.value <= ratio.high < 2.1


def test_rounds_that_one_of_both_lacks_do_not_count() -> None:
    assert paired_ratio([[2.0], None, [6.0]], [[1.0], [1.0], None]) == (2.0, 2.0, 2.0)
    assert paired_ratio([None], [[1.0]]) is None
    assert paired_ratio([], []) is None


def test_an_interval_is_as_wide_as_rounds_differ() -> None:
    calm, restless = median_interval(_rounds([1.0, 1.0, 1.0])), median_interval(_rounds([1.0, 1.5, 0.7]))
    assert calm.high - calm.low < 0.02
    assert restless.high - restless.low > 0.3
    assert restless.low <= restless.value <= restless.high
    assert median_interval([None, [2.0, 2.0]]) == (2.0, 2.0, 2.0)


def test_the_same_samples_give_the_same_interval() -> None:
    assert median_interval(_rounds([1.0, 1.2])) == median_interval(_rounds([1.0, 1.2]))


def test_no_winner_where_intervals_overlap() -> None:
    fast, slow = Interval(1.0, 0.9, 1.1), Interval(2.0, 1.8, 2.2)
    assert winner({"a": slow, "b": fast}) == "b"
    assert winner({"a": Interval(1.2, 1.05, 1.4), "b": fast, "c": slow}) is None
    assert winner({"a": Interval(1.2, 1.1, 1.4), "b": fast}) is None  # they touch
    # The widest interval need not be that of the second.
    assert winner({"a": Interval(5.0, 1.0, 9.0), "b": fast, "c": slow}) is None
    assert winner({"alone": fast}) is None
    assert winner({}) is None


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)
