"""The tests of the book's names run on one backend a process, named by D2LRNN_BACKEND."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from d2lrnn.chapters.source import TAB_NAMES
from d2lrnn.registry import BackendEntry, find_backend, tab

#: Files whose tests take the book's data set.
ON_THE_NOVEL = ("_training", "_own_chapters", "_packages")


@pytest.fixture(scope="session")
def entry() -> BackendEntry:
    name = os.environ.get("D2LRNN_BACKEND")
    if not name:
        pytest.fail("the tests of the book need D2LRNN_BACKEND: run them with nox, or name a backend")
    found = find_backend(name)
    assert isinstance(found, BackendEntry)
    return found


@pytest.fixture(scope="session")
def tab_name(entry: BackendEntry) -> str:
    """The book's name of the tab."""
    return next(name for name in TAB_NAMES if find_backend(name) is entry)


@pytest.fixture(scope="session")
def d2l(entry: BackendEntry) -> ModuleType:
    """What a chapter gets as ``d2l``."""
    return tab(entry.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains on the novel is skipped where no folder has it: a test does not fetch."""
    if os.environ.get("D2LRNN_DATA"):
        return
    missing = pytest.mark.skip(
        reason="the novel is not here: D2LRNN_DATA names no folder with timemachine.txt"
    )
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem.endswith(ON_THE_NOVEL):
            item.add_marker(missing)
