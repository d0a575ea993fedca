"""The parity tests run on one backend a process, named by D2LRNN_BACKEND; NumPy in float64 is the judge."""

from __future__ import annotations

import os

import pytest

import d2lrnn
from d2lrnn.contract.protocols import Backend


@pytest.fixture(scope="session")
def backend() -> Backend:
    name = os.environ.get("D2LRNN_BACKEND")
    if not name:
        pytest.fail("the parity tests need D2LRNN_BACKEND: run them with nox, or name a backend")
    return d2lrnn.backend(name)


@pytest.fixture(scope="session")
def reference() -> Backend:
    return d2lrnn.backend("numpy")
