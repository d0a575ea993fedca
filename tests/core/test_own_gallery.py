"""``benchmarks/chapters.py``: our own chapters, and the table of its table. Nothing is trained."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from d2lrnn.chapters.results import CellResult
from d2lrnn.chapters.runner import run_chapter
from d2lrnn.chapters.source import TAB_NAMES, Chapter

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHAPTERS = sorted((BENCHMARKS / "chapters").glob("*.md"))

#: Subject by subject, the tabs of the current edition's chapter and of the first edition's. The rest of the
#: recurrent chapters is the book's own text: RNN concise, deep RNN, and of the first edition RNN scratch.
SUBJECTS = {
    "text": "ptjm ptm",
    "sequence": "ptjm ptm",
    "rnn-scratch": "ptjm ",
    "rnn-concise": " t",
    "gru": "ptjm ptm",
    "lstm": "ptjm ptm",
    "deep-rnn": " ptm",
    "bidirectional": "ptjm pm",
    "translation-data": "ptjm ptm",
    "seq2seq": "ptjm ptm",
    "attention": "ptjm ptm",
    "sentiment": " pm",
}


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    specification = spec_from_file_location("chapters", BENCHMARKS / "chapters.py")
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "chapters", module)
    specification.loader.exec_module(module)
    return module


def test_every_subject_is_there() -> None:
    expected = {
        f"{subject}{end}.md": set(tabs)
        for subject, both in SUBJECTS.items()
        for end, tabs in zip(("", "-first"), both.split(" "), strict=True)
        if tabs
    }
    assert {path.name: {tab[0] for tab in Chapter(path).tabs} for path in CHAPTERS} == expected


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_parse(path: Path) -> None:
    chapter = Chapter(path)
    assert chapter.of_first_edition == path.stem.endswith("-first")
    for tab in chapter.tabs:
        cells = chapter.cells(tab)
        assert len(cells) > 1, tab
        for cell in cells:
            ast.parse(cell.code)
        code = "\n".join(cell.code for cell in cells)
        others = [name for name in TAB_NAMES if f"import {name.removeprefix('py')} as d2l" in code]
        assert others == [tab]


def test_figures_are_what_cells_print(gallery: ModuleType, tmp_path: Path) -> None:
    texts = ["# Title", "A GRU, 5 epochs.", "", "Its **translations**"]
    cells = [f"```{{.python .input}}\n%%tab pytorch\n{number}\n```" for number in range(4)]
    parts = [f"{text}\n\n{cell}" for text, cell in zip(texts, cells, strict=True)]
    (tmp_path / "a.md").write_text("\n\n".join(parts))
    chapter = Chapter(tmp_path / "a.md")
    printed = [
        "time traveller the\n",
        "time traveller said\nperplexity 1.25, 1234.5 tokens/sec on cpu\n",
        "loss 0.277, train acc 0.884, test acc 0.861\n99.5 examples/sec on [cpu]\n",
        "we go . => nous va .\nbleu 0.500, the mean of 2\nloss nan\n",
    ]
    results = tuple(
        CellResult(cell, 0.0, None, (("stdout", text),), ())
        for cell, text in zip(chapter.cells("pytorch"), printed, strict=True)
    )
    assert gallery.figures_of(chapter, "pytorch", results) == [
        {"of": "A GRU, 5 epochs", "figures": "perplexity 1.25"},
        {"of": "A GRU, 5 epochs", "figures": "loss 0.277, train acc 0.884, test acc 0.861"},
        {"of": "Its **translations**", "figures": "bleu 0.500, the mean of 2"},
        {"of": "Its **translations**", "figures": "loss nan"},
    ]
    failed = (*results[:2], replace(results[2], error="no"), results[3])
    assert [row["figures"] for row in gallery.figures_of(chapter, "pytorch", failed)] == ["perplexity 1.25"]


def entry(chapter: str, *figures: str, **values: Any) -> dict[str, Any]:
    rows = [{"of": each.split(": ")[0], "figures": each.split(": ")[1]} for each in figures]
    return {"chapter": chapter, "cells": 3, "ran": 3, "errors": [], "figures": rows} | values


def test_each_figure_stands_beside_that_of_the_books_package(gallery: ModuleType) -> None:
    documents = [
        {"backend": "jax", "own": [entry("gru.md", "GRU: loss 1")],
         "peer": [entry("gru.md", ran=0, errors=["the package cannot\nbe imported"])]},
        {"backend": "mxnet", "own": [entry("gru.md", "GRU: loss 2", ran=2, errors=["cell 3: no"], epochs=8)]},
        {"backend": "torch",
         "own": [entry("gru.md", "GRU: loss 3", "GRU: loss 4", "x: bleu 5", "y: bleu 8"), entry("a.md")],
         "peer": [entry("gru.md", "GRU: loss 6", "GRU: loss 7", errors=["cell 3: oh"], epochs=9)]},
    ]  # fmt: skip
    rows = [line for line in gallery.own_lines(documents) if line.startswith("| ")][1:]
    assert rows == [
        "| a.md | torch | 3/3 | shapes alone | – | not run |",
        "| gru.md | torch | 3/3 | GRU | loss 3 | loss 6 (9 epochs at most) |",
        "| | | | GRU | loss 4 | loss 7 (9 epochs at most) |",
        "| | | | x | bleu 5 | cell 3: oh |",
        "| | | | y | bleu 8 | as above |",
        "| gru.md | mxnet | 2/3 (8 epochs at most) | GRU | loss 2 | not run |",
        "| | | | failed | cell 3: no | |",
        "| gru.md | jax | 3/3 | GRU | loss 1 | the package cannot be imported |",
    ]


def test_a_chapter_that_runs_again_replaces_its_own_results(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "RESULTS", tmp_path)
    monkeypatch.setenv("D2LRNN_BACKEND", "numpy")
    (tmp_path / "chapters-numpy.json").write_text('{"chapters": [{"chapter": "book.md"}]}')
    for chapter, figure in (("a.md", "x: loss 1"), ("b.md", "x: loss 2"), ("a.md", "x: loss 3")):
        gallery._write("own", entry(chapter, figure))
    gallery._write("peer", entry("a.md", "x: loss 4"))
    document = gallery.json.loads((tmp_path / "chapters-numpy.json").read_text())
    assert document["chapters"] == [{"chapter": "book.md"}]
    assert document["own"] == [entry("a.md", "x: loss 3"), entry("b.md", "x: loss 2")]
    assert document["peer"] == [entry("a.md", "x: loss 4")]


def test_the_tables_of_this_repository_are_built(gallery: ModuleType) -> None:
    paths = sorted((BENCHMARKS / "results").glob("chapters-*.json"))
    documents = [gallery.json.loads(path.read_text()) for path in paths]
    assert {document["backend"] for document in documents} == set(gallery.BACKENDS)
    lines = [*gallery._book_lines(documents), "", *gallery.own_lines(documents)]
    assert "\n".join(lines) in (BENCHMARKS / "results" / "chapters.md").read_text(encoding="utf-8")


def test_half_a_chapter_is_no_result(gallery: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("```{.python .input}\n%%tab pytorch\nraise KeyboardInterrupt\n```\n")
    done = run_chapter(Chapter(tmp_path / "a.md"), "pytorch", ModuleType("d2l"))
    with pytest.raises(SystemExit):
        gallery._whole(done)
