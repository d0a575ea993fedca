"""``d2lrnn bench`` on the command line, and ``benchmarks/run.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from d2lrnn.benchmark.driver import Schedule, new_document
from d2lrnn.benchmark.settings import find_model, find_setting
from d2lrnn.cli.main import main

QUICK = ["bench", "--quick", "--backends", "numpy", "--models", "rnn-scratch,lstm-2", "--seconds", "0.05"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_a_quick_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, shown = tmp_path / "bench.json", tmp_path / "bench.html"
    code, printed, log = _run(capsys, *QUICK, "--json", str(data), "--html", str(shown))
    assert code == 0
    assert "NOT FOR COMPARISON" in printed
    assert "NOT FOR COMPARISON" in shown.read_text()
    assert "| Q | rnn-scratch |" in printed
    assert "1/2  round 1  Q  rnn-scratch  numpy" in log
    document = json.loads(data.read_text())
    assert document["quick"] is True
    assert [row["status"] for row in document["rows"]] == ["ok", "ok"]
    assert all(row["target"]["steps"] > 0 for row in document["rows"])

    code, _, log = _run(capsys, *QUICK, "--json", str(data), "--resume", "--rounds", "2")
    assert code == 0
    assert "1/4" not in log
    assert "3/4  round 2" in log
    assert len(json.loads(data.read_text())["rows"]) == 4

    code, _, log = _run(capsys, "bench", *QUICK[2:], "--json", str(data), "--resume")
    assert code == 2
    assert "was measured with another quick (True; now False): give a new file with --json" in log

    document["schedule"]["settings"]["Q"] = "batch 1, steps 1, hidden 1"
    data.write_text(json.dumps(document))
    code, _, log = _run(capsys, *QUICK, "--json", str(data), "--resume")
    assert code == 2
    assert "was measured with another setting Q (batch 1, steps 1, hidden 1; now batch 32, " in log


@pytest.mark.slow
def test_what_could_not_be_measured_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "--quick", "--backends", "numpy", "--models", "rnn", "--timeout", "0.001"]
    code, printed, _ = _run(capsys, *argv)
    assert code == 2
    assert "no end after 0.001 s" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--settings", "X"], "unknown setting 'X': choose from M, C, L, W, W33, Q"),
        (["--settings", ","], "--settings names nothing"),
        (["--models", "rnn,transformer"], "unknown model 'transformer'"),
        (["--backends", "pandas"], "unknown backend 'pandas'"),
        (["--rounds", "0"], "--rounds is 0: it must be at least 1"),
        (["--threads", "0"], "--threads is 0: it must be at least 1"),
        (["--seconds", "0"], "--seconds is 0.0: it must be above 0"),
        (["--timeout", "-1"], "--timeout is -1.0: it must be above 0"),
        (["--patience", "-1"], "--patience is -1.0: it must be 0 or above"),
        (["--resume"], "--resume goes on with the results in the file of --json: give --json as well"),
        (["--json", "/nowhere/bench.json"], "--json /nowhere/bench.json cannot be written"),
        (["--html", "/nowhere/bench.html"], "--html /nowhere/bench.html cannot be written"),
    ],
)
def test_wrong_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    code, printed, log = _run(capsys, "bench", "--quick", *argv)
    assert code == 2
    assert printed == ""
    assert log.startswith(f"d2lrnn: {message}")
    assert log.count("\n") == 1


def test_going_on_with_something_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text("not JSON")
    code, _, log = _run(capsys, *QUICK, "--json", str(file), "--resume")
    assert code == 2
    assert "cannot be read as a benchmark's results" in log


SCRIPT = Path(__file__).parents[2] / "benchmarks" / "run.py"


def test_the_script_writes_a_report_again_without_measuring(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    models = (find_model("rnn"),)
    document = new_document(Schedule((find_setting("C"),), models, rounds=1))
    row = {
        "name": "numpy",
        "kind": "backend",
        "framework": "numpy",
        "setting": "C",
        "model": "rnn",
        "round": 1,
    }
    document["rows"] = [row | {"status": "ok", "steps": [0.0125] * 3}]
    document["machine"]["processor"] = "Another machine's"
    file.write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--report", "--json", str(file)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(file.read_text()) == document
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kept-C.svg", "kept.html", "kept.json", "kept.md"
    ]  # fmt: skip
    for name in ("kept.html", "kept.md"):
        assert "Another machine's" in unescape((tmp_path / name).read_text())
        assert "12.5 (12.5–12.5)" in (tmp_path / name).read_text()


def test_the_script_reports_errors_in_one_line() -> None:
    for argv, message in (
        (["--report", "--json", "/nowhere/bench.json"], "/nowhere/bench.json cannot be read"),
        (["--env", "numpy"], "--env numpy: it must be a backend and an interpreter"),
        (["--env", "numpy=python", "--backends", "torch"], "no environment for torch"),
    ):
        done = subprocess.run([sys.executable, str(SCRIPT), *argv], capture_output=True, text=True)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
