"""The picture of ``d2lrnn plot``: perplexity by epoch, as a figure of matplotlib's."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from d2lrnn.cli.comparison import ABSENT, Compared, differences
from d2lrnn.cli.pictures import picture_of

_WIDTH, _HEIGHT, _LINE = 6.4, 3.6, 0.17  # inches: of the figure, of the axes, of a line of the legend
#: As many characters of the legend stand beside its line.
_LEGEND_WIDTH = 84

#: The perplexities are drawn on a logarithmic axis where the largest is so many times the smallest.
_LOG_FROM = 4
_FEWER_MARKS_FROM = 30

#: So many colours can be told apart by matplotlib's own cycle.
_CYCLE = 10


def picture(compared: Sequence[Compared], kind: str) -> bytes:
    """The curves of runs; the same runs give the same bytes.

    Args:
        compared: the runs, of which one at least has a whole epoch.
        kind: ``"png"`` or ``"svg"``.
    """
    return picture_of(lambda: draw(compared), kind)


def draw(compared: Sequence[Compared]) -> Any:
    """The figure: a colour a run, validation solid, training dashed, the best epoch marked."""
    labels = [textwrap.wrap(label, _LEGEND_WIDTH) or [""] for label in _labels(compared)]
    num_lines = 1 + sum(map(len, labels))
    height = _HEIGHT + _LINE * num_lines
    figure = import_module("matplotlib.figure").Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    colors = _colors(len(compared))
    handles = [_draw_run(axes, each, color) for each, color in zip(compared, colors, strict=True)]
    _scale(axes, compared)
    _legend(figure, axes, handles, ["\n".join(lines) for lines in labels])
    return figure


def _draw_run(axes: Any, each: Compared, color: Any) -> Any:
    """Draws the curves of a run; gives the one that stands for it in the legend."""
    epochs = [record.epoch for record in each.epochs]
    alone = len(epochs) == 1  # a line of one point shows nothing
    train = [_finite(record.train_perplexity) for record in each.epochs]
    validation = [_finite(record.val_perplexity) for record in each.epochs]
    axes.plot(epochs, train, "--", color=color, linewidth=1, marker="_" if alone else None, markersize=10)
    (line,) = axes.plot(epochs, validation, "-", color=color, linewidth=1.6)
    if each.best is not None:
        axes.plot(
            [each.best.epoch], [_finite(each.best.val_perplexity)], "o", color=color, markersize=6,
            markeredgecolor="black", markeredgewidth=0.8, zorder=3,
        )  # fmt: skip
    return line


def _scale(axes: Any, compared: Sequence[Compared]) -> None:
    ticker = import_module("matplotlib.ticker")
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    values = [
        value
        for each in compared
        for record in each.epochs
        for value in (record.train_perplexity, record.val_perplexity)
        if math.isfinite(value)
    ]
    longest = max(len(each.epochs) for each in compared)
    # There is no epoch 0, and so no place for its mark.
    margin = min(0.5, 0.04 * (longest - 1)) or 0.5
    axes.set_xlim(1 - margin, longest + margin)
    ratio = max(values) / min(values) if values else 1
    if ratio > _LOG_FROM:
        axes.set_yscale("log")
        plain = ticker.FuncFormatter(lambda value, _: f"{value:,.10g}")
        marks = (1, 2, 5) if ratio > _FEWER_MARKS_FROM else (1, 2, 3, 4, 5, 7)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=marks))
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any, axes: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """What the lines mean, in the axes' corner, and the runs, below them."""
    lines = import_module("matplotlib.lines")
    meanings = {
        "validation": lines.Line2D([], [], color="0.3", linewidth=1.6),
        "training": lines.Line2D([], [], color="0.3", linewidth=1, linestyle="--"),
        "best epoch": lines.Line2D([], [], color="0.7", marker="o", markersize=6, linestyle="",
                                   markeredgecolor="black", markeredgewidth=0.8),
    }  # fmt: skip
    figure.legend(
        list(meanings.values()),
        list(meanings),
        loc="outside upper right",
        ncols=3,
        frameon=False,
        borderpad=0,
    )
    # The names of folders are texts, which matplotlib would take for formulas and hidden labels.
    legend = figure.legend(
        handles, [str(number) for number, _ in enumerate(labels)], loc="outside lower left", frameon=False,
        borderpad=0, labelspacing=0.3, handlelength=1.6,
    )  # fmt: skip
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def _labels(compared: Sequence[Compared]) -> list[str]:
    """Each run's name, what differs, and what it came to."""
    differing = differences([each.run for each in compared]) if len(compared) > 1 else {}
    labels = []
    for number, each in enumerate(compared):
        values = {name: value[number] for name, value in differing.items() if value[number] != ABSENT}
        # A name and its value stay in one line.
        fields = ", ".join(
            f"{name} {value}".replace(" ", "\N{NO-BREAK SPACE}") for name, value in values.items()
        )
        if best := each.best:
            result = f"best {best.val_perplexity:.2f} in epoch {best.epoch}"
        else:
            result = "no epoch yet"
        if not each.is_finished:
            result += f", {len(each.epochs)} of {each.run.num_epochs} epochs"
        labels.append(f"{each.name} ({result}){': ' if fields else ''}{fields}")
    return labels


def _colors(number: int) -> list[Any]:
    if number <= _CYCLE:
        return [f"C{each}" for each in range(number)]
    shades = import_module("matplotlib").colormaps["turbo"]
    return [shades(each / (number - 1)) for each in range(number)]


def _finite(value: float) -> float:
    """A perplexity that overflowed is left out."""
    return value if math.isfinite(value) else math.nan
