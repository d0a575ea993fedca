"""What follows from samples: medians with quartiles, ratios within a round, and when there is a winner.

A machine is not the same from minute to minute. So two subjects are compared within a round, where they ran
one after the other, and rounds, not single samples, are what an interval is drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

#: How often samples are drawn anew for an interval, and the part of the draws that lies in it.
NUM_DRAWS, COVERAGE = 2000, 0.95

#: The samples of one subject in one cell: one row a round, the n-th row that of the n-th round; None where
#: the round failed.
Rounds = Sequence[Sequence[float] | None]

_Floats = npt.NDArray[np.float64]


class Summary(NamedTuple):
    """The middle of some samples.

    Attributes:
        median: half of them are below.
        low: the first quartile.
        high: the third quartile.
        number: how many samples there are.
    """

    median: float
    low: float
    high: float
    number: int


class Interval(NamedTuple):
    """A value and where it would have come out, had the rounds been others: 95% of the draws.

    Attributes:
        value: what was measured.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two have a value in common."""
        return self.low <= other.high and other.low <= self.high


def summary(samples: Sequence[float]) -> Summary:
    """Median and quartiles.

    Example:
        >>> summary([3.0, 1.0, 2.0, 4.0, 5.0])
        Summary(median=3.0, low=2.0, high=4.0, number=5)
    """
    low, median, high = np.percentile(samples, [25, 50, 75])
    return Summary(float(median), float(low), float(high), len(samples))


def median_interval(rounds: Rounds) -> Interval:
    """The median of the rounds' medians, and its bootstrap interval.

    Rounds are drawn with replacement, and of each drawn round its samples. With one round the interval knows
    nothing of how rounds differ, and is too narrow.
    """
    kept = [np.asarray(samples) for samples in rounds if samples]
    random = np.random.default_rng(0)
    medians = np.stack([_drawn_medians(samples, random) for samples in kept])
    return _interval(float(np.median([np.median(samples) for samples in kept])), medians, random)


def paired_ratio(rounds: Rounds, base: Rounds) -> Interval | None:
    """How many times as long as `base` a subject takes: the median over rounds of the ratio of medians.

    Args:
        rounds: the subject's samples.
        base: those of what it is compared with; only rounds that both have count.

    Returns:
        The ratio with its bootstrap interval; None where there is no such round.

    Example:
        >>> paired_ratio([[2.0, 2.0], [8.0, 8.0]], [[1.0, 1.0], [4.0, 4.0]])
        Interval(value=2.0, low=2.0, high=2.0)
    """
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(rounds, base, strict=False) if a and b]
    if not pairs:
        return None
    random = np.random.default_rng(0)
    ratios = np.stack([_drawn_medians(a, random) / _drawn_medians(b, random) for a, b in pairs])
    return _interval(float(np.median([np.median(a) / np.median(b) for a, b in pairs])), ratios, random)


def winner(intervals: Mapping[str, Interval]) -> str | None:
    """Who is below all others, with an interval that overlaps none of theirs; None where nobody is.

    Example:
        >>> winner({"a": Interval(1.0, 0.9, 1.1), "b": Interval(2.0, 1.0, 3.0)}) is None
        True
    """
    if len(intervals) < 2:
        return None
    best = min(intervals, key=lambda name: intervals[name].value)
    others = [interval for name, interval in intervals.items() if name != best]
    return None if any(intervals[best].overlaps(other) for other in others) else best


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios.

    Example:
        >>> round(geometric_mean([2.0, 8.0]), 6)
        4.0
    """
    return float(np.exp(np.mean(np.log(values))))


def _drawn_medians(samples: _Floats, random: np.random.Generator) -> _Floats:
    """The median of samples drawn with replacement, NUM_DRAWS times."""
    # Of thousands of samples the median hardly moves: some hundreds say as much.
    drawn = random.integers(0, len(samples), (NUM_DRAWS, min(len(samples), 200)))
    medians: _Floats = np.median(samples[drawn], axis=1)
    return medians


def _interval(value: float, of_rounds: _Floats, random: np.random.Generator) -> Interval:
    """Draws rounds with replacement: of_rounds is (rounds, NUM_DRAWS), a column for every draw."""
    number = len(of_rounds)
    chosen = random.integers(0, number, (number, NUM_DRAWS))
    draws = np.median(np.take_along_axis(of_rounds, chosen, axis=0), axis=0)
    low, high = np.percentile(draws, [50 * (1 - COVERAGE), 50 * (1 + COVERAGE)])
    return Interval(value, float(low), float(high))
