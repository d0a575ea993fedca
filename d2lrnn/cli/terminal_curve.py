"""The curve of ``d2lrnn train --plot``: perplexity by epoch, as lines of text."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from d2lrnn.cli.streams import raw_stream
from d2lrnn.errors import SpecError
from d2lrnn.pages.ticks import linear_ticks, log_ticks, written
from d2lrnn.training.curves import finite_points, needs_log_axis
from d2lrnn.training.history import EpochRecord

#: In characters: the largest curve, and the smallest that shows something.
_WIDTH, _HEIGHT = 72, 12
_LEAST_WIDTH, _LEAST_HEIGHT = 20, 7

_STYLES = {"validation": "cyan", "training": "yellow"}

#: So many columns of dots is a dash long, and so is the gap behind it.
_DASH = 3
_BLANK = "\N{BRAILLE PATTERN BLANK}"


class _Signs(NamedTuple):
    """What a curve is made of: names of the lines, the axes, what stands for dots and for none."""

    lines: tuple[str, str]
    tick: str
    upright: str
    corner: str
    level: str
    dot: str | None
    blank: str


_SIGNS = _Signs(("━━", "╍╍"), "┤", "│", "└", "─", None, " ")
#: Where a terminal has no more.
_ASCII = _Signs(("--", "- "), "+", "|", "+", "-", "*", " ")

#: What a terminal has to show beside the curve: the bar, and the line of an epoch.
_LINES_BESIDE = 3


def check_plot(asked: bool) -> None:
    """Checks that plotille is installed where ``--plot`` asks for it.

    Raises:
        SpecError: it is not; the message has the command that installs it.
    """
    if asked and find_spec("plotille") is None:
        raise SpecError("--plot needs plotille, which is not installed here: pip install plotille")


class PerplexityCurve:
    """What Rich shows of the epochs so far, as wide and as high as the terminal has room.

    Args:
        epochs: those of the run; the attribute of this name can be set to others.
    """

    def __init__(self, epochs: Sequence[EpochRecord]) -> None:
        self.epochs = tuple(epochs)
        self._drawn: tuple[object, Text | None] = (None, None)

    def show(self) -> None:
        """Prints it, to stay: where standard output goes, with colours only if that is a terminal."""
        Console(file=raw_stream(sys.stdout)).print(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _WIDTH)
        height = min(console.height - _LINES_BESIDE, _HEIGHT)
        size = (self.epochs, width, height, options.ascii_only)
        if size != self._drawn[0]:  # the bar is drawn anew far more often
            room = len(self.epochs) > 1 and width >= _LEAST_WIDTH and height >= _LEAST_HEIGHT
            self._drawn = (size, _curve(*size) if room else None)
        if self._drawn[1] is not None:
            yield self._drawn[1]


def _curve(epochs: Sequence[EpochRecord], width: int, height: int, ascii_only: bool) -> Text | None:
    """The picture: validation solid, training dashed; None where no perplexity is a number."""
    curves = finite_points(epochs)
    values = [value for points in curves.values() for _, value in points]
    if not values:
        return None
    low, high = min(values), max(values)
    log = needs_log_axis(epochs)
    scaled = math.log if log else float
    height -= 3  # the names, the axis, its numbers
    ticks = _ticks(low, high, height, log=log)
    labels = dict(zip((_row(tick, low, high, height, scaled) for tick in ticks), written(ticks), strict=True))
    left = max(map(len, labels.values()))
    width -= left + 2
    ends = scaled(low), scaled(high), len(epochs)
    dots = {
        name: _dots(
            [(x, scaled(y)) for x, y in points], (width, height), *ends, dashed=name == "training"
        )
        for name, points in curves.items()
    }  # fmt: skip
    signs = _ASCII if ascii_only else _SIGNS
    text = Text("perplexity", no_wrap=True)
    for name, sign in zip(curves, signs.lines, strict=True):
        text.append("  ").append(f"{sign} {name}", style=_STYLES[name])
    for row in range(height):
        text.append(f"\n{labels.get(row, ''):>{left}} {signs.tick if row in labels else signs.upright}")
        for solid, dashed in zip(dots["validation"][row], dots["training"][row], strict=True):
            both = chr(ord(solid) | ord(dashed))
            style = _STYLES["training" if solid == _BLANK else "validation"]
            text.append(signs.blank if both == _BLANK else signs.dot or both, style=style)
    text.append(f"\n{'':{left}} {signs.corner}{signs.level * width}")
    last = str(len(epochs))
    return text.append(f"\n{'':{left}}  1{'epoch':^{width - 1 - len(last)}}{last}")


def _dots(
    points: Sequence[tuple[float, float]],
    size: tuple[int, int],
    low: float,
    high: float,
    last: int,
    *,
    dashed: bool,
) -> list[str]:
    """A curve as lines of Braille patterns, each of which is 2 dots wide and 4 high."""
    width, height = size
    if high == low:
        low, high = low - 1, high + 1
    # From dot to dot. The ends of a canvas are one dot further, where it shows nothing.
    dx, dy = (last - 1) / (2 * width - 1), (high - low) / (4 * height - 1)
    canvas = import_module("plotille").Canvas(width, height, 1, low, last + dx, high + dy)
    if not points:
        return [_BLANK * width] * height
    xs, ys = zip(*points, strict=True)
    # One step a column of dots, so that a dash is as long as the other.
    at = np.linspace(xs[0], xs[-1], max(2, round((xs[-1] - xs[0]) / dx) + 1))
    between = list(pairwise(zip(at, np.interp(at, xs, ys), strict=True)))
    for number, ((x0, y0), (x1, y1)) in enumerate(between):
        if not dashed or number // _DASH % 2 == 0:
            canvas.line(float(x0), float(y0), float(x1), float(y1))
    return str(canvas.plot()).split("\n")


def _ticks(low: float, high: float, height: int, *, log: bool) -> list[float]:
    """Round numbers inside the axis, each with a row of its own; of one value, or none, that value."""
    most = max(2, height // 2)
    ticks = log_ticks(low, high, lambda found: len(found) <= most) if log else linear_ticks(low, high, most)
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside or [float(f"{low:.3g}")]


def _row(value: float, low: float, high: float, height: int, scaled: Callable[[float], float]) -> int:
    """The row of a value, from above."""
    if high == low:
        return height // 2
    share = (scaled(value) - scaled(low)) / (scaled(high) - scaled(low))
    return round((1 - min(max(share, 0.0), 1.0)) * (height - 1))
