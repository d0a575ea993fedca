"""The tests of ports run on one framework a process, named by D2LRNN_BACKEND; its modules are beside them."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

import pytest

#: Files of the others are tried in tests/backends, as their formats are many.
FILES_TRIED_HERE = ("torch", "tensorflow", "onnx")
collect_ignore = [] if os.environ.get("D2LRNN_BACKEND") in FILES_TRIED_HERE else ["test_files.py"]


@pytest.fixture(scope="session")
def framework() -> ModuleType:
    name = os.environ.get("D2LRNN_BACKEND")
    if not name:
        pytest.fail("the tests of ports need D2LRNN_BACKEND: run them with nox, or name a backend")
    return import_module(f"ports.{name}_modules")
