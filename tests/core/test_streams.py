"""Output that cannot be written or shown costs no result."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from d2lrnn.saving.run_folder import load_run

TRAIN = [
    sys.executable, "-m", "d2lrnn", "train", "--hidden", "4", "--num-train", "64", "--num-val", "32",
    "--batch-size", "32", "--epochs", "2",
]  # fmt: skip


def _in_a_shell(redirection: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{shlex.join(words)} {redirection}"],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(("redirection", "code", "message"), [
    ("2>/dev/full", 0, ""),
    ("2>&-", 0, ""),
    (">&-", 0, ""),
    (">&- 2>&-", 0, ""),
    (">/dev/full", 1, "d2lrnn: standard output cannot be written: No space left on device"),
    ("| true; exit ${PIPESTATUS[0]}", 1, ""),
])  # fmt: skip
@pytest.mark.parametrize("buffered", [True, False])
def test_the_run_and_the_result_are_written(
    redirection: str, code: int, message: str, buffered: bool, tmp_path: Path
) -> None:
    run, result = tmp_path / "run", tmp_path / "result.json"
    environment = {} if buffered else {"PYTHONUNBUFFERED": "1"}
    done = _in_a_shell(redirection, *TRAIN, "--out", str(run), "--json", str(result), **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    assert len(json.loads(result.read_text())["epochs"]) == len(load_run(run).history) == 2


def test_what_a_terminal_cannot_show_is_written_with_escapes(tmp_path: Path) -> None:
    text = tmp_path / "θ.txt"
    text.write_text("αβγ δεζ " * 200, encoding="utf-8")
    done = _in_a_shell("", *TRAIN, str(text), PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert "\\u03b8.txt: " in done.stdout
    assert "\\u03b1" in done.stdout


def test_a_text_whose_path_is_not_utf_8(tmp_path: Path) -> None:
    """It can be trained on, and not kept in a saved run."""
    text = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(text)).write_text("it has been said " * 100)
    done = subprocess.run([*TRAIN, text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "caf\\udce9.txt" in done.stdout
    done = subprocess.run(
        [*TRAIN, text, "--out", tmp_path / "run"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "caf\\udce9.txt' is not UTF-8, and cannot be kept in a saved run" in done.stderr
