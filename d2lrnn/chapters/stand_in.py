"""``import d2l`` answered by this library's tabs, for the rest of the process.

The book's package need not be installed; where it is, it is not imported. What a framework dropped and the
book's code needs is put back when the framework's tab is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

from d2lrnn.chapters.isolation import BOOK, FIRST_EDITION, is_book
from d2lrnn.chapters.runner import Restored, load_tab
from d2lrnn.chapters.source import FIRST_TAB, OTHER_LIBRARIES, other_library
from d2lrnn.errors import UnknownBackendError
from d2lrnn.registry import backends

#: Frameworks of the book's package that d2lrnn has no backend for.
_NOT_HERE = ("paddle",)


def replace_d2l(
    *,
    first_edition: bool = False,
    code: str | None = None,
    told: Callable[[Restored], object] = lambda restored: None,
) -> None:
    """From here on ``import d2l`` and ``from d2l import torch as d2l`` mean this library.

    A notebook or a script can begin with it. Inside a chapter that ``d2lrnn chapter`` runs it does nothing.

    Args:
        first_edition: whether names mean what they meant in the book's first edition, where the editions
            differ.
        code: the code that follows: of what a framework dropped, only what it needs is put back. None puts
            everything back.
        told: is called with everything that is put back.

    Example:
        >>> import d2lrnn
        >>> d2lrnn.replace_d2l()            # doctest: +SKIP
        >>> from d2l import torch as d2l    # doctest: +SKIP
    """
    if isinstance(sys.modules.get(BOOK), _Book) or getattr(sys.modules.get(BOOK), "of_chapter", False):
        return
    for name in [name for name in sys.modules if is_book(name)]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder(first_edition, code, told))
    sys.meta_path.append(_OtherLibraries())


class _Book(ModuleType):
    """The package ``d2l``; the first releases had the names of `FIRST_TAB` in the package itself."""

    def __getattr__(self, name: str) -> Any:
        # Python looks for a name here before it looks for a module of that name.
        if name.startswith("__") or name in _NOT_HERE or any(name == entry.name for entry in backends()):
            raise AttributeError(f"module {BOOK!r} has no attribute {name!r}")
        return getattr(import_module(f"{BOOK}.{FIRST_TAB}"), name)


class _Finder(MetaPathFinder, Loader):
    """Finds ``d2l``, and under it the tabs."""

    def __init__(self, first_edition: bool, code: str | None, told: Callable[[Restored], object]) -> None:
        self._first_edition, self._code, self._told = first_edition, code, told
        self._put_back = ExitStack()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for ``d2l`` and for all that is under it."""
        return spec_from_loader(name, self, is_package=name == BOOK) if is_book(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The package; a tab is a module that is there already, and takes the place of an empty one."""
        return _Book(BOOK) if spec.name == BOOK else None

    def exec_module(self, module: ModuleType) -> None:
        """Puts the tab where the import finds it.

        Raises:
            ImportError: there is no such tab, or its framework is missing.
        """
        name = module.__name__
        if name == BOOK:
            return
        try:
            library, restored = load_tab(name.removeprefix(f"{BOOK}."))
        except UnknownBackendError as error:
            raise ImportError(f"{name} is not here: {error}") from None
        if self._first_edition:
            for each, value in getattr(library, FIRST_EDITION, {}).items():
                setattr(library, each, value)
        for what in restored:
            if self._code is None or what.needed_in(self._code):
                self._put_back.enter_context(what.put_back())
                self._told(what)
        sys.modules[name] = library


class _OtherLibraries(MetaPathFinder):
    """Says of libraries that are taken for the book's package that they are others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, or an error for one of them; this finder is asked last.

        Raises:
            ModuleNotFoundError: it is one of them.
        """
        if name in OTHER_LIBRARIES:
            raise ModuleNotFoundError(other_library(name), name=name)
        return None
