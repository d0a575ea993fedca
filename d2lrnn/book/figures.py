"""Curves: what the book's boards and plots draw, kept as numbers, and as a figure where matplotlib is there.

A board has one figure, open in pyplot, whose lines follow the numbers; it is rendered when it is displayed or
saved. matplotlib is imported when the first line is drawn; without it a board still keeps its numbers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from d2lrnn.errors import SpecError

#: What takes the mean of values with their weights.
Mean = Callable[[Sequence[float], Sequence[float]], float]


class Point(NamedTuple):
    """A point of a curve."""

    x: float
    y: float


def arithmetic_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """``Σ w v / Σ w``.

    Example:
        >>> arithmetic_mean([1.0, 4.0], [2.0, 1.0])
        2.0
    """
    return sum(w * v for v, w in zip(values, weights, strict=True)) / sum(weights)


def geometric_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """``exp(Σ w log v / Σ w)``: of the batches' perplexities, weighted by tokens, that of all the text.

    Example:
        >>> round(geometric_mean([1.0, 8.0], [2.0, 1.0]), 6)
        2.0
    """
    if not all(value > 0 for value in values):
        return math.nan
    return math.exp(arithmetic_mean([math.log(value) for value in values], weights))


@dataclass
class Look:
    """How axes look."""

    xlabel: str | None = None
    ylabel: str | None = None
    xlim: Sequence[float] | None = None
    ylim: Sequence[float] | None = None
    xscale: str = "linear"
    yscale: str = "linear"

    def apply(self, axes: Any) -> None:
        """Gives matplotlib's axes this look."""
        axes.set_xscale(self.xscale)
        axes.set_yscale(self.yscale)
        axes.set_xlabel(self.xlabel or "")
        axes.set_ylabel(self.ylabel or "")
        # Limits that are equal are none: a chapter shortened to one epoch asks for them.
        if self.xlim is not None and self.xlim[0] != self.xlim[1]:
            axes.set_xlim(*self.xlim)
        if self.ylim is not None and self.ylim[0] != self.ylim[1]:
            axes.set_ylim(*self.ylim)


class ProgressBoard:
    """Curves that grow while something runs.

    Args:
        xlabel: below the x axis.
        ylabel: beside the y axis.
        xlim: the ends of the x axis; None follows the points.
        ylim: likewise.
        xscale: ``"linear"`` or ``"log"``.
        yscale: likewise.
        ls: line styles, one a curve, from the first again when they run out.
        colors: colours, likewise.
        fig: a figure to draw in; None opens one when there is something to draw.
        axes: axes to draw in; None takes the figure's.
        figsize: the size of the figure in inches.
        display: whether to draw at all; the numbers are kept anyhow.

    Attributes:
        data: by label the points that were drawn, each a `Point`.
        fig: the figure, from the first point on.

    Example:
        >>> board = ProgressBoard("x", display=False)
        >>> for x in range(4):
        ...     board.draw(x, x * x, "square", every_n=2)
        >>> board.data["square"]
        [Point(x=0.5, y=0.5), Point(x=2.5, y=6.5)]
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        ls: Sequence[str] = ("-", "--", "-.", ":"),
        colors: Sequence[str] = ("C0", "C1", "C2", "C3"),
        fig: Any = None,
        axes: Any = None,
        figsize: tuple[float, float] = (3.5, 2.5),
        display: bool = True,
    ) -> None:
        self.xlabel, self.ylabel, self.xlim, self.ylim = xlabel, ylabel, xlim, ylim
        self.xscale, self.yscale, self.ls, self.colors = xscale, yscale, ls, colors
        self.fig, self.axes, self.figsize, self.display = fig, axes, figsize, display
        self.data: dict[str, list[Point]] = {}
        self._waiting: dict[str, list[tuple[float, SupportsFloat, float]]] = defaultdict(list)
        self._canvas: _Canvas | None = None

    def draw(
        self,
        x: float,
        y: SupportsFloat,
        label: str,
        every_n: int = 1,
        *,
        weight: float = 1.0,
        mean: Mean = arithmetic_mean,
    ) -> None:
        """Adds a value to a curve.

        Args:
            x: where.
            y: the value. It is read when its point is drawn: a device that works ahead is not waited for.
            label: of the curve.
            every_n: how many values make one point, their mean.
            weight: how much this one counts in it.
            mean: which mean that is.
        """
        waiting, points = self._waiting[label], self.data.setdefault(label, [])
        waiting.append((float(x), y, weight))
        if len(waiting) < every_n:
            return
        xs, ys, weights = zip(*waiting, strict=True)
        waiting.clear()
        points.append(Point(sum(xs) / len(xs), mean([float(y) for y in ys], weights)))
        if self.display and can_draw():
            self._show()

    def _show(self) -> None:
        if self._canvas is None or self._canvas.closed:
            self._canvas = _Canvas(self._own_axes())
        look = Look(self.xlabel, self.ylabel, self.xlim, self.ylim, self.xscale, self.yscale)
        curves = {}
        for number, (label, points) in enumerate(self.data.items()):
            style = {"ls": self.ls[number % len(self.ls)], "color": self.colors[number % len(self.colors)]}
            xs, ys = zip(*points, strict=True) if points else ((), ())
            curves[label] = _Curve(xs, ys, (), style)
        self._canvas.update(curves, look, legend=list(curves))

    def _own_axes(self) -> Any:
        if self.axes is not None:
            return self.axes
        if self.fig is None or self._canvas is not None:  # the one that was drawn in has been closed
            self.fig = load_pyplot().figure(figsize=self.figsize)
        return self.fig.gca()

    def __getstate__(self) -> dict[str, Any]:
        """A copied or pickled board has the numbers, and opens a figure of its own."""
        return {**self.__dict__, "_canvas": None, "fig": None}


class Animator:
    """The first edition's curves that grow with the epochs.

    Args:
        xlabel: below the x axis.
        ylabel: beside the y axis.
        legend: the names of the curves.
        xlim: the ends of the x axis; None follows the points.
        ylim: likewise.
        xscale: ``"linear"`` or ``"log"``.
        yscale: likewise.
        fmts: matplotlib's formats of the curves.
        nrows: rows of axes; the curves are drawn in the first axes.
        ncols: columns of axes.
        figsize: the size of the figure in inches.

    Attributes:
        fig: the figure; None where matplotlib is not installed.
        axes: its axes, ``[axes]`` where there is one.
        X: for every curve its x values.
        Y: for every curve its y values.

    Example:
        >>> animator = Animator(legend=["train"])
        >>> animator.add(10, [8.5])
        >>> animator.X, animator.Y
        ([[10]], [[8.5]])
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = (3.5, 2.5),
    ) -> None:
        self.look = Look(xlabel, ylabel, xlim, ylim, xscale, yscale)
        self.legend, self.fmts = list(legend or ()), fmts
        self.nrows, self.ncols, self.figsize = nrows, ncols, figsize
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self.fig: Any = None
        self.axes: Any = None
        self._canvas: _Canvas | None = None
        if can_draw():
            self._open()

    def add(self, x: Any, y: Any) -> None:
        """Adds a point to every curve.

        Args:
            x: where; a list of one for every curve, or one for all.
            y: the value of every curve, None where there is none; a number where there is one curve.
        """
        ys = list(y) if hasattr(y, "__len__") else [y]
        xs = list(x) if hasattr(x, "__len__") else [x] * len(ys)
        while len(self.X) < len(ys):
            self.X.append([])
            self.Y.append([])
        for number, (a, b) in enumerate(zip(xs, ys, strict=True)):
            if a is not None and b is not None:
                self.X[number].append(a)
                self.Y[number].append(b)
        if can_draw():
            self._show()

    def _open(self) -> _Canvas:
        self.fig, axes = load_pyplot().subplots(self.nrows, self.ncols, figsize=self.figsize)
        self.axes = axes if self.nrows * self.ncols > 1 else [axes]
        self._canvas = _Canvas(np.ravel(axes)[0])
        return self._canvas

    def _show(self) -> None:
        canvas = self._open() if self._canvas is None or self._canvas.closed else self._canvas
        curves = {
            str(number): _Curve(x, y, (self.fmts[number % len(self.fmts)],))
            for number, (x, y) in enumerate(zip(self.X, self.Y, strict=True))
        }
        canvas.update(curves, self.look, self.legend)


def plot(
    X: Any,
    Y: Any = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] | None = None,
    xlim: Sequence[float] | None = None,
    ylim: Sequence[float] | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
    figsize: tuple[float, float] = (3.5, 2.5),
    axes: Any = None,
) -> None:
    """Draws curves in the current axes, or in a new figure where they have curves already.

    Where matplotlib is not installed it draws none.

    Args:
        X: x values (n,), or one such row for every curve; where there is no `Y`, the y values.
        Y: y values (n,), or one such row for every curve; None plots `X` over 0, 1, 2, …
        xlabel: below the x axis.
        ylabel: beside the y axis.
        legend: the names of the curves.
        xlim: the ends of the x axis; None follows the points.
        ylim: likewise.
        xscale: ``"linear"`` or ``"log"``.
        yscale: likewise.
        fmts: matplotlib's formats of the curves.
        figsize: the size of the figure in inches.
        axes: axes to draw in instead.

    Raises:
        SpecError: `X` and `Y` have different numbers of curves.

    Example:
        >>> plot([1, 2, 3], xlabel="x", yscale="log")
    """
    ys = _rows(X if Y is None else Y)
    xs = [[float(x) for x in range(len(y))] for y in ys] if Y is None else _rows(X)
    if len(xs) == 1:
        xs = xs * len(ys)
    if len(xs) != len(ys):
        raise SpecError(f"there are {len(xs)} rows of x values and {len(ys)} rows of y values: give as many")
    if not can_draw():
        return
    if axes is None:
        axes = _free_axes(figsize)
    axes.cla()
    curves = {
        str(number): _Curve(x, y, (fmts[number % len(fmts)],))
        for number, (x, y) in enumerate(zip(xs, ys, strict=True))
    }
    _Canvas(axes).update(curves, Look(xlabel, ylabel, xlim, ylim, xscale, yscale), legend or ())


def _free_axes(figsize: tuple[float, float]) -> Any:
    """The current axes if they are empty, as the book takes them; else a new figure's: nothing is wiped."""
    pyplot = load_pyplot()
    if pyplot.get_fignums() and not pyplot.gca().has_data():
        return pyplot.gca()
    return pyplot.figure(figsize=figsize).gca()


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Sets the size of the figures that are opened from here on, in inches."""
    if can_draw():
        load_pyplot().rcParams["figure.figsize"] = figsize


@dataclass(frozen=True)
class _Curve:
    """What matplotlib's ``plot`` takes."""

    x: Sequence[float]
    y: Sequence[float]
    fmt: tuple[str, ...]
    style: dict[str, str] = field(default_factory=dict)


class _Canvas:
    """Axes whose lines follow numbers."""

    def __init__(self, axes: Any) -> None:
        self._axes = axes
        self._lines: dict[str, Any] = {}
        self._look: Look | None = None
        # A figure that was never pyplot's cannot be closed there.
        self._in_pyplot = _is_open(axes.figure)

    @property
    def closed(self) -> bool:
        """Whether the figure has been closed, as the runner of chapters does after a cell."""
        return self._in_pyplot and not _is_open(self._axes.figure)

    def update(self, curves: dict[str, _Curve], look: Look, legend: Sequence[str]) -> None:
        """Makes the lines these curves."""
        grown = len(curves) > len(self._lines)
        for name, curve in curves.items():
            if name in self._lines:
                self._lines[name].set_data(curve.x, curve.y)
            else:
                (self._lines[name],) = self._axes.plot(curve.x, curve.y, *curve.fmt, **curve.style)
        if self._look != look:
            look.apply(self._axes)
            self._axes.grid(True)
            self._look = look
        self._axes.relim()
        self._axes.autoscale_view()
        if legend and grown:
            handles, names = zip(*zip(self._lines.values(), legend, strict=False), strict=True)
            self._axes.legend(handles, names)


def _is_open(figure: Any) -> bool:
    pyplot = load_pyplot()
    number = getattr(figure, "number", None)
    if number is None or not pyplot.fignum_exists(number):
        return False
    # Numbers are given anew: whose is this one now?
    current = pyplot.gcf().number
    same = pyplot.figure(number) is figure
    pyplot.figure(current)
    return same


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def load_pyplot() -> Any:
    """matplotlib.pyplot, which takes a second to be imported."""
    return import_module("matplotlib.pyplot")


def _rows(values: Any) -> list[list[float]]:
    """Values (n,), or rows of them, as rows of numbers; arrays may be a framework's."""
    rows = values if len(values) > 0 and _is_row(values[0]) else [values]
    return [np.asarray(row).tolist() for row in rows]


def _is_row(values: Any) -> bool:
    # An entry of an array can be an array without dimensions, whose length is an error.
    shape = getattr(values, "shape", None)
    return hasattr(values, "__len__") if shape is None else len(shape) > 0
