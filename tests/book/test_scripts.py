"""``d2lrnn run``, and what a saved notebook begins with: the book's imports answered by this library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2lrnn.registry import BackendEntry

SCRIPT = """\
import sys
from d2l import {name} as d2l
import helper

def last():
    return d2l.nothing_like_this

print(__name__, sys.argv[1:], helper.VALUE, d2l.Vocab is __import__('d2lrnn').{name}.Vocab)
if sys.argv[1:]:
    last()
"""

FIRST = """\
from d2l import {name} as d2l
from d2l import {name}
assert d2l is {name}
vocab = d2l.Vocab(d2l.tokenize(['b b a']))
print(vocab.idx_to_token, d2l.count_corpus(['a', 'a']))
"""


def _run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def _notebook(path: Path, *sources: str) -> None:
    cells = [{"cell_type": "code", "source": source, "metadata": {}} for source in sources]
    path.write_text(json.dumps({"nbformat": 4, "cells": cells, "metadata": {}}))


def test_a_script_runs_as_by_python(tmp_path: Path, entry: BackendEntry) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "own.py"
    script.write_text(SCRIPT.format(name=entry.name))
    (script.parent / "helper.py").write_text("VALUE = 7\n")
    done = _run(tmp_path, "-m", "d2lrnn", "run", "scripts/own.py")
    assert (done.returncode, done.stdout) == (0, "__main__ [] 7 True\n")
    done = _run(tmp_path, "-m", "d2lrnn", "run", "scripts/own.py", "--epochs", "-5")
    assert (done.returncode, done.stdout) == (1, "__main__ ['--epochs', '-5'] 7 True\n")
    lines = [line for line in done.stderr.splitlines() if "^" not in line and "~" not in line]
    trace = lines[lines.index("Traceback (most recent call last):") :]
    assert trace[1].strip() == 'File "scripts/own.py", line 10, in <module>'
    assert trace[3].strip() == 'File "scripts/own.py", line 6, in last'
    assert trace[-1] == "AttributeError: d2l has no nothing_like_this"


def test_a_script_of_the_first_edition_has_its_vocabulary(tmp_path: Path, entry: BackendEntry) -> None:
    (tmp_path / "first.py").write_text(FIRST.format(name=entry.name))
    done = _run(tmp_path, "-m", "d2lrnn", "run", "first.py")
    assert (done.returncode, done.stdout) == (0, "['<unk>', 'b', 'a'] Counter({'a': 2})\n"), done.stderr


def test_a_plain_import_is_mxnet_s(tmp_path: Path, entry: BackendEntry) -> None:
    (tmp_path / "old.py").write_text("import d2l\nprint(d2l.try_gpu(99), d2l.plt.__name__)\n")
    done = _run(tmp_path, "-m", "d2lrnn", "run", "old.py")
    if entry.name == "mxnet":
        assert (done.returncode, done.stdout) == (0, "cpu(0) matplotlib.pyplot\n"), done.stderr
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert "pip install mxnet" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("kind", ["ipynb", "md"])
def test_cells_run_as_a_script(tmp_path: Path, entry: BackendEntry, tab_name: str, kind: str) -> None:
    sources = [
        f"from d2l import {entry.name} as d2l",
        "print(d2l.__name__)",
        "import sys\nsys.exit(3)",
        "1 / 0",
    ]
    if kind == "ipynb":
        _notebook(tmp_path / "own.ipynb", *sources)
    else:
        cells = [f"```{{.python .input}}\n%%tab all\n{source}\n```\n" for source in sources]
        (tmp_path / "own.md").write_text("\n".join(cells))
    tab = [] if kind == "ipynb" else ["--tab", tab_name]
    done = _run(tmp_path, "-m", "d2lrnn", "run", *tab, f"own.{kind}", D2LRNN_BACKEND="")
    assert (done.returncode, done.stdout) == (3, f"d2lrnn_{entry.name}\n"), done.stderr


def test_a_saved_notebook_runs_by_itself(tmp_path: Path, entry: BackendEntry, tab_name: str) -> None:
    if entry.name == "tensorflow":
        pytest.importorskip("nbformat", reason="nbformat is not installed here")
    sources = [
        "%load_ext d2lbook.tab\ntab.interact_select(['" + tab_name + "'])\n"
        f"from d2l import {entry.name} as d2l\n!pip install d2l==1.0.3\nnum_epochs = 500",
        f"assert tab.selected('{tab_name}')\nprint(d2l.__name__, num_epochs)",
    ]
    cells = [f"```{{.python .input}}\n%%tab all\n{source}\n```\n" for source in sources]
    (tmp_path / "own.md").write_text("# A title\n:label:`own`\n\n" + "\n".join(cells))
    words = ["--tab", tab_name, "--epochs", "2", "--save-notebook", "own.ipynb"]
    done = _run(tmp_path, "-m", "d2lrnn", "chapter", "own.md", *words)
    assert done.returncode == 0, done.stderr
    notebook = json.loads((tmp_path / "own.ipynb").read_text())
    assert notebook["metadata"]["d2lrnn"]["epochs"] == 2
    assert notebook["metadata"]["d2lrnn"]["capped"] == [1]
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code[0].splitlines()[1:3] == ["import d2lrnn", "d2lrnn.replace_d2l()"]
    # As Jupyter runs it: cell by cell in one scope, with no magic left that it would not know.
    assert not any(line.startswith(("!", "%")) for cell in code for line in cell.splitlines())
    done = _run(tmp_path, "-c", "\n".join(code))
    assert (done.returncode, done.stdout) == (0, f"d2lrnn_{entry.name} 500\n"), done.stderr
    # And again here, which adds nothing to it.
    done = _run(tmp_path, "-m", "d2lrnn", "chapter", "own.ipynb", "--save-notebook", "again.ipynb")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again.ipynb").read_text())
    assert ["".join(cell["source"]) for cell in again["cells"] if cell["cell_type"] == "code"] == code


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("own.txt", "", r"own.txt is no file that can be run: its name must end in .py, .ipynb or .md"),
        ("gone.py", None, "gone.py cannot be read: No such file or directory"),
        ("zh.py", "import d2lzh as d2l\n", "d2lzh is another library than the book's package d2l"),
        ("open.py", "x = (\n", "SyntaxError: '(' was never closed"),
        ("paddle.py", "from d2l import paddle as d2l\n", "d2l.paddle is not here: unknown backend 'paddle'"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(
    tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    done = _run(tmp_path, "-m", "d2lrnn", "run", name)
    assert done.returncode != 0
    assert told in done.stderr.splitlines()[-1]
    assert "d2lrnn/chapters/script.py" not in done.stderr
