"""Notebooks as a source of cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.chapters.notebook_source import Part, read_notebook
from d2lrnn.chapters.source import Chapter
from d2lrnn.cli.main import main
from d2lrnn.errors import ChapterError, UnknownBackendError

PATH = Path("a.ipynb")


def _notebook(*cells: Any, nbformat: Any = 4) -> str:
    return json.dumps({"nbformat": nbformat, "nbformat_minor": 5, "metadata": {}, "cells": cells})


def test_text_and_code_in_order() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# A\n", "b"]},
        {"cell_type": "code", "source": "x = 1\r\nx", "outputs": [], "execution_count": None},
        {"cell_type": "raw", "source": "raw"},
    ]
    expected = [Part("# A\nb", False), Part("x = 1\nx", True), Part("raw", False)]
    assert read_notebook(_notebook(*cells), PATH) == expected


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("not JSON", "is no notebook: Expecting value"),
        ("[" * 100_000, "is no notebook"),
        ("[]", "is no notebook of format 4$"),
        (_notebook(nbformat=3), "of format 4 but of format 3: open and save it with Jupyter"),
        (_notebook(nbformat="4"), "is no notebook of format 4$"),
        ('{"nbformat": 4}', "has no list of cells"),
        (_notebook(7), "cell 1 has no source"),
        (_notebook({"cell_type": "code", "source": [1]}), "cell 1 has no source"),
    ],
)
def test_what_is_no_notebook(content: str, told: str) -> None:
    with pytest.raises(ChapterError, match=rf"a\.ipynb {told}|{told}"):
        read_notebook(content, PATH)


# ---- as chapters


def _chapter(tmp_path: Path, *cells: tuple[str, str]) -> Chapter:
    path = tmp_path / "a.ipynb"
    path.write_text(_notebook(*({"cell_type": kind, "source": source} for kind, source in cells)))
    return Chapter(path)


def test_a_notebook_has_the_tab_that_it_imports(tmp_path: Path) -> None:
    for code, tab in {
        "from d2l import torch as d2l": "pytorch",
        "import torch\nfrom d2l import tensorflow as d2l": "tensorflow",
        "import d2l.jax as d2l": "jax",
        "import d2l": "mxnet",
        "from d2l import numpy as d2l": "numpy",
    }.items():
        chapter = _chapter(tmp_path, ("markdown", "# A"), ("code", code), ("code", "x = 1\nx"))
        assert chapter.tabs == (tab,)
        assert [part.source for part in chapter.parts(tab)] == ["# A", code, "x = 1\nx"]
    with pytest.raises(ChapterError, match="has no code for the tab jax: it has numpy"):
        chapter.cells("jax")
    with pytest.raises(ChapterError, match="does not import the book's package"):
        _chapter(tmp_path, ("code", "import torch"))
    with pytest.raises(ChapterError, match="has no code cells"):
        _chapter(tmp_path, ("markdown", "# A"))
    with pytest.raises(UnknownBackendError, match="unknown backend 'paddle'"):
        _chapter(tmp_path, ("code", "from d2l import paddle as d2l"))


def test_a_notebook_whose_cells_are_marked_is_read_as_the_book(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, ("code", "%%tab pytorch\n1"), ("code", "%%tab jax\n2"), ("code", "3"))
    assert chapter.tabs == ("pytorch", "jax")
    assert [cell.code.strip() for cell in chapter.cells("jax")] == ["2", "3"]


def test_commands_are_skipped_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2LRNN_BACKEND", "jax")  # the notebook's own tab counts
    path = tmp_path / "a.ipynb"
    cells = [
        "!pip install d2l==1.0.3",
        "%matplotlib inline\nfrom d2l import numpy as d2l\n%pip install x\nd2l.RNNLM",
        "y = [\n1]\nif y:\n    !ls\ny[1]",
    ]  # fmt: skip
    path.write_text(_notebook(*({"cell_type": "code", "source": source} for source in cells)))
    assert main(["chapter", str(path)]) == 2
    printed, log = capsys.readouterr()
    assert "cell 1 of 3, line 1: !pip install d2l==1.0.3\n    skipped !pip install d2l==1.0.3\n" in printed
    assert "    skipped %pip install x\n" in printed
    assert "    skipped !ls\n" in printed
    # Of an error the line in its cell is named.
    assert log.endswith("d2lrnn: cell 3, line 5: IndexError: list index out of range\n")
    assert "2 of 3 cells ran" in printed


def test_a_plain_import_has_the_names_of_its_framework(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ipynb"
    cells = ["from d2l import numpy", "import d2l\nd2l.RNNLM is numpy.RNNLM", "d2l.nothing"]
    path.write_text(_notebook(*({"cell_type": "code", "source": source} for source in cells)))
    assert main(["chapter", str(path)]) == 2
    printed, log = capsys.readouterr()
    assert "value   True\n" in printed
    assert log == "d2lrnn: cell 3, line 1: needs d2l.nothing, which the tab numpy does not have\n"


def test_what_is_saved_runs_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nbformat")
    first, second = tmp_path / "first.ipynb", tmp_path / "second.ipynb"
    source = tmp_path / "a.md"
    source.write_text(
        "# A\n:label:`sec_a`\n\n[**Sums**] as in :numref:`sec_a`\n\n"
        "```{.python .input}\n%%tab numpy\nfrom d2l import numpy as d2l\n1 + 1\n```\n"
    )
    assert main(["chapter", str(source), "--tab", "numpy", "--save-notebook", str(first)]) == 0
    cells = json.loads(first.read_text())["cells"]
    text = "".join(cells[1]["source"])
    assert text == '# A\n<a id="sec_a"></a>\n\n**Sums** as in [sec_a](#sec_a)'
    assert main(["chapter", str(first), "--save-notebook", str(second)]) == 0
    again = json.loads(second.read_text())["cells"]
    assert [cell["source"] for cell in again] == [cell["source"] for cell in cells]


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("train_iter, vocab = d2l.load_data_time_machine(32, 35)", True),
        ("d2l.train_ch8(net, train_iter, vocab, 1, 10, d2l.try_gpu())", True),
        ("data = d2l.TimeMachine(1024, 32)\nd2l.read_time_machine", False),
        ("class A(d2l.Module): pass", False),
        ("vocab = d2l.Vocab(['a'])", False),
        ("import d2l", True),
    ],
)
def test_which_edition_a_notebook_is_of(tmp_path: Path, code: str, first: bool) -> None:
    chapter = _chapter(tmp_path, ("code", "from d2l import torch as d2l"), ("code", code))
    assert chapter.of_first_edition == first
