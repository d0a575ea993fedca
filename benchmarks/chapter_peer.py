"""The book's own packages in place of d2lrnn, as what a chapter's cells import: d2l 1.0.3 and 0.17.6.

They are loaded from the folders ``current`` and ``first`` of D2LRNN_BOOK_PACKAGES, unchanged but for the
data: downloads are d2lrnn's, whose checksums are those of the data that is here. Modules that they import for
other chapters are replaced by empty ones where they are missing. Nothing that a framework has dropped is put
back.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from d2lrnn.book import data_sets
from d2lrnn.errors import ChapterError

#: Tests load the packages, too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))


def load_package(edition: str, backend: str, ours: ModuleType) -> ModuleType:
    """The package of an edition, ``current`` or ``first``.

    Args:
        edition: the folder's name.
        backend: the tab's module in it.
        ours: d2lrnn's tab, which seeds the random numbers as it does for its own chapters.

    Raises:
        ChapterError: D2LRNN_BOOK_PACKAGES names no folder, or the package cannot be used.
    """
    folder = os.environ.get("D2LRNN_BOOK_PACKAGES")
    if not folder:
        raise ChapterError("D2LRNN_BOOK_PACKAGES must name the folder with the book's packages")
    if backend == "jax" and not find_spec("tensorflow"):
        raise ChapterError("its batches come from TensorFlow, which is not installed beside JAX")
    import_module("matplotlib").use("Agg")
    from book_imports import UNUSED, Nothing

    names = [name for name in UNUSED if name != backend]
    stand_ins = {name: Nothing(name) for name in names if not find_spec(name.partition(".")[0])}
    spec = spec_from_file_location(f"book_{edition}_{backend}", Path(folder, edition, "d2l", f"{backend}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules |= {**stand_ins, spec.name: module}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec.loader.exec_module(module)
    except Exception as error:
        raise ChapterError(f"the package cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        for name in stand_ins:
            del sys.modules[name]
    for name in ("download", "download_extract", "extract", "DATA_HUB"):
        setattr(module, name, getattr(data_sets, name))
    module.__dict__["seed_everything"] = ours.seed_everything
    if pairs := getattr(module, "MTFraEng", None):
        pairs._download = _pairs
    return module


def _pairs(self: Any) -> str:
    """What `MTFraEng._download` returns; the book's asks for the checksum of the real pairs."""
    return Path(data_sets.download_extract("fra-eng"), "fra.txt").read_text("utf-8")
