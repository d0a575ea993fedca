"""Round numbers for the axes of figures: 1, 2 or 5 times a power of ten, or steps of such a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers at equal steps, the first at or below `low` and the last at or above `high`.

    Args:
        low: the least value of the axis.
        high: its greatest; where it is `low`, the axis has one step.
        most: about how many steps there are: at most one more, where the ends were made round.

    Example:
        >>> linear_ticks(1.0, 50.0, 5)
        [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
        >>> linear_ticks(0.37, 0.37, 5)
        [0.3, 0.4]
    """
    step = _round_up((high - low or abs(low) or 1.0) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [_cleaned(step, number) for number in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float, fit: Callable[[Sequence[float]], bool]) -> list[float]:
    """Round numbers inside a logarithmic axis: as many kinds as find room.

    Args:
        low: the least value of the axis, above 0.
        high: its greatest.
        fit: whether the labels of some ticks have room side by side.

    Example:
        >>> log_ticks(0.7, 30.0, lambda ticks: True)
        [1.0, 2.0, 5.0, 10.0, 20.0]
        >>> log_ticks(0.7, 30.0, lambda ticks: len(ticks) < 3)
        [1.0, 10.0]
        >>> log_ticks(11.0, 17.0, lambda ticks: True)
        [12.0, 14.0, 16.0]
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1, 2, 5), (1, 5), (1,)):
        ticks = [_cleaned(10.0**exponent, digit) for exponent in exponents for digit in digits]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) < 2 or fit(found):
            break
    every = 1
    while len(found) > 2 and not fit(found):
        # Many decades: every second power of ten, every third.
        every += 1
        found = [_cleaned(10.0**n, 1) for n in exponents if n % every == 0 and low <= 10.0**n <= high]
    if len(found) < 2:
        # Less than a decade, and hardly a tick in it: equal steps.
        kinds = [linear_ticks(low, high, most) for most in (5, 4, 3, 2)]
        inside = [[tick for tick in ticks if low <= tick <= high] for ticks in kinds]
        outermost = [inside[0][0], inside[0][-1]]
        return next((ticks for ticks in inside if len(ticks) > 1 and fit(ticks)), outermost)
    return found


def written(ticks: Sequence[float]) -> list[str]:
    """The ticks as a reader writes them; at equal steps all with the same number of decimals.

    Example:
        >>> written([2.0, 2.5, 3.0])
        ['2.0', '2.5', '3.0']
        >>> written([0.5, 1.0, 10.0, 10000.0])
        ['0.5', '1', '10', '10,000']
    """
    if any(tick and not 1e-4 <= abs(tick) < 1e9 for tick in ticks):
        return [f"{tick:g}" for tick in ticks]
    texts = [f"{tick:,.10g}" for tick in ticks]
    if len(ticks) < 3 or not math.isclose(ticks[1] - ticks[0], ticks[-1] - ticks[-2]):
        return texts
    decimals = max(len(text.partition(".")[2]) for text in texts)
    return [f"{tick:,.{decimals}f}" for tick in ticks]


def _round_up(value: float) -> float:
    """The next of 1, 2 and 5 times the powers of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= value * (1 - 1e-9))


def _cleaned(step: float, number: int) -> float:
    """``step * number`` without the rest that binary fractions leave: 0.3 and not 0.30000000000000004."""
    return float(f"{step * number:.10g}")
