"""The perplexity of a run by epoch, drawn in matplotlib's axes: for ``d2lrnn plot``, and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from d2lrnn.training.history import EpochRecord, best_epoch

#: Perplexities are drawn on a logarithmic axis where the largest is so many times the smallest.
_LOG_FROM = 4
_FEWER_MARKS_FROM = 30


def needs_log_axis(epochs: Sequence[EpochRecord]) -> bool:
    """Whether the perplexities are so far apart that small ones could not be told from each other.

    Example:
        >>> records = [EpochRecord(n, p, p, 0.0, 0.0, 1.0, 4) for n, p in ((1, 20.0), (2, 4.0))]
        >>> needs_log_axis(records), needs_log_axis(records[:1])
        (True, False)
    """
    return _ratio(epochs) > _LOG_FROM


def finite_points(epochs: Sequence[EpochRecord]) -> dict[str, list[tuple[float, float]]]:
    """The points of the curves by name, validation first: epoch and perplexity, where that is a number.

    Example:
        >>> finite_points([EpochRecord(1, math.inf, 9.0, 3.0, 3.2, 500.0, 4)])
        {'validation': [(1.0, 9.0)], 'training': []}
    """
    points = {
        "validation": [(float(record.epoch), record.val_perplexity) for record in epochs],
        "training": [(float(record.epoch), record.train_perplexity) for record in epochs],
    }
    return {name: [each for each in found if math.isfinite(each[1])] for name, found in points.items()}


def draw_epochs(axes: Any, epochs: Sequence[EpochRecord], color: Any) -> Any:
    """Draws validation solid, training dashed, and the best epoch as a point.

    Args:
        axes: matplotlib's axes.
        epochs: the epochs of one run.
        color: of all three.

    Returns:
        matplotlib's line of the validation.
    """
    numbers = [record.epoch for record in epochs]
    alone = len(epochs) == 1  # a line of one point shows nothing
    train = [_finite(record.train_perplexity) for record in epochs]
    validation = [_finite(record.val_perplexity) for record in epochs]
    axes.plot(numbers, train, "--", color=color, linewidth=1, marker="_" if alone else None, markersize=10)
    (line,) = axes.plot(numbers, validation, "-", color=color, linewidth=1.6)
    if (best := best_epoch(epochs)) is not None:
        axes.plot(
            [best.epoch], [_finite(best.val_perplexity)], "o", color=color, markersize=6,
            markeredgecolor="black", markeredgewidth=0.8, zorder=3,
        )  # fmt: skip
    return line


def scale_axes(axes: Any, runs: Sequence[Sequence[EpochRecord]], num_epochs: int) -> None:
    """Labels the axes, and makes the upper one logarithmic where that helps.

    Args:
        axes: matplotlib's axes.
        runs: the epochs of each run in them.
        num_epochs: where the axis of the epochs ends.
    """
    ticker = import_module("matplotlib.ticker")
    axes.set_xlabel("epoch")
    axes.set_ylabel("perplexity")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    # There is no epoch 0, and so no place for its mark.
    margin = min(0.5, 0.04 * (num_epochs - 1)) or 0.5
    axes.set_xlim(1 - margin, num_epochs + margin)
    together = [record for epochs in runs for record in epochs]
    if needs_log_axis(together):
        axes.set_yscale("log")
        plain = ticker.FuncFormatter(lambda value, _: f"{value:,.10g}")
        marks = (1, 2, 5) if _ratio(together) > _FEWER_MARKS_FROM else (1, 2, 3, 4, 5, 7)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=marks))
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: Any) -> None:
    """Says above the axes what the lines of `draw_epochs` mean."""
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


def _ratio(epochs: Sequence[EpochRecord]) -> float:
    """Of the largest perplexity to the smallest; 1 where there is none that is finite."""
    both = [value for record in epochs for value in (record.train_perplexity, record.val_perplexity)]
    finite = [value for value in both if math.isfinite(value)]
    return max(finite) / min(finite) if finite else 1.0


def _finite(value: float) -> float:
    """A perplexity that overflowed is left out."""
    return value if math.isfinite(value) else math.nan
