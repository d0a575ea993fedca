"""Leaves a list of what was skipped where the noxfile asks for it, so that nothing is skipped in silence."""

from __future__ import annotations

import os
from collections.abc import Generator
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


def pytest_sessionfinish() -> None:
    path = os.environ.get("D2LRNN_SKIPPED_LIST")
    if path and _skipped:
        Path(path).write_text("\n".join(_skipped) + "\n", encoding="utf-8")
