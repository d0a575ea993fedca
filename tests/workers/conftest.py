"""Starts processes that are workers of the backend's own engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import d2lrnn
from d2lrnn.registry import engine_of
from d2lrnn.workers.engine import Engine, cores_of
from d2lrnn.workers.supervisor import Outcome, supervise

BACKEND = os.environ["D2LRNN_BACKEND"]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engine_of(BACKEND)


@pytest.fixture(scope="session")
def start(engine: Engine) -> Callable[..., Outcome]:
    """Runs a module of the tests in several processes."""

    def started(module: str, size: int, job: dict[str, Any]) -> Outcome:
        workers, servers = engine.environments(size)
        common = {"D2LRNN_BACKEND": BACKEND, **dict.fromkeys(engine.unset, "")}
        return supervise(
            module,
            [job] * size,
            [common | each for each in workers],
            [
                ({"role": role, "module": engine.server_module}, common | each)
                for role, each in zip(engine.server_roles, servers, strict=True)
            ],
            cores_of(size),
            engine.fatal,
        )

    return started


@pytest.fixture(scope="session")
def backend() -> Any:
    return d2lrnn.backend(BACKEND)
