"""The tests of the book's names run on one backend a process, named by D2LRNN_BACKEND."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from book_imports import UNUSED, Nothing
from small_data import write_data_sets

from d2lrnn.book.data_sets import DATA_HUB
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


class _OnKeras2(ModuleType):
    """TensorFlow with the Keras that the book was written for."""

    def __init__(self, keras: ModuleType) -> None:
        super().__init__("tensorflow")
        self.keras, self._tensorflow = keras, import_module("tensorflow")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensorflow, name)


@pytest.fixture(scope="session")
def load_book(entry: BackendEntry) -> Callable[[str], Any]:
    """From an edition, ``current`` or ``first``, to the book's own package for this tab."""
    folder = os.environ.get("D2LRNN_BOOK_PACKAGES")
    if not folder:
        pytest.skip("D2LRNN_BOOK_PACKAGES names no folder with the book's packages")

    @cache
    def load(edition: str) -> Any:
        file = Path(folder) / edition / "d2l" / f"{entry.name}.py"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _load(file, entry.name, Path(folder))

    return load


def _load(file: Path, name: str, folder: Path) -> ModuleType:
    import_module("matplotlib").use("Agg")
    if name == "jax":  # the name of an annotation, which today's JAX has no more
        random = import_module("jax").random
        random.PRNGKeyArray = import_module("jax").Array
    found = {each: import_module(each) for each in UNUSED if find_spec(each.partition(".")[0])}
    stand_ins: dict[str, ModuleType] = {each: Nothing(each) for each in UNUSED if each not in found}
    if name == "tensorflow":
        stand_ins["tensorflow"] = _OnKeras2(_keras_2(folder))
    kept = {each: sys.modules[each] for each in stand_ins if each in sys.modules}
    spec = spec_from_file_location(f"book_{file.parts[-3]}_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules |= {**stand_ins, spec.name: module}
    try:
        spec.loader.exec_module(module)
    finally:
        for each in stand_ins:
            del sys.modules[each]
        sys.modules |= kept
    # Its cells call int() on an array of one element and one dimension, which NumPy has stopped converting.
    module.int = lambda value=0: int(np.asarray(value).item())  # type: ignore[attr-defined]  # a module's global
    return module


def _keras_2(folder: Path) -> ModuleType:
    if not (folder / "current" / "tf_keras").is_dir() and find_spec("tf_keras") is None:
        pytest.skip("tf_keras is missing, which the book's package needs: requirements/book.txt has it")
    sys.path.append(str(folder / "current"))
    try:
        return import_module("tf_keras")
    finally:
        sys.path.remove(str(folder / "current"))


@pytest.fixture(scope="module")
def numpy_semantics(entry: BackendEntry) -> Iterator[None]:
    """What the book's cells on MXNet begin with."""
    if entry.name != "mxnet":
        yield
        return
    npx = import_module("mxnet").npx
    npx.set_np()
    yield
    npx.reset_np()


@pytest.fixture(scope="session")
def _small_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, str]]]:
    folder = tmp_path_factory.mktemp("cache")
    (folder / "d2lrnn").mkdir()
    return folder, write_data_sets(folder / "d2lrnn")


@pytest.fixture
def small_data(_small_data: tuple[Path, dict[str, tuple[str, str]]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts small data sets in place of the book's under the names of ``DATA_HUB``; the folder they are in."""
    folder, entries = _small_data
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    for name, entry in entries.items():
        monkeypatch.setitem(DATA_HUB, name, entry)
    return folder / "d2lrnn"


@pytest.fixture(scope="session")
def current(load_book: Callable[[str], Any]) -> Any:
    """The book's own package, current edition."""
    return load_book("current")


@pytest.fixture(scope="session", params=["current", "first"])
def book(request: pytest.FixtureRequest, entry: BackendEntry, load_book: Callable[[str], Any]) -> Any:
    """The book's own package, of either edition."""
    if entry.name == "jax" and request.param == "first":
        pytest.skip("the first edition has no tab for JAX")
    return load_book(request.param)


@pytest.fixture(scope="session")
def first(entry: BackendEntry, load_book: Callable[[str], Any]) -> Any:
    """The book's own package, first edition."""
    if entry.name == "jax":
        pytest.skip("the first edition has no tab for JAX")
    return load_book("first")


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
