"""``d2lrnn chapter`` on the command line. The tab is a stand-in: no framework is needed here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from d2lrnn.chapters import notebook
from d2lrnn.cli import chapter as command_chapter
from d2lrnn.cli.main import main
from d2lrnn.registry import backend

GOOD = "from d2l import torch as d2l\nprint('hello')\nnum_epochs = 9\nd2l.answer, num_epochs"


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("tab")
    module.__dict__["answer"] = 42
    monkeypatch.setattr(command_chapter, "load_tab", lambda name: (module, ()))
    monkeypatch.setattr(command_chapter, "backend", lambda name: backend("numpy"))
    monkeypatch.delenv("D2LRNN_BACKEND", raising=False)
    return module


def _write(folder: Path, *cells: str) -> str:
    path = folder / "chapter.md"
    blocks = [f"```{{.python .input}}\n#@tab pytorch\n{cell}\n```\n" for cell in cells]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main(["chapter", *argv])
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_cell_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD, "print('no end', end='')")
    code, printed, log = _run(capsys, path, "--tab", "pytorch", "--epochs", "3")
    assert (code, log) == (0, "")
    lines = [line for line in printed.splitlines() if not line.startswith("    time    ")]
    assert lines[0] == f"chapter  {path}, tab pytorch"
    assert lines[1].startswith("backend  numpy (numpy ")
    assert lines[2:-1] == [
        "",
        "cell 1 of 2, line 2: from d2l import torch as d2l",
        "hello",
        "    value   (42, 3)",
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
    code, printed, log = _run(capsys, path, "--tab", "pytorch", "--json", str(result))
    assert code == 2
    assert "1 of 3 cells ran" in printed
    assert "    failed  cell 1, line 3: ZeroDivisionError: division by zero\n" in printed
    assert log.splitlines() == [
        "d2lrnn: cell 1, line 3: ZeroDivisionError: division by zero",
        "d2lrnn: cell 3, line 16: needs d2l.nonsense, which the tab pytorch does not have",
    ]
    data = json.loads(result.read_text())
    assert [list(cell) for cell in data] == [["cell", "ok", "seconds", "value", "printed", "error"]] * 3
    assert [cell["cell"] for cell in data] == [1, 2, 3]
    assert [cell["ok"] for cell in data] == [False, True, False]
    assert data[1]["value"] == "(42, 9)"
    assert data[1]["printed"] == "hello\n"


def test_ctrl_c_keeps_the_results_so_far(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    path = _write(tmp_path, GOOD, "raise KeyboardInterrupt", "2")
    code, printed, log = _run(capsys, path, "--tab", "pytorch", "--json", str(result))
    assert code == 130
    assert "1 of 3 cells ran" in printed
    assert log == "d2lrnn: interrupted in cell 2\n"
    assert [cell["ok"] for cell in json.loads(result.read_text())] == [True, False]


def test_the_signal_itself_ends_a_busy_cell(tmp_path: Path) -> None:
    path = _write(tmp_path, "print('busy')\nwhile True: pass")
    # A shell starts what it puts into the background with SIGINT ignored, and a child inherits that.
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from types import ModuleType
from d2lrnn.cli.main import main
from d2lrnn.cli import chapter as command_chapter
from d2lrnn import registry
command_chapter.load_tab = lambda name: (ModuleType("tab"), ())
command_chapter.backend = lambda name: registry.backend("numpy")
raise SystemExit(main(["chapter", {path!r}, "--tab", "pytorch"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()).strip() != "busy":
        assert line, "the command ended before the cell was busy"
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 130
    assert log == "d2lrnn: interrupted in cell 1\n"


def test_figures_are_reported_and_saved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    nbformat = pytest.importorskip("nbformat")
    out = tmp_path / "made.ipynb"
    code = "import matplotlib.pyplot as plt\nplt.figure(figsize=(3, 2), dpi=50)\nplt.plot([1, 2]);"
    argv = [_write(tmp_path, code), "--tab", "pytorch", "--save-notebook", str(out)]
    code_, printed, _ = _run(capsys, *argv)
    assert code_ == 0
    assert "    figure  " in printed
    assert f"saved    {out}\n" in printed
    made = nbformat.read(out, as_version=4)
    assert [output.output_type for output in made.cells[0].outputs] == ["display_data"]


def test_the_tab_can_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "1")
    monkeypatch.setenv("D2LRNN_BACKEND", "torch")
    assert "tab pytorch" in _run(capsys, path)[1]
    monkeypatch.setenv("D2LRNN_BACKEND", "jax")
    assert "no code for the tab jax: it has pytorch" in _run(capsys, path)[2]
    assert "tab pytorch" in _run(capsys, path, "--tab", "torch")[1]
    monkeypatch.setenv("D2LRNN_BACKEND", "numpy")
    assert "no code for the tab numpy: it has pytorch" in _run(capsys, path)[2]


def test_what_is_wrong_is_reported_before_the_first_cell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "print('ran')")
    nowhere = str(tmp_path / "nowhere" / "file")
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    wrong = {
        (path,): "no tab was chosen: give --tab and one of pytorch, tensorflow, jax, mxnet",
        (path, "--tab", "nonsense"): "unknown backend 'nonsense'",
        (path, "--tab", "pytorch", "--epochs", "0"): "the number of epochs is 0",
        (path, "--tab", "pytorch", "--json", nowhere): "--json",
        (path, "--tab", "pytorch", "--save-notebook", nowhere): "--save-notebook",
        (path, "--tab", "pytorch", "--save-notebook", str(tmp_path / "x")): "needs nbformat",
        (nowhere, "--tab", "pytorch"): "cannot be read",
    }
    for argv, message in wrong.items():
        code, printed, log = _run(capsys, *argv)
        assert code == 2, argv
        assert message in log, argv
        assert log.count("\n") == 1, argv
        assert "ran" not in printed, argv


def test_a_terminal_without_the_letters_is_no_error(tmp_path: Path) -> None:
    path = _write(tmp_path, "print('é \N{GREEK SMALL LETTER ALPHA}')\n'ü'")
    code = f"""
from types import ModuleType
from d2lrnn.cli.main import main
from d2lrnn.cli import chapter as command_chapter
from d2lrnn import registry
command_chapter.load_tab = lambda name: (ModuleType("tab"), ())
command_chapter.backend = lambda name: registry.backend("numpy")
raise SystemExit(main(["chapter", {path!r}, "--tab", "pytorch"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
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
