"""``d2lrnn bench --workers`` with the backend's own engine: checked, timed, reported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from workers.conftest import BACKEND

from d2lrnn.benchmark.workers import TURNS
from d2lrnn.cli.main import main


@pytest.mark.of_the_core
def test_two_workers_are_compared_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "workers.json"
    words = ["--settings", "5x4x32", "--models", "gru-scratch", "--rounds", "2", "--seconds", "0.05"]
    words += ["--workers", "2", "--backends", BACKEND, "--device", "cpu", "--json", str(kept)]
    assert main(["bench", "--quick", *words]) == 0
    (row,) = json.loads(kept.read_text())["rows"]
    for subject, what in TURNS:
        assert [len(of_round) for of_round in row["times"][subject][what]] == [3, 3]
    assert row["off_from_one"] <= 1e-6
    assert f"| 5x4x32 | {BACKEND} | gru-scratch |" in capsys.readouterr().out
    # What is there is not measured again.
    before = kept.read_text()
    assert main(["bench", "--quick", "--resume", *words]) == 0
    assert kept.read_text() == before
    assert main(["bench", "--quick", "--resume", "--json", str(kept)]) == 2
    assert "was measured with another workers (2; now None)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.of_the_core
def test_the_report_of_several_environments_names_its_command(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "run.py"
    words = ["--workers", "2", "--quick", "--settings", "4x3x32", "--models", "rnn"]
    places = ["--env", f"{BACKEND}={sys.executable}", "--json", str(tmp_path / "workers.json")]
    subprocess.run([sys.executable, str(script), *words, *places], check=True)
    report = (tmp_path / "workers.md").read_text()
    assert "`nox -s bench -- --workers 2 --settings 4x3x32 --models rnn`" in report
    assert f"| 4x3x32 | {BACKEND} | rnn |" in report
    assert "✗" not in report
