"""The book's chapters that lie in the folder D2LRNN_CHAPTERS: every cell of every tab, unmodified."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import Chapter

FOLDER = os.environ.get("D2LRNN_CHAPTERS")
FILES = sorted(Path(FOLDER).glob("*.md")) if FOLDER else []


@pytest.mark.skipif(not FILES, reason="D2LRNN_CHAPTERS names no folder of chapters")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_cell_runs(file: Path, d2l: ModuleType, tab_name: str) -> None:
    chapter = Chapter(file)
    if tab_name not in chapter.tabs:
        pytest.skip(f"{file.name} has no code for {tab_name}")
    library, restored = load_tab(tab_name)
    assert library is d2l
    run = run_chapter(chapter, tab_name, library, restored=restored, epochs=2)
    assert [result.error for result in run.failed] == []
    assert len(run.results) == len(chapter.cells(tab_name))
