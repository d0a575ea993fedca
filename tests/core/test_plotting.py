"""Curves as numbers, and as one figure each."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from d2lrnn.book import figures as plotting
from d2lrnn.book.figures import Animator, ProgressBoard, geometric_mean, plot, set_figsize
from d2lrnn.errors import SpecError


@pytest.fixture
def pyplot() -> Iterator[Any]:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    pyplot.close("all")
    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("installed", [True, False])
def test_a_point_is_a_mean(monkeypatch: pytest.MonkeyPatch, installed: bool, pyplot: Any) -> None:
    monkeypatch.setattr(plotting, "can_draw", lambda: installed)
    board = ProgressBoard()
    for x in range(7):
        board.draw(x, np.float32(x * x), "square", every_n=3)
    assert board.data == {"square": [(1, pytest.approx(5 / 3)), (4, pytest.approx(50 / 3))]}
    assert len(pyplot.get_fignums()) == installed


def test_weights_count() -> None:
    board = ProgressBoard(display=False)
    for y, weight in ((2.0, 3.0), (8.0, 1.0)):
        board.draw(0, y, "a", every_n=2, weight=weight, mean=geometric_mean)
    assert board.data["a"][0].y == pytest.approx(2 ** (3 / 4) * 8 ** (1 / 4))
    assert geometric_mean([1.0, math.inf], [1, 1]) == math.inf
    assert math.isnan(geometric_mean([0.0], [1]))


def test_a_board_has_one_figure_and_its_lines_follow(pyplot: Any) -> None:
    board = ProgressBoard(xlabel="epoch", xlim=[0, 5])
    for x in range(3):
        board.draw(x, 2 * x, "train")
        board.draw(x, 3 * x, "val")
    (number,) = pyplot.get_fignums()
    (axes,) = pyplot.figure(number).axes
    assert [line.get_ydata() for line in axes.lines] == [(0, 2, 4), (0, 3, 6)]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    assert [text.get_text() for text in axes.get_legend().texts] == ["train", "val"]
    assert axes.get_xlabel() == "epoch"
    assert axes.get_xlim() == (0, 5)
    assert axes.get_ylim()[1] >= 6


def test_a_board_whose_figure_was_closed_opens_another(pyplot: Any) -> None:
    board = ProgressBoard()
    board.draw(0, 1, "a")
    pyplot.close("all")
    other = pyplot.figure()  # has the number that the closed one had
    board.draw(1, 2, "a")
    assert len(pyplot.get_fignums()) == 2
    assert other.axes == []
    assert list(pyplot.gcf().axes[0].lines[0].get_ydata()) == [1, 2]
    # What else is drawn goes on where it was.
    pyplot.figure(other)
    board.draw(2, 3, "a")
    assert pyplot.gcf() is other


def test_boards_can_be_copied_and_draw_in_given_axes(pyplot: Any) -> None:
    figure, axes = pyplot.subplots()
    ProgressBoard(axes=axes).draw(0, 1, "a")
    ProgressBoard(fig=figure).draw(0, 2, "b")
    assert len(axes.lines) == 2
    assert len(pyplot.get_fignums()) == 1
    board = ProgressBoard()
    board.draw(0, 1, "a")
    twin = copy.deepcopy(board)
    twin.draw(1, 1, "a")
    assert len(board.data["a"]) == 1
    assert len(pyplot.get_fignums()) == 3


@pytest.mark.parametrize("installed", [True, False])
def test_an_animator_adds_to_every_curve(
    monkeypatch: pytest.MonkeyPatch, installed: bool, pyplot: Any
) -> None:
    monkeypatch.setattr(plotting, "can_draw", lambda: installed)
    animator = Animator(xlabel="epoch", legend=["train", "test"], xlim=[10, 10], nrows=2)
    animator.add(10, (3.0, None))
    animator.add(20, [2.0, 4.0])
    assert (animator.X, animator.Y) == ([[10, 20], [20]], [[3.0, 2.0], [4.0]])
    single = Animator()
    single.add(1, 0.5)
    assert single.Y == [[0.5]]
    assert len(pyplot.get_fignums()) == 2 * installed
    if installed:
        upper, lower = pyplot.figure(1).axes
        assert [list(line.get_xdata()) for line in upper.lines] == [[10, 20], [20]]
        assert list(lower.lines) == []


def test_a_figure_stays(pyplot: Any) -> None:
    board = ProgressBoard()
    assert board.fig is None
    board.draw(0, 1, "a", every_n=2)
    assert board.data == {"a": []}
    board.draw(1, 2, "a", every_n=2)
    assert board.fig is pyplot.gcf()
    assert copy.copy(board).fig is None
    animator = Animator()
    assert animator.fig is pyplot.gcf()
    assert animator.axes == animator.fig.axes
    animator.axes[0].set_title("kept")
    animator.add(1, 2)
    assert animator.axes[0].get_title() == "kept"
    pyplot.close("all")
    animator.add(2, 3)
    assert animator.fig is pyplot.gcf()
    assert Animator(nrows=2, ncols=3).axes.shape == (2, 3)


def test_a_plot_takes_empty_axes_and_wipes_none(pyplot: Any) -> None:
    figure, (left, right) = pyplot.subplots(1, 2)
    plot([1, 2])
    pyplot.sca(left)
    plot([3, 4])
    plot([5, 6])
    assert [len(axes.lines) for axes in (left, right)] == [1, 1]
    assert len(pyplot.get_fignums()) == 2
    assert pyplot.gcf() is not figure


def test_a_plot_of_rows_and_of_one_row(pyplot: Any) -> None:
    plot([3, 2, 1], xscale="log", yscale="log", xlabel="token")
    plot(np.arange(3), [np.arange(3), np.ones(3)], legend=["a", "b"])
    plot([[1, 2], [3, 4, 5]])
    lines = [
        [(list(line.get_xdata()), list(line.get_ydata())) for line in pyplot.figure(number).axes[0].lines]
        for number in pyplot.get_fignums()
    ]
    assert lines == [
        [([0, 1, 2], [3, 2, 1])],
        [([0, 1, 2], [0, 1, 2]), ([0, 1, 2], [1, 1, 1])],
        [([0, 1], [1, 2]), ([0, 1, 2], [3, 4, 5])],
    ]
    assert pyplot.figure(1).axes[0].get_xscale() == "log"
    _, axes = pyplot.subplots()
    plot([1, 2], axes=axes)
    assert len(axes.lines) == 1
    with pytest.raises(SpecError, match="2 rows of x values and 1 rows of y values"):
        plot([[1], [2]], [1])


def test_the_size_of_figures(pyplot: Any) -> None:
    with pyplot.rc_context():
        set_figsize((5, 4))
        assert tuple(pyplot.figure().get_size_inches()) == (5, 4)


def test_importing_imports_no_matplotlib() -> None:
    code = "import sys; from d2lrnn.book import current_edition, first_edition\n"
    code += "print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
