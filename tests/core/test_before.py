"""``benchmarks/before.py``: two checkouts in turn."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = spec_from_file_location("before", ROOT / "benchmarks" / "before.py")
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    for name, value in {"SECONDS": 0.001, "REST": 0.0}.items():
        monkeypatch.setattr(module, name, value)
    for name in module.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # put back after the test, for what is started later
    return module


def test_both_sides_are_timed_in_turn(before: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "before.json"
    words = ["--env", f"numpy={sys.executable}", "--settings", "4x3x32"]
    for models in ("gru-scratch", "rnn,gru-scratch"):
        argv = [str(ROOT), *words, "--models", models, "--threads", "1", "--turns", "2", "--out", str(out)]
        before.main(argv)
    # What was measured again takes the place of what was there.
    (_, row) = json.loads(out.read_text())["rows"]
    assert (row["backend"], row["setting"], row["model"]) == ("numpy", "4x3x32", "gru-scratch")
    for what in ("step", "write"):
        assert [len(of_side) for of_side in row[what]] == [2, 2]
        assert min(map(min, row[what])) > 0
    assert [len(of_side) for of_side in row["floor"]] == [0, 2]
    assert "| numpy | 4x3x32 | gru-scratch |" in out.with_suffix(".md").read_text()


def test_a_side_that_fails_says_why(before: ModuleType, tmp_path: Path) -> None:
    """A checkout that the processes do not find the library in."""
    row = before.compare(("numpy", "4x3x8", "rnn"), sys.executable, [tmp_path, ROOT])
    assert f"is not of {tmp_path}" in row["reason"] or "No module named 'd2lrnn'" in row["reason"]
    text = before.table({"before": "0" * 7, "threads": 1, "rows": [row]})
    assert f"✗ {row['reason']}" in text


def test_the_figure_is_the_median_of_ratios(before: ModuleType) -> None:
    row = {"backend": "numpy", "setting": "C", "model": "rnn", "floor": [[], [0.005] * 3],
           "step": [[0.03, 0.01, 0.02], [0.01, 0.01, 0.01]]}  # fmt: skip
    text = before.table({"before": "0" * 7, "threads": 1, "rows": [row]})
    assert "| numpy | C | rnn | 3 | 20 | 10 | ×2.00 | 2.00 (1.50–2.50) |  |" in text
