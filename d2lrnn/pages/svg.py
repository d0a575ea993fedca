"""Figures as inline SVG: dots with intervals, curves, bars, heat maps. Plain text made of plain numbers.

Colours stand in the elements for a light page; `STYLE` changes them where the reader's screen is dark.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.pages.ticks import linear_ticks, log_ticks, written

#: One colour a backend, on a light page and on a dark one: after Okabe and Ito, who chose colours that stay
#: apart for most eyes, each changed until it is seen on its page.
COLOURS = ("#d55e00", "#0072b2", "#b8508f", "#8a6d00", "#007f5c", "#2d8aa8", "#6b6b6b")
DARK_COLOURS = ("#ff8a3d", "#4aa8e0", "#e79cc6", "#e6c229", "#2fc99a", "#9adcf5", "#b5b5b5")

#: What is not a backend's: the page, text, lines of the grid, bands behind groups, upright marks.
LIGHT = {"page": "#ffffff", "ink": "#222222", "rule": "#dddddd", "band": "#f1f2f4", "mark": "#555555"}
DARK = {"page": "#16181d", "ink": "#e2e4e8", "rule": "#3c4048", "band": "#22252c", "mark": "#b0b4bb"}


def _rules() -> str:
    colours = {f"c{number}": colour for number, colour in enumerate(DARK_COLOURS)} | DARK
    return "".join(
        f"svg .{name}f{{fill:{colour}}}svg .{name}s{{stroke:{colour}}}" for name, colour in colours.items()
    )


#: The style sheet that makes a figure's colours those of a dark screen.
STYLE = f"@media (prefers-color-scheme: dark){{{_rules()}}}"

_SIZE, _ROW, _GAP, _DASH = 12, 18, 8, 6

#: More numbers on the logarithmic axis of curves could stand on one another.
_MOST_LOG_TICKS = 7

#: How wide a letter is, by the size of the font: more than in the usual fonts, so that nothing overlaps.
_LETTER, _BOLD_LETTER = 0.6, 0.65


class Dot(NamedTuple):
    """A line of a dot plot.

    Attributes:
        group: the heading that it stands below; lines of one group follow one another.
        label: what stands on the left.
        value: where the dot is.
        low: where its interval begins.
        high: where it ends.
        mark: where a tick shows what could be reached; None for no tick.
        colour: of the dot: which of `COLOURS`.
        hollow: whether the dot is a ring, as those of peers are.
    """

    group: str
    label: str
    value: float
    low: float
    high: float
    mark: float | None
    colour: int
    hollow: bool


class Bar(NamedTuple):
    """A line of a bar chart.

    Attributes:
        group: the heading that it stands below; lines of one group follow one another.
        label: what stands on the left.
        value: the length.
        colour: which of `COLOURS`.
        hollow: whether it is an outline, as those of peers are.
    """

    group: str
    label: str
    value: float
    colour: int
    hollow: bool


class Curve(NamedTuple):
    """A line of a figure.

    Attributes:
        label: its name, shown where one points at it.
        points: ``(x, y)``.
        colour: of the line: which of `COLOURS`.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int


def dot_plot(title: str, unit: str, dots: Sequence[Dot], width: int = 760) -> str:
    """Dots with intervals on a logarithmic axis, whose numbers stand above and below."""
    ends = [end for dot in dots for end in (dot.low, dot.high, dot.mark or dot.value) if end > 0]
    low, high = min(ends) / 1.15, max(ends) * 1.15
    left = _label_space([dot.label for dot in dots], width)
    inner = width - left - 2 * _GAP

    def x(value: float) -> float:
        return left + inner * math.log(value / low) / math.log(high / low)

    parts, top = _title(title, width)
    ticks = log_ticks(low, high, lambda found: _apart(zip(map(x, found), written(found), strict=True)))
    rows, bottom = _rows(dots, top + _ROW, width)
    parts += _bands(dots, top + _ROW, width)
    for tick, text in zip(ticks, written(ticks), strict=True):
        parts.append(_line(x(tick), top + _ROW, x(tick), bottom, "rule"))
        for y in (top + _SIZE, bottom + _SIZE + 4):
            parts.append(_text(x(tick), y, text, anchor="middle"))
    parts.append(_text(left + inner / 2, bottom + 2 * _SIZE + 10, unit, anchor="middle"))
    parts += rows
    for dot, y in zip(dots, _places(dots, top + _ROW), strict=True):
        told = f"{dot.group} · {dot.label}: {dot.value:.4g} ({dot.low:.4g} to {dot.high:.4g}) {unit}"
        colour = _colour(dot.colour)
        parts.append(_line(x(dot.low), y, x(dot.high), y, colour, 2.5))
        if dot.mark:
            parts.append(_line(x(dot.mark), y - 6, x(dot.mark), y + 6, "mark", 1.5))
        fill = "page" if dot.hollow else colour
        parts.append(
            f'<circle cx="{x(dot.value):.1f}" cy="{y:.1f}" r="4" {_fill(fill)} {_stroke(colour)} '
            f'class="{fill}f {colour}s" stroke-width="1.8"><title>{escape(told)}</title></circle>'
        )
    return _svg(width, bottom + 2 * _SIZE + 18, title, parts)


def line_plot(
    title: str,
    x_label: str,
    y_label: str,
    curves: Sequence[Curve],
    *,
    in_turn: bool = False,
    counted: bool = False,
    logarithmic: bool = False,
    width: int = 312,
    height: int = 230,
) -> str:
    """Curves over one another, at least one point in all; a curve of one point is a dot.

    Args:
        title: what stands above.
        x_label: what goes to the right.
        y_label: what goes up.
        curves: the lines.
        in_turn: whether each shows in the gaps of the others, so that equal ones are seen.
        counted: whether x counts something: its axis begins at 0, and has whole numbers alone.
        logarithmic: whether equal factors of y, which is above 0, are equally high.
        width: in pixels.
        height: likewise.
    """
    points = [point for curve in curves for point in curve.points]
    least, most = min(x for x, _ in points), max(x for x, _ in points)
    x_ticks = linear_ticks(0, most, min(5, int(most))) if counted else linear_ticks(least, most, 5)
    low, high = min(y for _, y in points), max(y for _, y in points)
    if logarithmic:
        y_ticks = log_ticks(low, high, lambda ticks: len(ticks) <= _MOST_LOG_TICKS)
    else:
        y_ticks = linear_ticks(low, high, 5)
        low, high = y_ticks[0], y_ticks[-1]
    scaled = math.log if logarithmic else float
    x_texts, y_texts = written(x_ticks), written(y_ticks)
    left = _GAP + max(map(_width, y_texts)) + 4
    right = width - _GAP - _width(x_texts[-1]) / 2
    parts, top = _title(title, width)
    parts.append(_text(_GAP, top + _SIZE, y_label))
    top += _SIZE + 14
    parts.append(_text(right, height - 6, x_label, anchor="end"))
    bottom = height - 2 * _SIZE - 14

    def x(value: float) -> float:
        return left + (right - left) * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])

    def y(value: float) -> float:
        return bottom - (bottom - top) * (scaled(value) - scaled(low)) / (scaled(high) - scaled(low))

    for tick, text in zip(y_ticks, y_texts, strict=True):
        parts.append(_line(left, y(tick), right, y(tick), "rule"))
        parts.append(_text(left - 5, y(tick) + 4, text, anchor="end"))
    for tick, text in zip(x_ticks, x_texts, strict=True):
        parts.append(_line(x(tick), bottom, x(tick), bottom + 4, "mark"))
        parts.append(_text(x(tick), bottom + _SIZE + 5, text, anchor="middle"))
    for number, curve in enumerate(curves):
        colour = _colour(curve.colour)
        if len(curve.points) == 1:
            ((at, value),) = curve.points
            parts.append(
                f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="4.5" {_fill(colour)} class="{colour}f">'
                f"<title>{escape(curve.label)}</title></circle>"
            )
            continue
        line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in curve.points)
        gap = _DASH * (len(curves) - 1) if in_turn else 0
        dashes = f' stroke-dasharray="{_DASH} {gap}" stroke-dashoffset="{-_DASH * number}"' if gap else ""
        parts.append(
            f'<polyline points="{line}" fill="none" {_stroke(colour)} class="{colour}s" '
            f'stroke-width="2.2"{dashes}><title>{escape(curve.label)}</title></polyline>'
        )
    return _svg(width, height, title, parts)


def bars(title: str, unit: str, values: Sequence[Bar], width: int = 760) -> str:
    """Horizontal bars from zero."""
    most = max(bar.value for bar in values) or 1.0
    left = _label_space([bar.label for bar in values], width)
    inner = width - left - _GAP - 4 - max(_width(f"{bar.value:,.0f}") for bar in values)
    parts, top = _title(f"{title}, {unit}", width)
    rows, bottom = _rows(values, top, width)
    parts += _bands(values, top, width) + rows
    for bar, y in zip(values, _places(values, top), strict=True):
        length, colour = inner * bar.value / most, _colour(bar.colour)
        fill = "page" if bar.hollow else colour
        parts.append(
            f'<rect x="{left:.1f}" y="{y - 5:.1f}" width="{length:.1f}" height="10" {_fill(fill)} '
            f'{_stroke(colour)} class="{fill}f {colour}s" stroke-width="1.5"/>'
        )
        parts.append(_text(left + length + 5, y + 4, f"{bar.value:,.0f}"))
    return _svg(width, bottom + _GAP, title, parts)


#: What a heat map has above zero and below it: the same on both pages, for they shine through.
HOT, COLD = (213, 94, 0), (0, 114, 178)


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], values: FloatArray, *, column_width: int = 12
) -> str:
    """Numbers as colours: the larger, the less the page shines through.

    Args:
        title: what stands above.
        rows: their names, on the left.
        columns: their names, below, upright where a letter has no room.
        values: (rows, columns), in [-1, 1]: `HOT` above zero, `COLD` below it.
        column_width: in pixels.
    """
    left = max(map(_width, rows)) + 2 * _GAP
    longest = max(map(len, columns))
    width = int(left + column_width * len(columns) + _GAP)
    parts, top = _title(title, width)
    height = _SIZE * len(rows)
    parts.append(
        f'<image x="{left:.1f}" y="{top:.1f}" width="{column_width * len(columns)}" height="{height}" '
        f'preserveAspectRatio="none" style="image-rendering:pixelated" href="{_pixels(values)}"/>'
    )
    for number, name in enumerate(rows):
        parts.append(_text(left - 5, top + _SIZE * number + 10, name, anchor="end", size=11))
    for number, name in enumerate(columns):
        x = left + column_width * (number + 0.5)
        if longest == 1:
            parts.append(_text(x, top + height + 13, name, anchor="middle"))
        else:
            y = top + height + 5
            parts.append(_text(x + 4, y, name, anchor="end", turned=True))
    return _svg(width, top + height + (18 if longest == 1 else _width("x" * longest) + 10), title, parts)


def _pixels(values: FloatArray) -> str:
    """The picture of `heat_map`, a pixel a number, as PNG in a data URI."""
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, HOT, COLD)
    pixels[..., 3] = np.rint(255 * np.abs(values).clip(0, 1))
    # Each row begins with the number of its filter: 0, none.
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # eight bits each of RGBA
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()


def disc(colour: int) -> str:
    """The mark of a backend, for a key."""
    name = _colour(colour)
    return f'<circle cx="6" cy="6" r="5" {_fill(name)} class="{name}f"/>'


def as_file(figure: str) -> str:
    """A figure as a file of its own, with the colours of a dark screen in it."""
    head, end, rest = figure.partition(">")
    return f"{head}{end}<style>{STYLE}</style>{rest}\n"


def _groups(lines: Sequence[Dot | Bar]) -> list[tuple[str, int]]:
    """The headings, and how many lines stand below each."""
    found: list[tuple[str, int]] = []
    for line in lines:
        if found and found[-1][0] == line.group:
            found[-1] = (line.group, found[-1][1] + 1)
        else:
            found.append((line.group, 1))
    return found


def _places(lines: Sequence[Dot | Bar], top: float) -> list[float]:
    """The height of the middle of every line: each group has a heading of one row."""
    places, y = [], top
    for _, number in _groups(lines):
        places += [y + _ROW * (1.5 + n) for n in range(number)]
        y += _ROW * (number + 1)
    return places


def _rows(lines: Sequence[Dot | Bar], top: float, width: int) -> tuple[list[str], float]:
    """The labels on the left, and where the last row ends."""
    parts, y = [], top
    for group, number in _groups(lines):
        parts.append(_text(_GAP, y + _ROW / 2 + 4, _shortened(group, width - 2 * _GAP, bold=True), bold=True))
        y += _ROW * (number + 1)
    space = _label_space([line.label for line in lines], width)
    for line, at in zip(lines, _places(lines, top), strict=True):
        parts.append(_text(space - _GAP, at + 4, _shortened(line.label, space - 2 * _GAP), anchor="end"))
    return parts, y


def _bands(lines: Sequence[Dot | Bar], top: float, width: int) -> list[str]:
    """A band behind every heading; the grid goes over it."""
    parts, y = [], top
    for _, number in _groups(lines):
        parts.append(
            f'<rect x="0" y="{y:.1f}" width="{width}" height="{_ROW}" {_fill("band")} class="bandf"/>'
        )
        y += _ROW * (number + 1)
    return parts


def _title(title: str, width: int) -> tuple[list[str], float]:
    """The title in as many lines as it needs, and where they end."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, bold=True) > width - 2 * _GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_text(_GAP, 16 + 16 * number, line, bold=True) for number, line in enumerate(lines)], (
        16.0 * len(lines) + 8
    )


def _label_space(labels: Iterable[str], width: int) -> float:
    return min(max(map(_width, labels)) + 2 * _GAP, width / 2)


def _width(text: str, *, bold: bool = False) -> float:
    """About how wide a text is, rather more than less."""
    return len(text) * _SIZE * (_BOLD_LETTER if bold else _LETTER)


def _shortened(text: str, space: float, *, bold: bool = False) -> str:
    most = int(space / _width("x", bold=bold))
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"


def _apart(labels: Iterable[tuple[float, str]]) -> bool:
    """Whether texts with their middles at some places, from left to right, leave a gap between them."""
    ends = [(x - _width(text) / 2, x + _width(text) / 2) for x, text in labels]
    return all(end + 4 <= start for (_, end), (start, _) in pairwise(ends))


def _colour(number: int) -> str:
    return f"c{number % len(COLOURS)}"


def _value(name: str) -> str:
    return LIGHT[name] if name in LIGHT else COLOURS[int(name[1:])]


def _fill(name: str) -> str:
    return f'fill="{_value(name)}"'


def _stroke(name: str) -> str:
    return f'stroke="{_value(name)}"'


def _svg(width: int, height: float, title: str, parts: Sequence[str]) -> str:
    # Behind it lies a page of its own: as a file it may stand in one of any colour.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">'
        f'<rect width="100%" height="100%" {_fill("page")} class="pagef"/>{"".join(parts)}</svg>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    bold: bool = False,
    size: int = _SIZE,
    turned: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}{turn} '
        f'{_fill("ink")} class="inkf">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {_stroke(colour)} '
        f'class="{colour}s" stroke-width="{width}"/>'
    )
