"""Chapters written for this project: what the book's other recurrent chapters ask of a tab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import TAB_NAMES, Chapter
from d2lrnn.registry import find_backend

TAB = next(name for name in TAB_NAMES if find_backend(name) == find_backend(os.environ["D2LRNN_BACKEND"]))


#: Those with cells of this tab.
CHAPTERS = [
    chapter
    for chapter in map(Chapter, sorted((Path(__file__).parent / "chapters").glob("*.md")))
    if TAB in chapter.tabs
]


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.path.stem)
def test_every_cell_runs(chapter: Chapter) -> None:
    library, restored = load_tab(TAB)
    run = run_chapter(chapter, TAB, library, restored=restored, epochs=2)
    assert [result.error for result in run.failed] == []
    # A cell whose last value is a truth value says so of itself.
    assert "False" not in [result.value for result in run.results]
