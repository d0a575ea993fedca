"""Closes figures behind every test, and leaves a list of what was skipped where the noxfile asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_skipped: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append(f"{item.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")
    return report


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def pytest_sessionfinish() -> None:
    path = os.environ.get("D2LRNN_SKIPPED_LIST")
    if path and _skipped:
        Path(path).write_text("\n".join(_skipped) + "\n", encoding="utf-8")
