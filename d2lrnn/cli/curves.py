"""The picture of ``d2lrnn plot``: perplexity by epoch, as a figure of matplotlib's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from d2lrnn.cli.comparison import ABSENT, Compared, differences
from d2lrnn.training.curves import add_legend, draw_epochs, scale_axes
from d2lrnn.training.pictures import picture_of

_WIDTH, _HEIGHT, _LINE = 6.4, 3.6, 0.17  # inches: of the figure, of the axes, of a line of the legend
#: As many characters of the legend stand beside its line.
_LEGEND_WIDTH = 84

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
    handles = [draw_epochs(axes, each.epochs, color) for each, color in zip(compared, colors, strict=True)]
    scale_axes(axes, [each.epochs for each in compared], max(len(each.epochs) for each in compared))
    add_legend(figure)
    _legend(figure, handles, ["\n".join(lines) for lines in labels])
    return figure


def _legend(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """The runs, below the axes."""
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
