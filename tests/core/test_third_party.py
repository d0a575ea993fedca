"""A backend of another package as pip installs it: a package with its metadata, in a folder on sys.path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.cells import CELLS
from d2lrnn.errors import BackendNotInstalledError, UnknownBackendError
from d2lrnn.registry import backends, find_backend, tab

ADAPTER = """
from d2lrnn_numpy.adapter import NumpyBackend

class OwnBackend(NumpyBackend):
    name = "own"

    def versions(self):
        return {"own-framework": "7.1"}
"""

CELL = """
from dataclasses import replace
from d2lrnn.contract.cells import LSTM

CELL = replace(LSTM, name="own-cell", title="cell of our own")
"""

#: As installed by ``pip install own-rnn``, and a second one whose framework is not there.
FILES = {
    "own_rnn/__init__.py": "answer = 42",
    "own_rnn/adapter.py": ADAPTER,
    "own_rnn-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: own-rnn\nVersion: 1.0\n",
    "own_rnn-1.0.dist-info/entry_points.txt": "[d2lrnn.backends]\nown = own_rnn.adapter:OwnBackend\n"
    "misnamed = own_rnn.adapter:NoBackend\ngone = gone_rnn.inner.adapter:GoneBackend\n"
    "[d2lrnn.cells]\nown-cell = own_rnn.cell:CELL\n"
    "[d2lrnn.cells.numpy]\nown-cell = d2lrnn_numpy.formulas:LSTM\n",
    "own_rnn/cell.py": CELL,
    "single_rnn.py": ADAPTER.replace('"own"', '"single"') + "\nanswer = 42\n",
    "single_rnn-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: single-rnn\nVersion: 1.0\n",
    "single_rnn-1.0.dist-info/entry_points.txt": "[d2lrnn.backends]\nsingle = single_rnn:OwnBackend\n",
    "broken_rnn/__init__.py": "",
    "broken_rnn/adapter.py": "import a_framework_that_is_not_here",
    "broken_rnn-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: broken-rnn\nVersion: 1.0\n",
    "broken_rnn-1.0.dist-info/entry_points.txt": "[d2lrnn.backends]\nbroken = broken_rnn.adapter:Broken\n",
}

CHAPTER = """# A chapter

```{.python .input}
%%tab all
from d2l import own as d2l
tab.selected("own"), d2l.answer
```
"""

MARKED = CHAPTER.replace("%%tab all", "%%tab own") + "\n```{.python .input}\n%%tab pytorch\n1 / 0\n```\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    monkeypatch.syspath_prepend(folder)
    for module in ("own_rnn", "own_rnn.adapter", "broken_rnn", "broken_rnn.adapter", "single_rnn"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return folder


@pytest.mark.usefixtures("site")
def test_it_is_found_by_its_name() -> None:
    assert [entry.name for entry in backends()][-5:] == ["broken", "gone", "misnamed", "own", "single"]
    assert d2lrnn.backend("own").versions() == {"own-framework": "7.1"}
    assert d2lrnn.backend("OWN").name == "own"
    exec("from d2lrnn import own as d2l; assert d2l.answer == 42")
    assert (tab("own").__name__, tab("single").__name__) == ("own_rnn", "single_rnn")
    with pytest.raises(
        UnknownBackendError, match=r"choose one of torch, .*, numpy, broken, gone, misnamed, own, single"
    ):
        find_backend("other")


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "the backend broken cannot be imported: ModuleNotFoundError: No module named 'a_"),
        ("broken", "Install what is missing, or mend its installation: pip install broken-rnn"),
        ("gone", "needs gone_rnn, which is not installed here. Install it with: pip install gone-rnn"),
        ("misnamed", "its package announces own_rnn.adapter:NoBackend, but own_rnn.adapter has no NoBackend"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_says_why(name: str, message: str) -> None:
    with pytest.raises(BackendNotInstalledError) as raised:
        d2lrnn.backend(name)
    assert message in str(raised.value)


def test_the_command_line_trains_and_lists_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["backends"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "own works: own-framework 7.1 devices: cpu (NumPy on this computer)" in printed
    assert "broken cannot be used: ModuleNotFoundError: No module named 'a_framework" in printed
    assert "gone not installed pip install gone-rnn" in printed
    monkeypatch.setenv("D2LRNN_BACKEND", "own")
    result = tmp_path / "result.json"
    options = ["--num-train", "60", "--num-val", "20", "--steps", "8", "--epochs", "1", "--batch-size", "20"]
    assert main(["train", *options, "--out", str(tmp_path / "run"), "--json", str(result)]) == 0
    assert "backend  own (own-framework 7.1) on cpu" in capsys.readouterr().out
    assert json.loads(result.read_text())["backend"] == "own"
    monkeypatch.setenv("D2LRNN_BACKEND", "numpy")
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    assert "trained with own" in capsys.readouterr().out


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("name", ["own", "single"])
@pytest.mark.parametrize("content", [CHAPTER, MARKED], ids=["for all tabs", "marked for it"])
def test_a_chapter_runs_on_its_tab(
    name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chapter.md"
    path.write_text(content.replace("own", name))
    assert main(["chapter", str(path), "--tab", name]) == 0
    printed = capsys.readouterr().out
    assert f"tab {name}\nbackend  {name} (own-framework 7.1)\n" in printed
    assert "value   (True, 42)" in printed
    assert "1 of 1 cells ran" in printed


@pytest.mark.usefixtures("site")
def test_a_chapter_for_other_tabs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chapter.md"
    path.write_text("```{.python .input}\n%%tab pytorch, mxnet\n1\n```\n" + CHAPTER)
    assert main(["chapter", str(path), "--tab", "own"]) == 2
    assert "has no code for the tab own: it has pytorch, mxnet" in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_measures_it(site: Path, tmp_path: Path) -> None:
    """In processes of its own, which find it as this one does."""
    result = tmp_path / "bench.json"
    options = ["--quick", "--backends", "own,single", "--models", "rnn-scratch", "--seconds", "0.05"]
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "d2lrnn", "bench", *options, "--json", str(result)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(result.read_text())["rows"]
    found = [(row["name"], row["status"], row["versions"]["own-framework"]) for row in rows]
    assert found == [("own", "ok", "7.1"), ("single", "ok", "7.1")]


@pytest.mark.usefixtures("site")
def test_the_benchmark_refuses_one_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--backends", "gone"]) == 2
    assert "pip install gone-rnn" in capsys.readouterr().err


def test_the_command_line_trains_a_cell_of_another_package(site: Path, tmp_path: Path) -> None:
    """In a process of its own: the cells of other packages are looked for once in each."""
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["--num-train", "60", "--num-val", "20", "--steps", "8", "--epochs", "1"]
    options += ["--out", str(tmp_path / "run")]

    def run(*argv: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "d2lrnn", *argv],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, printed = run("train", "--cell", "own-cell", *options)
    assert code == 0, printed
    assert "model    scratch cell of our own, 1 layer of 32 hidden units" in printed
    assert run("train", "--resume", str(tmp_path / "run"), "--epochs", "2")[0] == 0
    code, printed = run("train", "--cell", "other")
    assert code == 2
    assert printed.endswith(f"choose one of {', '.join(CELLS)}, own-cell\n")
