"""The benchmark's figures: the order of lines, ticks, colours, and that no text is hidden."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from typing import Any

import pytest

from d2lrnn.benchmark.html import page, step_figures
from d2lrnn.benchmark.markdown import markdown
from d2lrnn.benchmark.table import gather
from d2lrnn.pages.svg import (
    COLOURS,
    DARK,
    DARK_COLOURS,
    LIGHT,
    Bar,
    Curve,
    Dot,
    bars,
    dot_plot,
    line_plot,
)
from d2lrnn.pages.ticks import linear_ticks, log_ticks, written
from d2lrnn.registry import backends

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [entry.name for entry in backends()][:3]
MODELS = ["rnn-scratch", "lstm-scratch", "rnn", "rnn-2", "lstm-2"]


@pytest.fixture
def document() -> dict[str, Any]:
    """All subjects in two settings, their rows in no order at all."""
    rows = [
        {
            "name": f"{name} {kind}".removesuffix(" backend"), "kind": kind, "framework": name,
            "setting": setting, "model": model, "round": 1, "status": "ok",
            "steps": [0.01 * (1 + n)] * 3, "losses": [3.0, 2.0], "peak_memory": 100.0 + n,
        }
        for setting in ("C", "M")
        for model in MODELS
        for n, name in enumerate([*NAMES, "another"])
        for kind in ("backend", "layers", "book")
    ]  # fmt: skip
    random.Random(1).shuffle(rows)
    return {
        "format": 1, "quick": False, "rows": rows,
        "machine": {"processor": "P", "cores": 2, "system": "S", "threads": 2},
        "schedule": {"settings": {"C": "batch 32", "M": "batch 1024"}, "models": MODELS, "rounds": 1,
                     "seconds": 1.0, "device": "cpu"},
    }  # fmt: skip


def test_rows_have_one_order_in_every_figure_and_table(document: dict[str, Any]) -> None:
    table = gather(document)
    subjects = [f"{name}{kind}" for name in [*NAMES, "another"] for kind in ("", " layers", " book")]
    lines = [line for model in MODELS for line in (model, *subjects)]
    assert list(step_figures(table)) == ["C", "M"]
    for figure in step_figures(table).values():
        texts = [text for _, _, text in _texts(figure)]
        assert [text for text in texts if text in lines] == lines
    assert table.backends == [*NAMES, "another"]
    assert table.cells == [(setting, model) for setting in ("C", "M") for model in MODELS]
    assert f"| setting | model | {' | '.join([*NAMES, 'another'])} |" in markdown(table)


def test_a_backend_has_one_colour_in_every_report_and_its_peers_are_rings(document: dict[str, Any]) -> None:
    found: dict[str, set[str]] = {}
    for only in (set(NAMES), {NAMES[2]}):
        part = {**document, "rows": [row for row in document["rows"] if row["framework"] in only]}
        for figure in step_figures(gather(part)).values():
            for circle in ElementTree.fromstring(figure).iter(f"{SVG}circle"):
                told = circle.findtext(f"{SVG}title") or ""
                name, _, peer = told.partition(" · ")[2].partition(":")[0].partition(" ")
                found.setdefault(name, set()).add(circle.attrib["stroke"])
                assert circle.attrib["fill"] == (LIGHT["page"] if peer else circle.attrib["stroke"])
    assert sorted(found) == sorted(NAMES)
    assert all(len(colours) == 1 for colours in found.values())
    assert len(set.union(*found.values())) == len(NAMES)


def test_colours_are_seen_on_their_pages() -> None:
    assert len(set(COLOURS)) == len(COLOURS) == len(DARK_COLOURS) == len(set(DARK_COLOURS))
    assert len(COLOURS) > len([entry for entry in backends() if entry.name])
    for colours, shared in ((COLOURS, LIGHT), (DARK_COLOURS, DARK)):
        # What WCAG 2.1 asks of graphics (1.4.11) and of text (1.4.3).
        assert min(_contrast(colour, shared["page"]) for colour in (*colours, shared["mark"])) >= 3
        assert min(_contrast(shared["ink"], shared[behind]) for behind in ("page", "band")) >= 4.5


def _contrast(one: str, other: str) -> float:
    """WCAG's ratio of relative luminances."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


RANGES = [
    (0.37, 0.41),
    (1.0, 50.0),
    (2.48, 3.33),
    (0.02, 3.6),
    (3.0, 3.0),
    (0.0, 0.0),
    (7.0, 123456.0),
    (-0.4, 1.3),
]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_linear_ticks_are_round(low: float, high: float) -> None:
    ticks = linear_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low
    assert ticks[-1] >= high
    steps = {f"{after - before:.6g}" for before, after in pairwise(ticks)}
    assert len(steps) == 1
    assert f"{float(steps.pop()):e}"[0] in "125"
    assert all(float(text.replace(",", "")) == tick for tick, text in zip(ticks, written(ticks), strict=True))


@pytest.mark.parametrize(
    ("low", "high"), [(8.0, 900.0), (11.0, 19.0), (0.011, 0.012), (1.0, 1e12), (4.1, 4.9)]
)
@pytest.mark.parametrize("most", [2, 3, 6, 20])
def test_logarithmic_ticks_are_round_and_as_many_as_have_room(low: float, high: float, most: int) -> None:
    ticks = log_ticks(low, high, lambda found: len(found) <= most)
    assert 2 <= len(ticks) <= most
    assert low <= ticks[0] < ticks[-1] <= high
    for kinds in ("1", "15", "125"):
        if all(f"{tick:e}"[0] in kinds and float(f"{tick:.0e}") == tick for tick in ticks):
            return
    steps = {f"{after - before:.6g}" for before, after in pairwise(ticks)}
    assert len(steps) == 1
    assert len(ticks) == 2 or f"{float(steps.pop()):e}"[0] in "125"


def test_a_narrow_figure_has_fewer_ticks() -> None:
    dots = [Dot("m", "x" * 20, value, value, value, None, 0, False) for value in (1.0, 9000.0)]
    wide, narrow = (
        [text for _, _, text in _texts(dot_plot("t", "ms", dots, width)) if re.fullmatch("[0-9,]+", text)]
        for width in (760, 260)
    )
    assert set(narrow) < set(wide)


LONG = "a-model-with-a-very-long-name-that-someone-gave-it"


@pytest.mark.parametrize("width", [320, 360, 640, 760])
def test_no_text_lies_on_another_or_outside(document: dict[str, Any], width: int) -> None:
    title = "L: batch 64, steps 64, hidden 1024, 2 layers, learning rate 0.1"
    dots = [
        Dot(group, f"{name}{kind}", 10.0**n, 10.0**n * 0.9, 10.0**n * 1.1, 0.5 * 10.0**n, n, bool(kind))
        for group in ("rnn", LONG)
        for n, name in enumerate((*NAMES, LONG))
        for kind in ("", " layers")
    ]
    figures = [
        dot_plot(title, "ms a training step", dots, width),
        bars(title, "MB", [Bar(d.group, d.label, 1000 * d.value, d.colour, d.hollow) for d in dots], width),
        *(
            line_plot(title, "seconds", "loss", [Curve("a", [(0.0, low), (high, high)], 0)], width=width)
            for low, high in RANGES
        ),
        *re.findall(r"<svg xmlns.*?</svg>", page(gather(document)), re.DOTALL),
    ]
    for figure in figures:
        assert _overprinted(figure) == []


def test_overprinting_is_found() -> None:
    dots = [Dot("m", "x", value, value, value, None, 0, False) for value in (1.0, 9.0)]
    figure = dot_plot("t", "ms", dots)
    assert _overprinted(figure) == []
    assert _overprinted(figure.replace(">x<", f">{'x' * 50}<"))


def _texts(figure: str) -> list[tuple[tuple[float, float], tuple[float, float], str]]:
    """The boxes of all texts from above to below: ``(left, right), (top, bottom)``, for wide letters."""
    found = []
    for text in ElementTree.fromstring(figure).iter(f"{SVG}text"):
        x, y, size = (float(text.attrib[name]) for name in ("x", "y", "font-size"))
        content = text.text or ""
        width = len(content) * size * (0.64 if "font-weight" in text.attrib else 0.59)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.attrib["text-anchor"]]
        found.append(((left, left + width), (y - 0.8 * size, y + 0.2 * size), content))
    return sorted(found, key=lambda box: box[1])


def _overprinted(figure: str) -> list[str]:
    """Texts that lie on one another, and those that leave the figure."""
    root = ElementTree.fromstring(figure)
    limits = (float(root.attrib["width"]), float(root.attrib["height"]))
    texts = _texts(figure)
    found = [
        text for xs, ys, text in texts if min(xs[0], ys[0]) < 0 or xs[1] > limits[0] or ys[1] > limits[1]
    ]
    for (xs, ys, text), (other_xs, other_ys, other) in combinations(texts, 2):
        if xs[0] < other_xs[1] and other_xs[0] < xs[1] and ys[0] < other_ys[1] and other_ys[0] < ys[1]:
            found.append(f"{text} | {other}")
    return found
