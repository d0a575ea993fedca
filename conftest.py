"""What the noxfile asks for, a short form and a list of what was skipped, and what examples may use.

The short form, ``--every N``, has each N-th case of a test that has several. Which ones differs from test to
test, so that no cell and no optimiser is left out of all.

An example stands beside the class that it shows, in a module of the core or of a backend. It may use the
public names of `d2lrnn` and ``np``; in a backend also those of its tab, as a chapter does. What its own
module calls by one of these names comes first.
"""

from __future__ import annotations

import os
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

#: Where the examples find the chapters that they open.
CHAPTERS = Path(__file__).parent / "tests" / "book" / "chapters"

_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", type=int, default=1, metavar="N", help="run each N-th case of a test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    every = config.getoption("--every")
    names = [item.nodeid.partition("[")[0] for item in items]
    numbers, sizes = Counter[str](), Counter(names)
    chosen, others = [], []
    for item, name in zip(items, names, strict=True):
        first = zlib.crc32(name.encode()) % min(every, sizes[name])
        (chosen if numbers[name] % every == first else others).append(item)
        numbers[name] += 1
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skipped.append(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get("D2LRNN_SKIPPED_LIST")
    # Where several processes run the tests, the one that started them has the reports of all.
    if path and _skipped and not hasattr(session.config, "workerinput"):
        Path(path).write_text("\n".join(_skipped) + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def _example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    example = request.node.dtest
    source = "".join(each.source for each in example.examples)
    if "TimeMachine(" in source and not os.environ.get("D2LRNN_DATA"):
        pytest.skip("the novel is not here: D2LRNN_DATA names no folder with timemachine.txt")
    if '"bpe"' in source and find_spec("tokenizers") is None:
        pytest.skip("needs the package tokenizers")
    for name, value in _names(example.globs["__name__"].partition(".")[0]).items():
        example.globs.setdefault(name, value)
    folder = tmp_path_factory.mktemp("example")
    if "Chapter(" in source:
        shutil.copytree(CHAPTERS, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def _names(package: str) -> dict[str, Any]:
    core = import_module("d2lrnn")
    names = {"np": import_module("numpy"), "d2lrnn": core}
    names |= {name: getattr(core, name) for name in core.__all__}
    if package != "d2lrnn":
        tab = import_module(package)
        names |= {name: getattr(tab, name) for name in tab.__all__}
    return names
