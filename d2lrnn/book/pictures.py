"""What the book's chapters draw beside curves, and the settings of their figures.

Where matplotlib is not installed nothing is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from d2lrnn.book.figures import Look, can_draw, load_pyplot


def use_svg_display() -> None:
    """Shows figures as SVG where this is a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if shell is not None and can_draw():
        import_module("matplotlib_inline.backend_inline").set_matplotlib_formats("svg")


def set_axes(
    axes: Any,
    xlabel: str | None,
    ylabel: str | None,
    xlim: Sequence[float] | None,
    ylim: Sequence[float] | None,
    xscale: str,
    yscale: str,
    legend: Sequence[str] | None,
) -> None:
    """Gives matplotlib's axes labels, limits, scales, a legend and a grid.

    Args:
        axes: the axes.
        xlabel: below the x axis.
        ylabel: beside the y axis.
        xlim: the ends of the x axis; None leaves them.
        ylim: likewise.
        xscale: ``"linear"`` or ``"log"``.
        yscale: likewise.
        legend: the names of the curves; None makes no legend.
    """
    Look(xlabel, ylabel, xlim, ylim, xscale, yscale).apply(axes)
    if legend:
        axes.legend(legend)
    axes.grid()


def show_heatmaps(
    matrices: Any,
    xlabel: str,
    ylabel: str,
    titles: Sequence[str] | None = None,
    figsize: tuple[float, float] = (2.5, 2.5),
    cmap: str = "Reds",
) -> None:
    """Draws matrices as colours, such as the weights of an attention.

    Args:
        matrices: (rows, columns, number of keys of x and y …): a grid of matrices, a framework's array.
        xlabel: below the last row.
        ylabel: beside the first column.
        titles: above the columns.
        figsize: the size of the figure in inches.
        cmap: the name of matplotlib's colours.
    """
    if not can_draw():
        return
    grid = np.stack([np.stack([_numbers(matrix) for matrix in row]) for row in matrices])
    num_rows, num_columns = grid.shape[:2]
    figure, axes = load_pyplot().subplots(
        num_rows, num_columns, figsize=figsize, sharex=True, sharey=True, squeeze=False
    )
    for row in range(num_rows):
        for column in range(num_columns):
            here = axes[row, column]
            image = here.imshow(grid[row, column], cmap=cmap)
            if row == num_rows - 1:
                here.set_xlabel(xlabel)
            if column == 0:
                here.set_ylabel(ylabel)
            if titles:
                here.set_title(titles[column])
    figure.colorbar(image, ax=axes, shrink=0.6)


def show_list_len_pair_hist(
    legend: Sequence[str], xlabel: str, ylabel: str, xlist: Sequence[Any], ylist: Sequence[Any]
) -> None:
    """Draws how long the lists of two collections are, side by side.

    Args:
        legend: the names of the two.
        xlabel: below the x axis.
        ylabel: beside the y axis.
        xlist: the lists of the one.
        ylist: those of the other.
    """
    if not can_draw():
        return
    axes = load_pyplot().figure(figsize=(3.5, 2.5)).gca()
    _, _, (_, second) = axes.hist([[len(each) for each in lists] for lists in (xlist, ylist)])
    for bar in second.patches:
        bar.set_hatch("/")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(legend)


def _numbers(values: Any) -> Any:
    """A framework's array as NumPy's, without its graph."""
    detach = getattr(values, "detach", None)
    values = detach().cpu() if detach is not None and hasattr(values, "cpu") else values
    return values.asnumpy() if hasattr(values, "asnumpy") else np.asarray(values)
