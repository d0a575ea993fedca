"""``d2lrnn chapter`` as a person meets it, on the NumPy tab: no framework is needed here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from d2lrnn.chapters import notebook
from d2lrnn.cli.main import main

GOOD = "from d2l import numpy as d2l\nprint('hello')\nnum_epochs = 9\nd2l.num_gpus(), num_epochs"

#: A process of the command. A shell starts what it puts into the background with SIGINT ignored, and a child
#: inherits that.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from d2lrnn.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _no_backend_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D2LRNN_BACKEND", raising=False)


def _write(folder: Path, *cells: str) -> str:
    path = folder / "chapter.md"
    blocks = [f"```{{.python .input}}\n#@tab numpy\n{cell}\n```\n" for cell in cells]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main(["chapter", *argv])
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _begun(path: str, *options: str) -> subprocess.Popen[str]:
    """The command in a process of its own, when a cell has printed ``busy``."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "chapter", path, "--tab", "numpy", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while (line := process.stdout.readline()).strip() != "busy":
        assert line, "the command ended before the cell was busy"
    return process


def test_every_cell_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD, "print('no end', end='')")
    code, printed, log = _run(capsys, path, "--tab", "numpy", "--epochs", "3")
    assert (code, log) == (0, "")
    lines = [line for line in printed.splitlines() if not line.startswith("    time    ")]
    assert lines[0] == f"chapter  {path}, tab numpy"
    assert lines[1].startswith("backend  numpy (numpy ")
    assert lines[2:-1] == [
        "",
        "cell 1 of 2, line 2: from d2l import numpy as d2l",
        "hello",
        "    value   (0, 3)",
        "",
        "cell 2 of 2, line 10: print('no end', end='')",
        "no end",
        "",
    ]
    assert lines[-1].startswith("2 of 2 cells ran, in ")


def test_failed_cells_are_reported_and_the_others_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    path = _write(tmp_path, "1 / 0", GOOD, "d2l.nonsense")
    code, printed, log = _run(capsys, path, "--tab", "numpy", "--json", str(result))
    assert code == 2
    assert "1 of 3 cells ran" in printed
    assert "    failed  cell 1, line 3: ZeroDivisionError: division by zero\n" in printed
    assert log.splitlines() == [
        "d2lrnn: cell 1, line 3: ZeroDivisionError: division by zero",
        "d2lrnn: cell 3, line 16: needs d2l.nonsense, which the tab numpy does not have",
    ]
    data = json.loads(result.read_text())
    assert [list(cell) for cell in data] == [
        ["cell", "ok", "seconds", "value", "printed", "error", "capped"]
    ] * 3
    assert [cell["cell"] for cell in data] == [1, 2, 3]
    assert [cell["ok"] for cell in data] == [False, True, False]
    assert data[1]["value"] == "(0, 9)"
    assert data[1]["printed"] == "hello\n"


def test_ctrl_c_keeps_the_results_so_far(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    path = _write(tmp_path, GOOD, "raise KeyboardInterrupt", "2")
    code, printed, log = _run(capsys, path, "--tab", "numpy", "--json", str(result))
    assert code == 130
    assert "1 of 3 cells ran" in printed
    assert log == "d2lrnn: interrupted in cell 2\n"
    assert [cell["ok"] for cell in json.loads(result.read_text())] == [True, False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_signal_itself_ends_a_busy_cell(number: signal.Signals, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    path = _write(tmp_path, "1", "print('busy')\nwhile True: pass", "3")
    process = _begun(path, "--json", str(result))
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert log == "d2lrnn: interrupted in cell 2\n"
    cells = json.loads(result.read_text())
    assert [cell["ok"] for cell in cells] == [True, False]
    assert cells[1]["printed"] == "busy\n"


def test_a_cell_that_handles_ctrl_c_gets_it_once(tmp_path: Path) -> None:
    cell = (
        "import time\ntry:\n    print('busy')\n    while True: time.sleep(0.01)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.3)"
    )
    process = _begun(_write(tmp_path, cell, "8"))
    process.send_signal(signal.SIGINT)
    printed, log = process.communicate(timeout=60)
    assert (process.returncode, log) == (0, "")
    assert "2 of 2 cells ran" in printed


def test_the_cells_end_with_the_command(tmp_path: Path) -> None:
    process = _begun(_write(tmp_path, "print('busy')\nwhile True: pass"))
    process.kill()
    # It is read to its end when nobody holds it any more, the process of the cells neither.
    process.communicate(timeout=60)


def test_figures_are_reported_and_saved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    nbformat = pytest.importorskip("nbformat")
    out = tmp_path / "made.ipynb"
    code = "import matplotlib.pyplot as plt\nplt.figure(figsize=(3, 2), dpi=50)\nplt.plot([1, 2]);"
    argv = [_write(tmp_path, code), "--tab", "numpy", "--save-notebook", str(out)]
    code_, printed, _ = _run(capsys, *argv)
    assert code_ == 0
    assert "    figure  " in printed
    assert f"saved    {out}\n" in printed
    made = nbformat.read(out, as_version=4)
    assert [output.output_type for output in made.cells[1].outputs] == ["display_data"]


def test_the_tab_can_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "1")
    monkeypatch.setenv("D2LRNN_BACKEND", "numpy")
    assert "tab numpy" in _run(capsys, path)[1]
    monkeypatch.setenv("D2LRNN_BACKEND", "jax")
    assert "no code for the tab jax: it has numpy" in _run(capsys, path)[2]
    assert "tab numpy" in _run(capsys, path, "--tab", "numpy")[1]
    monkeypatch.setenv("D2LRNN_BACKEND", "torch")
    assert "no code for the tab pytorch: it has numpy" in _run(capsys, path)[2]


def test_what_is_wrong_is_reported_before_the_first_cell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "print('ran')")
    nowhere = str(tmp_path / "nowhere" / "file")
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    wrong = {
        (path,): "no tab was chosen: give --tab and one of numpy",
        (path, "--tab", "nonsense"): "unknown backend 'nonsense'",
        (path, "--tab", "numpy", "--epochs", "0"): "--epochs is 0",
        (path, "--tab", "numpy", "--json", nowhere): "--json",
        (path, "--tab", "numpy", "--save-notebook", nowhere): "--save-notebook",
        (path, "--tab", "numpy", "--save-notebook", str(tmp_path / "x")): "needs nbformat",
        (nowhere, "--tab", "numpy"): "cannot be read",
    }
    for argv, message in wrong.items():
        code, printed, log = _run(capsys, *argv)
        assert code == 2, argv
        assert message in log, argv
        assert log.count("\n") == 1, argv
        assert "ran" not in printed, argv


def test_a_terminal_without_the_letters_is_no_error(tmp_path: Path) -> None:
    path = _write(tmp_path, "print('é \N{GREEK SMALL LETTER ALPHA}')\n'ü'")
    done = subprocess.run(
        [sys.executable, "-m", "d2lrnn", "chapter", path, "--tab", "numpy"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\xe9 \\u03b1\n" in done.stdout


def test_the_help_says_that_a_chapter_is_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = _run(capsys, "--help")
    assert code == 0
    assert "runs on this machine with all your rights" in " ".join(printed.split())
