"""What chapters draw beside curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from d2lrnn.book import missing_names, pictures

pyplot: Any = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed here")
pyplot.switch_backend("Agg")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_axes_get_a_look() -> None:
    axes = pyplot.figure().gca()
    axes.plot([1, 2], [3, 4])
    pictures.set_axes(axes, "x", "y", [1, 5], [2, 6], "linear", "log", ["curve"])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("x", "y", "log")
    assert (axes.get_xlim(), axes.get_ylim()) == ((1, 5), (2, 6))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["curve"]
    assert axes.xaxis.get_gridlines()[0].get_visible()


def test_heat_maps() -> None:
    weights = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    pictures.show_heatmaps(weights, "keys", "queries", titles=["a", "b", "c"])
    *grid, bar = pyplot.gcf().axes
    assert len(grid) == 6
    for axes, matrix in zip(grid, weights.reshape(6, 4, 5), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert [axes.get_title() for axes in grid] == ["a", "b", "c"] * 2
    assert [axes.get_xlabel() for axes in grid] == [""] * 3 + ["keys"] * 3
    assert [axes.get_ylabel() for axes in grid] == ["queries", "", ""] * 2
    assert bar.get_label() == "<colorbar>"


def test_lengths_side_by_side() -> None:
    pictures.show_list_len_pair_hist(["a", "b"], "tokens", "count", [[1], [1, 2]], [[1, 2, 3]])
    (axes,) = pyplot.gcf().axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens", "count")
    heights = [bar.get_height() for bar in axes.patches]
    assert (sum(heights), len(heights)) == (3, 20)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_figures_outside_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.use_svg_display()  # there is none here
    assert missing_names.answer("plt", {"__all__": []}) is pyplot
    monkeypatch.setattr(pictures, "can_draw", lambda: False)
    pictures.show_heatmaps(np.ones((1, 1, 2, 2)), "", "")
    pictures.show_list_len_pair_hist([], "", "", [[1]], [[1]])
    assert pyplot.get_fignums() == []
