"""The tests of the book's names run on one backend a process, named by D2LRNN_BACKEND."""

from __future__ import annotations

import os
from types import ModuleType

import pytest

from d2lrnn.chapters import TAB_NAMES
from d2lrnn.registry import BackendEntry, find_backend, tab


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
