"""Figures as inline SVG: dots with intervals, curves, bars. Plain text made of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

#: Colours that stay apart for most eyes (Okabe and Ito), in the order of the subjects.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

_LEFT, _RIGHT, _TOP, _BOTTOM = 190, 20, 26, 34
_ROW = 17


class Dot(NamedTuple):
    """A line of a dot plot.

    Attributes:
        label: what stands on the left.
        value: where the dot is.
        low: where its interval begins.
        high: where it ends.
        mark: where a tick shows what could be reached; None for no tick.
        colour: of the dot.
        hollow: whether the dot is a ring, as those of peers are.
    """

    label: str
    value: float
    low: float
    high: float
    mark: float | None
    colour: str
    hollow: bool


class Curve(NamedTuple):
    """A line of a figure.

    Attributes:
        label: its name in the legend.
        points: ``(x, y)``.
        colour: of the line.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: str


def dot_plot(title: str, unit: str, dots: Sequence[Dot], width: int = 760) -> str:
    """Dots with intervals on a logarithmic axis."""
    ends = [end for dot in dots for end in (dot.low, dot.high, dot.mark or dot.value) if end > 0]
    low, high = min(ends) / 1.15, max(ends) * 1.15
    height = _TOP + _ROW * len(dots) + _BOTTOM
    inner = width - _LEFT - _RIGHT

    def x(value: float) -> float:
        return _LEFT + inner * math.log(value / low) / math.log(high / low)

    parts = [_text(_LEFT, 14, title, weight="bold")]
    for tick in _decades(low, high):
        parts.append(_line(x(tick), _TOP, x(tick), height - _BOTTOM, "#ddd"))
        parts.append(_text(x(tick), height - _BOTTOM + 14, f"{tick:g}", anchor="middle"))
    parts.append(_text(_LEFT + inner / 2, height - 6, unit, anchor="middle"))
    for number, dot in enumerate(dots):
        y = _TOP + _ROW * (number + 0.5)
        told = f"{dot.label}: {dot.value:.4g} ({dot.low:.4g} to {dot.high:.4g}) {unit}"
        parts.append(_text(_LEFT - 8, y + 4, dot.label, anchor="end"))
        parts.append(_line(x(dot.low), y, x(dot.high), y, dot.colour, 2.5))
        if dot.mark:
            parts.append(_line(x(dot.mark), y - 6, x(dot.mark), y + 6, "#555", 1.5))
        fill = "#fff" if dot.hollow else dot.colour
        parts.append(
            f'<circle cx="{x(dot.value):.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{dot.colour}" '
            f'stroke-width="1.5"><title>{escape(told)}</title></circle>'
        )
    return _svg(width, height, title, parts)


def line_plot(
    title: str, x_label: str, y_label: str, curves: Sequence[Curve], width: int = 380, height: int = 250
) -> str:
    """Curves over one another: each thinner than the one below it, so that equal ones are all seen."""
    left = 46
    points = [point for curve in curves for point in curve.points]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    x_high, y_high = max(x_high, x_low + 1e-9), max(y_high, y_low + 1e-9)
    bottom = height - _BOTTOM - 14

    def place(point: tuple[float, float]) -> str:
        x = left + (width - left - _RIGHT) * (point[0] - x_low) / (x_high - x_low)
        y = bottom - (bottom - _TOP) * (point[1] - y_low) / (y_high - y_low)
        return f"{x:.1f},{y:.1f}"

    parts = [_text(left, 14, title, weight="bold")]
    for share in (0.0, 0.5, 1.0):
        y = bottom - (bottom - _TOP) * share
        parts.append(_line(left, y, width - _RIGHT, y, "#ddd"))
        parts.append(_text(left - 5, y + 4, f"{y_low + share * (y_high - y_low):.3g}", anchor="end"))
        x = left + (width - left - _RIGHT) * share
        parts.append(_text(x, bottom + 14, f"{x_low + share * (x_high - x_low):.3g}", anchor="middle"))
    parts.append(_text(left - 40, _TOP - 4, y_label))
    parts.append(_text(width - _RIGHT, bottom + 28, x_label, anchor="end"))
    for number, curve in enumerate(curves):
        line = " ".join(map(place, curve.points))
        stroke = 1.2 + 1.6 * (len(curves) - 1 - number)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="{stroke:.1f}">'
            f"<title>{escape(curve.label)}</title></polyline>"
        )
        x = left + number * (width - left) / max(len(curves), 4)
        parts.append(_line(x, height - 8, x + 14, height - 8, curve.colour, 3))
        parts.append(_text(x + 17, height - 4, curve.label, size=10))
    return _svg(width, height, title, parts)


def bars(title: str, unit: str, values: Sequence[tuple[str, float, str]], width: int = 760) -> str:
    """Horizontal bars from zero: ``(label, value, colour)``."""
    height = _TOP + _ROW * len(values) + 8
    most = max(value for _, value, _ in values) or 1.0
    inner = width - _LEFT - _RIGHT - 70
    parts = [_text(_LEFT, 14, f"{title}, {unit}", weight="bold")]
    for number, (label, value, colour) in enumerate(values):
        y = _TOP + _ROW * number
        length = inner * value / most
        parts.append(_text(_LEFT - 8, y + 12, label, anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 4}" fill="{colour}"/>'
        )
        parts.append(_text(_LEFT + length + 5, y + 12, f"{value:,.0f}"))
    return _svg(width, height, title, parts)


def _svg(width: int, height: float, title: str, parts: Sequence[str]) -> str:
    # On white: it may stand in a page of any colour, and as a file of its own.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "", size: int = 11) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{bold}>{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two numbers; over more than two decades the powers alone."""
    digits = (1,) if high / low > 200 else (1, 2, 5)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    return [tick for tick in ticks if low <= tick <= high]
