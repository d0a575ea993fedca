"""The report: tables, the page, and what they say of failures, peers and winners."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from d2lrnn.benchmark.driver import Schedule, new_document
from d2lrnn.benchmark.html import page, step_figures
from d2lrnn.benchmark.markdown import QUICK, grid, markdown, milliseconds
from d2lrnn.benchmark.settings import find_model, find_setting
from d2lrnn.benchmark.table import gather, losses_of
from d2lrnn.benchmark.text_tables import further_tables
from d2lrnn.pages.svg import Dot, as_file, dot_plot


def _row(name: str, model: str, number: int, step: float, **changes: Any) -> dict[str, Any]:
    framework = name.partition(" ")[0]
    kind = name.partition(" ")[2] or "backend"
    random = np.random.default_rng(number)
    samples = (step * (1 + 0.01 * random.random(20))).tolist()
    row = {
        "name": name, "kind": kind, "framework": framework, "setting": "M", "model": model, "round": number,
        "status": "ok", "steps": samples, "forward": [step / 3] * 5, "first_step": 1.0, "peak_memory": 300.0,
        "losses": [3.3, 3.2, 3.1], "load": [0.5, 1.5], "versions": {framework: "1.0"},
    }  # fmt: skip
    if kind == "backend":
        row["floor"] = [step / 1.25] * 5
        row["generation"] = {"characters_per_second": 20000.0, "first_character": 1e-4,
                             "first_character_cold": 0.5, "characters": 1000, "growth": 0.0}  # fmt: skip
        row["target"] = {"perplexity": 10.0, "seconds": 4.5, "steps": 20, "curve": [[1.0, 3.0], [4.5, 2.3]]}
    return row | changes


def _failed(name: str, model: str, number: int, status: str, reason: str) -> dict[str, Any]:
    kept = {k: v for k, v in _row(name, model, number, 1.0).items()
            if k in ("name", "kind", "framework", "setting", "model", "round")}  # fmt: skip
    return kept | {"status": status, "reason": reason}


@pytest.fixture
def document() -> dict[str, Any]:
    models = tuple(find_model(name) for name in ("rnn-scratch", "gru-2", "lstm-2"))
    made = new_document(Schedule((find_setting("M"),), models, rounds=2))
    for number in (1, 2):
        made["rows"] += [
            _row("fast", "rnn-scratch", number, 0.010),
            _row("slow", "rnn-scratch", number, 0.020),
            _row("fast layers", "rnn", number, 0.015),
            _row("fast book", "rnn-scratch", number, 0.040),
            _row("fast", "gru-2", number, 0.030),
            _row("slow", "gru-2", number, 0.030),
            _row("fast", "lstm-2", number, 0.050),
            _failed("slow", "lstm-2", number, "wrong", "the loss is off by 1.0e-02 | 1e-05 is allowed"),
            _failed("fast layers", "gru-2", number, "failed", "no end after 300 s"),
        ]
    return made


def _table_after(text: str, heading: str) -> dict[str, list[str]]:
    """The lines of the table under a heading, by model."""
    block = text[text.index(heading) :].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| M ")]
    return {row[1]: row[2:] for row in rows}


def test_the_memory_of_gpus_is_reported_where_there_are_any(document: dict[str, Any]) -> None:
    heading = "## Memory of GPUs"
    assert heading not in markdown(gather(document))
    for row in document["rows"]:
        row["device_memory"] = 900.0 if row["name"] == "slow" else None
    assert _table_after(markdown(gather(document)), heading)["rnn-scratch"] == ["–", "900"]


def test_how_quiet_the_machine_was_is_reported_where_it_was_measured(document: dict[str, Any]) -> None:
    assert "how quiet" not in markdown(gather(document))
    for row, pace in zip(document["rows"], (0.002, 0.005, 0.002, None), strict=False):
        row["pace"] = pace
    assert "took 1.00 times its least time in the median, 2.50 times at most" in markdown(gather(document))


def test_the_tables_say_what_was_measured(document: dict[str, Any]) -> None:
    text = markdown(gather(document))
    steps = _table_after(text, "## Training step")
    assert re.fullmatch(r"10 \(10–10\.1\) ×1\.2[56]", steps["rnn-scratch"][0])
    assert steps["lstm-2"][1] == "✗"
    winners = _table_after(text, "## Who is fastest")
    assert winners["rnn-scratch"] == ["fast"]
    assert winners["gru-2"] == ["nobody: the intervals overlap"]
    assert winners["lstm-2"] == ["nobody: the intervals overlap"]
    assert _table_after(text, "## Tokens per second")["rnn-scratch"][0].startswith("3,2")
    assert NOT_FOR_COMPARISON not in text


NOT_FOR_COMPARISON = "NOT FOR COMPARISON"


def test_peers_are_compared_with_the_model_that_they_are(document: dict[str, Any]) -> None:
    table = gather(document)
    text = markdown(table)
    own = _table_after(text, "## How many times as fast as its own layers")
    assert own["rnn-scratch"] == ["1.50 (1.50–1.50)", "–"]
    assert own["gru-2"] == ["peer ✗", "–"]
    assert _table_after(text, "as fast as the book's package")["rnn-scratch"][0].startswith("4.00")
    assert "Geometric means: fast 1.50 over 1 cells" in text
    assert table.mean_speed_up(["fast"], "book", "steps") == (pytest.approx(4.0, rel=0.01), 1)


def test_writing_is_compared_with_the_book_s(document: dict[str, Any]) -> None:
    assert "## Writing: how many" not in markdown(gather(document))
    for row in document["rows"]:
        if row["kind"] == "book":
            row["generation"] = {"characters_per_second": 20000.0 / (8 * row["round"]), "characters": 100}
    document["rows"] += [
        _row("slow book", "rnn-scratch", number, 0.020, generation={"characters_per_second": 5000.0})
        for number in (1, 2)
    ]
    document["rows"].append(_row("fast", "rnn", 1, 0.010, setting="C", generation=None))
    table = gather(document)
    text = markdown(table)
    heading = "## Writing: how many times as fast as the book's package"
    writing = _table_after(text, heading)
    # Twice the ratio in the second round, whose samples are one number each.
    assert writing["rnn-scratch"] == ["12.00 (8.00–16.00)", "4.00 (4.00–4.00)"]
    assert writing["gru-2"] == ["–", "–"]
    block = text[text.index(heading) :].split("\n## ")[0]
    assert "| C |" not in block
    assert "Geometric means: fast 12.00 over 1 cells; slow 4.00 over 1 cells." in block
    # The roots of 4 · 12 and 1 · 4, and the fourth root of all.
    assert "writing together: fast 6.93 over 2 cells; slow 2.00 over 2 cells; of all, 3.72 over 4" in block
    assert "Writing: how many times" in page(table)


def test_failures_stay_in_the_table_with_their_reasons(document: dict[str, Any]) -> None:
    text = markdown(gather(document))
    block = text[text.index("## What could not be measured") :]
    assert "| slow | M | lstm-2 | the loss is off by 1.0e-02 \\| 1e-05 is allowed |" in block
    assert "| fast layers | M | gru-2 | no end after 300 s |" in block


def test_one_wrong_round_takes_all_times_away(document: dict[str, Any]) -> None:
    document["rows"].append(_failed("fast", "rnn-scratch", 3, "wrong", "another answer"))
    table = gather(document)
    entry = table.entries["fast", "M", "rnn-scratch"]
    assert not entry.ok
    assert entry.summary("steps") is None
    assert entry.values("peak_memory") == []
    assert losses_of(entry) == []


def test_a_round_that_failed_leaves_the_others(document: dict[str, Any]) -> None:
    document["rows"].append(_failed("fast", "rnn-scratch", 3, "failed", "no end after 300 s"))
    entry = gather(document).entries["fast", "M", "rnn-scratch"]
    assert entry.ok
    assert entry.reason == "no end after 300 s"
    assert [None if samples is None else len(samples) for samples in entry.rounds("steps")] == [20, 20]


def test_losses_are_laid_on_one_another(document: dict[str, Any]) -> None:
    for row in document["rows"]:
        if row["name"] == "slow" and row["status"] == "ok":
            row["losses"] = [3.3, 3.2 * (1 + 1e-6), None]
    table = gather(document)
    spread = table.loss_spread("M", "rnn-scratch")
    assert spread == (pytest.approx(1e-6, rel=1e-3), 2)
    assert table.loss_spread("M", "lstm-2") is None
    assert "| M | rnn-scratch | 1.0e-06 | 2 |" in markdown(table)


class _Page(HTMLParser):
    """What a page loads, and what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_holds_everything_and_loads_nothing(document: dict[str, Any]) -> None:
    document["rows"][0]["versions"]["evil"] = "</pre></script><b>&amp;"
    text = page(gather(document))
    parsed = _Page()
    parsed.feed(text)
    assert parsed.loaded == []
    assert "url(" not in text
    assert "b" not in parsed.tags
    assert "script" not in parsed.tags
    samples = re.search(
        r'<details><summary>[^<]*</summary><pre id="samples">(.*?)</pre></details>', text, re.DOTALL
    )
    assert samples is not None
    assert json.loads(unescape(samples[1])) == document
    figures = re.findall(r"<svg xmlns.*?</svg>", text, re.DOTALL)
    labels = " ".join(figures)
    for figure in figures:
        ElementTree.fromstring(figure)
    for what in ("rnn · fast layers", "ms a training step", "training step", "peak while training"):
        assert what in labels
    assert labels.count("<circle") == 2 * 7  # for wide screens and for narrow ones
    assert "nan" not in labels


def test_what_stands_above_what(document: dict[str, Any]) -> None:
    text = page(gather(document))
    places = [
        text.index(what)
        for what in ("<h1>", " cores, ", "<summary>Versions", "<svg", "<table", '<pre id="samples"')
    ]
    assert places == sorted(places)
    assert text.rindex("<svg") < text.index("<table")
    assert text.count("<details>") == 2
    assert "<details open" not in text


def test_a_settings_figure_is_a_file_of_its_own(document: dict[str, Any]) -> None:
    figures = step_figures(gather(document))
    assert list(figures) == list(document["schedule"]["settings"])
    for figure in figures.values():
        root = ElementTree.fromstring(as_file(figure))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in (root[0].text or "")


def test_what_a_token_costs(document: dict[str, Any]) -> None:
    settings = ["32x16x256", "32x64x256"]
    document["schedule"]["settings"] = {name: find_setting(name).describe() for name in settings}
    document["rows"] = [
        _row("fast", "rnn", 1, 1.0, setting=name, steps=[step])
        for name, step in zip(settings, (512e-6, 3 * 2048e-6), strict=True)
    ]
    text = markdown(gather(document))
    assert "| fast | rnn | 1 | 3 | 3.00 |" in text
    assert "Microseconds a token" in text


def test_a_quick_run_says_so_in_every_format(document: dict[str, Any]) -> None:
    document["quick"] = True
    table = gather(document)
    assert NOT_FOR_COMPARISON in QUICK
    assert QUICK in markdown(table)
    assert page(table).index(NOT_FOR_COMPARISON) < page(table).index("<svg")
    for text in (markdown(table), page(table)):
        assert "astest" not in text  # no winner
        assert "faster" not in text
        assert "How many times" not in text
    assert json.loads(json.dumps(document))["quick"] is True


def test_nothing_measured_is_a_report_all_the_same(document: dict[str, Any]) -> None:
    document["rows"] = [_failed("fast", "rnn-scratch", 1, "failed", "no end after 300 s")]
    table = gather(document)
    assert "no end after 300 s" in markdown(table)
    assert "no end after 300 s" in page(table)


def test_dots_stand_in_proportion() -> None:
    figure = dot_plot("a", "ms", [Dot("m", "x", v, v, v, None, 0, False) for v in (1.0, 10.0, 100.0)])
    one, ten, hundred = (float(x) for x in re.findall(r'cx="([\d.]+)"', figure))
    assert ten - one == pytest.approx(hundred - ten, abs=0.2)
    assert one < ten


def test_small_words() -> None:
    assert grid(["a"], [["x|y\nz"]]).splitlines()[-1] == "| x\\|y z |"
    assert [milliseconds(value) for value in (0.0123456, 0.5, 12.3456)] == ["12.3", "500", "12,346"]
    (_, _, texts, *_) = further_tables({
        "texts": [{"megabytes": 100.0, "unit": "char", "seconds": 1.0, "base_megabytes": 30.0,
                   "peak_megabytes": 330.0, "windows_megabytes": 0.0}],
        "starts": [{"command": "import d2lrnn", "median": 0.05, "seconds": [0.05]}],
    })  # fmt: skip
    assert "| 100 MB by char | 1.00 | 300 | 3.0 | 0.0 |" in texts
