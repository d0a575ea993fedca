"""The parity tests run on one backend a process, named by D2LRNN_BACKEND; the reference is float64."""

from __future__ import annotations

import os

import pytest
from parity.models import built_here

import d2lrnn
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import Model, Parameters
from d2lrnn.registry import BACKENDS


@pytest.fixture(scope="session")
def backend() -> Backend:
    name = os.environ.get("D2LRNN_BACKEND")
    if not name:
        pytest.fail("the parity tests need D2LRNN_BACKEND: run them with nox, or name a backend")
    found = d2lrnn.backend(name)
    return found if found.name in [entry.name for entry in BACKENDS] else _of_another_package(found)


def _of_another_package(backend: Backend) -> Backend:
    """One that may have few cells: where it does not claim to have the model of a test, that skips."""
    build = backend.build

    def build_or_skip(spec: ModelSpec, parameters: Parameters) -> Model:
        if not built_here(spec):
            pytest.skip(f"{backend.name} has no {spec.implementation} model of the cell {spec.cell}")
        return build(spec, parameters)

    backend.build = build_or_skip  # type: ignore[method-assign]
    return backend


@pytest.fixture(scope="session")
def reference() -> Backend:
    return d2lrnn.backend("numpy")
