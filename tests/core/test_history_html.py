"""A history, as a line and as a notebook shows it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from d2lrnn.training.history import EpochRecord, History
from d2lrnn.training.history_html import history_html

SVG = "{http://www.w3.org/2000/svg}"


def _history(*validation: float, train: float | None = None) -> History:
    records = [
        EpochRecord(n, train or p - 1, p, math.log2(p - 1), math.log2(p), 12345.6, 4)
        for n, p in enumerate(validation, 1)
    ]
    return History(records)


def _rows(history: History) -> list[list[str]]:
    tree = ElementTree.fromstring(history_html(history))
    return [["".join(cell.itertext()).strip() for cell in row] for row in tree.iter("tr")]


def _curve(history: History) -> dict[str, list[tuple[float, float]]]:
    """By name, the points of the lines on the page."""
    tree = ElementTree.fromstring(history_html(history))
    return {
        line[0].text or "": [
            (float(x), float(y)) for x, y in (point.split(",") for point in line.attrib["points"].split())
        ]
        for line in tree.iter(f"{SVG}polyline")
    }


def test_a_history_is_a_line() -> None:
    assert repr(History()) == "History(0 epochs, finished)"
    history = _history(9.0, 7.0, 8.0)
    numbers = "perplexity 7.00, validation 8.00, best 7.00 in epoch 2"
    assert repr(history) == f"History(3 epochs, finished: {numbers})"
    history.cut_short, history.ended = EpochRecord(4, 5.0, 6.0, 2.3, 2.6, 1.0, 1), "interrupted"
    numbers = "perplexity 5.00, validation 6.00, best 7.00 in epoch 2"
    assert repr(history) == f"History(3 epochs and a part, interrupted: {numbers})"


def test_a_row_an_epoch_and_a_curve() -> None:
    history = _history(9.0, 7.0, 8.0)
    assert _rows(history) == [
        ["epoch", "training", "validation", "bits per token", "tokens/s"],
        ["1", "8.00", "9.00", "3.170", "12,346"],
        ["2", "6.00", "7.00", "2.807", "12,346"],
        ["3", "7.00", "8.00", "3.000", "12,346"],
    ]
    assert re.findall("<b>(.*?)</b>", history_html(history)) == ["7.00"]
    lines = _curve(history)
    assert list(lines) == ["training", "validation"]
    xs = [x for x, _ in lines["validation"]]
    assert xs == [x for x, _ in lines["training"]]
    # Places are written to a tenth of a pixel.
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    (_, first), (_, second), (_, third) = lines["validation"]  # y grows downwards
    assert first < third < second
    assert third - first == pytest.approx(second - third, abs=0.11)
    assert lines["training"][0][1] == third  # both 8


def test_a_wide_range_has_a_logarithmic_axis() -> None:
    lines = _curve(_history(101.0, 11.0, 2.0, train=100.0))
    heights = [y for _, y in lines["validation"]]
    below, above = heights[2] - heights[1], heights[1] - heights[0]
    assert below / above == pytest.approx(math.log(11 / 2) / math.log(101 / 11), rel=0.02)


def test_the_axis_of_few_epochs_has_whole_numbers() -> None:
    for number in range(2, 12):
        tree = ElementTree.fromstring(history_html(_history(*range(30, 30 - number, -1))))
        texts = [
            text.text or "" for text in tree.iter(f"{SVG}text") if text.attrib["text-anchor"] == "middle"
        ]
        assert all(text.isdigit() for text in texts), (number, texts)


def test_many_epochs_are_few_rows() -> None:
    values = [30.0 - 0.01 * n for n in range(500)]
    values[122] = 3.0
    rows = _rows(_history(*values))[1:]
    assert [int(row[0]) for row in rows] == [1, 50, 100, 123, *range(150, 501, 50)]
    assert len(_rows(_history(*values[:12]))) == 13


def test_one_epoch_none_and_a_perplexity_that_overflowed() -> None:
    assert _curve(_history(9.0)) == {}
    assert len(_rows(_history(9.0))) == 2
    assert _rows(History()) == []
    assert list(_curve(_history(9.0, 8.0, train=math.inf))) == ["validation"]


def test_a_sample_is_text() -> None:
    history = _history(9.0, 8.0)
    history.sample = "<script>it has\n a  b"
    (shown,) = ElementTree.fromstring(history_html(history)).iter("pre")
    assert shown.text == history.sample
    history.sample = None
    assert "<pre" not in history_html(history)


def test_a_part_of_an_epoch_has_a_row_and_no_point() -> None:
    history = _history(9.0, 8.0)
    history.cut_short = EpochRecord(3, 5.0, 6.0, 2.3, 2.6, 1.0, 1)
    assert _rows(history)[-1] == ["3 (a part)", "5.00", "6.00", "2.600", "1"]
    assert len(_curve(history)["validation"]) == 2


def test_it_needs_neither_matplotlib_nor_ipython() -> None:
    code = "import sys, d2lrnn\nfrom d2lrnn.training.history import EpochRecord\n"
    code += "h = d2lrnn.History([EpochRecord(n, 9.0, 8.0, 3.0, 3.0, 1.0, 4) for n in (1, 2)])\n"
    code += "assert '<svg xmlns' in h._repr_html_()\n"
    code += "print([name for name in ('matplotlib', 'IPython') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
