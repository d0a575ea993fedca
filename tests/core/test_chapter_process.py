"""Whatever a cell does to its process: the others run or are said not to, and the results are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli import chapter_process
from d2lrnn.cli.main import main

#: What a cell can do to end its process, and how that is reported.
ENDS = {
    "import os\nos._exit(0)": "exit code 0",
    "import os\nos._exit(3)": "exit code 3",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)": "signal SIGKILL",
    "import ctypes\nctypes.string_at(0)": "signal SIGSEGV",
    # The connection to the command is among them.
    "import os\nos.closerange(3, 256)": "exit code 1",
    # A process that lives on, and holds the connection.
    "import os, time\nif os.fork():\n    os._exit(4)\ntime.sleep(20)\nos._exit(0)": "exit code 4",
    # One of these is what the command reads.
    "import os\nfor descriptor in range(3, 40):\n    try:\n        os.write(descriptor, b'7\\n')\n"
    "    except OSError:\n        pass\nwhile True: pass": "signal SIGKILL",
}


def _write(folder: Path, *cells: str) -> str:
    path = folder / "chapter.md"
    blocks = [f"```{{.python .input}}\n#@tab numpy\n{cell}\n```\n" for cell in cells]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return str(path)


def _run(folder: Path, *cells: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the results of the cells as ``--json`` has them."""
    result = folder / "result.json"
    code = main(["chapter", _write(folder, *cells), "--tab", "numpy", "--json", str(result)])
    return code, json.loads(result.read_text())


@pytest.mark.parametrize("cell", ENDS)
def test_a_cell_that_ends_the_process(cell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, cells = _run(tmp_path, "1", f"print('before')\n{cell}", "3", "4")
    printed, log = capfd.readouterr()
    assert code == 2
    assert [each["ok"] for each in cells] == [True, False]
    assert cells[1]["error"] == f"cell 2: its process ended with {ENDS[cell]}"
    # Some Pythons warn of a fork.
    assert cells[1]["printed"].startswith("before\n")
    assert "1 of 4 cells ran" in printed
    assert "not run  cells 3 to 4\n" in printed
    assert log.endswith(f"d2lrnn: {cells[1]['error']}\n")


def test_the_notebook_has_what_was_done(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    out = tmp_path / "made.ipynb"
    path = _write(tmp_path, "print('one')\n1", "print('two')\nimport os\nos._exit(0)", "3")
    assert main(["chapter", path, "--tab", "numpy", "--save-notebook", str(out)]) == 2
    _, first, second, third = nbformat.read(out, as_version=4).cells
    assert [output.output_type for output in first.outputs] == ["stream", "execute_result"]
    printed, error = second.outputs
    assert printed.text == "two\n"
    assert error.evalue == "cell 2: its process ended with exit code 0"
    assert (third.outputs, third.execution_count) == ([], None)


def test_a_result_that_cannot_be_written_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell removes the folder in which the command stands, and the one of a result."""
    pytest.importorskip("nbformat")
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path, out = (
        _write(tmp_path, f"import shutil\nshutil.rmtree({str(folder)!r})", "2"),
        tmp_path / "made.ipynb",
    )
    argv = ["chapter", path, "--tab", "numpy", "--json", "result.json", "--save-notebook", str(out)]
    assert main(argv) == 2
    printed, log = capsys.readouterr()
    assert "2 of 2 cells ran" in printed
    assert f"--json {folder / 'result.json'} cannot be written" in log
    assert out.exists()


def test_an_expression_that_no_compiler_takes(tmp_path: Path) -> None:
    code, cells = _run(tmp_path, "def f():\n    return 1", "+".join(["1"] * 50_000), "import inspect\n"
                       "inspect.getsource(f)")  # fmt: skip
    assert code == 2
    # Some compilers say so, and others crash.
    assert [each["ok"] for each in cells] in ([True, False, True], [True, False])
    assert all(each["value"] == repr("def f():\n    return 1\n") for each in cells[2:])


@pytest.mark.parametrize(
    "cell",
    [
        "raise BaseException('out')",
        "class Own(Exception):\n    def __str__(self): raise self\nraise Own",
        "import os\nos.environ.clear()",
        "import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')",
        "import sys\nsys.stdout = sys.stderr = sys.__stdout__ = sys.stdin = None",
        "import sys\nsys.modules.clear()",
        "import threading, time\nthreading.Thread(target=time.sleep, args=[3600]).start()",
        "import os\nif os.fork() == 0:\n    print('a copy')\nelse:\n    os.wait()",
        "import os\nos.write(1, b'not what the command reads')",
        "try:\n    input()\nexcept EOFError:\n    print('nobody is there')",
    ],
)
def test_the_cells_behind_it_run(
    cell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapter_process, "_SECONDS_TO_END", 0.5)
    code, cells = _run(tmp_path, cell, "print('after')\n6 * 7")
    printed, _ = capfd.readouterr()
    fails = "raise" in cell and "except" not in cell
    assert code == (2 if fails else 0)
    assert [each["ok"] for each in cells] == [not fails, True]
    assert (cells[1]["printed"], cells[1]["value"]) == ("after\n", "42")
    assert "not run" not in printed
    assert "a copy" not in cells[0]["printed"]


def test_a_tab_that_cannot_be_loaded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ends before there is a cell."""
    site = tmp_path / "site"
    (site / "own_rnn-1.0.dist-info").mkdir(parents=True)
    (site / "own_rnn.py").write_text("import os\nos._exit(5)\n")
    (site / "own_rnn-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1\n")
    points = site / "own_rnn-1.0.dist-info" / "entry_points.txt"
    points.write_text("[d2lrnn.backends]\nown = own_rnn:Own\n")
    monkeypatch.syspath_prepend(site)
    path = tmp_path / "chapter.md"
    path.write_text("```{.python .input}\n#@tab own\n1\n```\n")
    assert main(["chapter", str(path), "--tab", "own"]) == 2
    printed, log = capfd.readouterr()
    assert (printed, log) == (
        "",
        "d2lrnn: the tab own cannot be loaded: its process ended with exit code 5\n",
    )


def test_the_process_finds_the_modules_of_the_command_and_no_others(tmp_path: Path) -> None:
    """A module in the folder that one stands in must not take the place of one that it begins with."""
    (tmp_path / "json.py").write_text("raise SystemExit(9)\n")
    path = _write(tmp_path, "1")
    code = "import sys\nsys.path.remove('')\nfrom d2lrnn.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "chapter", path, "--tab", "numpy"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_standard_output_can_be_the_result(tmp_path: Path) -> None:
    """What a cell writes past Python does not get into it."""
    path = _write(tmp_path, "import os\nos.system('echo from a shell')", "7")
    done = subprocess.run(
        [sys.executable, "-m", "d2lrnn", "chapter", path, "--tab", "numpy", "--json", "-"],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [cell["value"] for cell in json.loads(done.stdout)] == ["0", "7"]
    assert "from a shell" in done.stderr
