"""The process as a chapter's cells see it, and as it was before once they have run.

To the cells, this process looks like a notebook's: they are ``__main__``, ``d2l`` is d2lrnn's tab, figures
are drawn into memory, and random numbers start from the same seed in every run. At the end, also after an
error, all of that is undone, and so is what cells change: the working folder, ``sys.argv``, ``sys.path``, the
environment, the warning filters, and methods that they add to the library's classes.
"""

from __future__ import annotations

import linecache
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from d2lrnn.chapters.source import Cell, Tab
from d2lrnn.registry import find_backend

#: The name of the book's package.
BOOK = "d2l"

#: The seed of a run, so that running a chapter twice gives the same.
_SEED = 0

#: A tab that has random numbers of its own offers a function of this name.
_SEED_FUNCTION = "seed_everything"

#: A tab has under this name what its names stand for in the first edition, where that is something else.
FIRST_EDITION = "FIRST_EDITION"


@contextmanager
def notebook_scope(
    path: Path, tab: str, library: ModuleType, *, of_first_edition: bool = False
) -> Iterator[dict[str, Any]]:
    """The scope in which a chapter's cells run.

    Args:
        path: the chapter.
        tab: the book's name of the tab.
        library: what the cells import as ``d2l``.
        of_first_edition: whether names of the library mean what they meant in that edition.
    """
    main = ModuleType("__main__")
    # Classes find their source by the file of their module: `inspect.getsource` needs it, and so do compilers
    # that read a function's source.
    main.__file__ = str(path)
    main.__dict__["tab"] = Tab(tab)
    name = find_backend(tab).name
    book = ModuleType(BOOK)
    book.__path__ = []
    # A notebook that begins with `d2lrnn.replace_d2l` is a chapter here.
    book.__dict__["of_chapter"] = True
    setattr(book, name, library)
    # The first releases had the names in the package itself.
    book.__dict__["__getattr__"] = partial(getattr, library)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(_modules({"__main__": main, BOOK: book, f"{BOOK}.{name}": library}))
        enter(_unchanged(library))
        if of_first_edition:
            for each, value in getattr(library, FIRST_EDITION, {}).items():
                setattr(library, each, value)
        enter(_lines(str(path)))
        enter(_process(path))
        enter(_random_numbers(library))
        enter(_figures_of_its_own())
        enter(_warnings(str(path)))
        yield main.__dict__


@contextmanager
def _modules(ours: dict[str, ModuleType]) -> Iterator[None]:
    """Answers imports with `ours`, hiding an installed ``d2l`` altogether."""
    theirs = {name: module for name, module in sys.modules.items() if name in ours or is_book(name)}
    for name in theirs:
        del sys.modules[name]
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name in ours or is_book(name)]:
            del sys.modules[name]
        sys.modules.update(theirs)


@contextmanager
def _unchanged(library: ModuleType) -> Iterator[None]:
    """Undoes what cells change in the library: ``add_to_class(d2l.Trainer)`` is for this chapter alone."""
    packages = {"d2lrnn", library.__name__.partition(".")[0]}
    names = {**vars(library), **getattr(library, FIRST_EDITION, {})}
    public = [value for value in names.values() if isinstance(value, type)]
    classes = {
        base for cls in public for base in cls.__mro__ if base.__module__.partition(".")[0] in packages
    }
    things: list[ModuleType | type] = [library, *classes]
    kept = [(thing, dict(vars(thing))) for thing in things]
    # Such as the table of data sets, to which chapters add their own.
    tables = [
        (value, dict(value))
        for name, value in vars(library).items()
        if type(value) is dict and not name.startswith("_")
    ]
    try:
        yield
    finally:
        for thing, before in kept:
            _restore(thing, before)
        for table, entries in tables:
            table.clear()
            table.update(entries)


def _restore(thing: ModuleType | type, before: dict[str, Any]) -> None:
    """Gives a module or a class the attributes that it had; submodules and Python's own attributes stay."""
    for name, value in dict(vars(thing)).items():
        pythons_own = isinstance(value, ModuleType) or (name.startswith("__") and not callable(value))
        if name not in before and not pythons_own:
            delattr(thing, name)
    for name, value in before.items():
        if vars(thing).get(name) is not value:
            setattr(thing, name, value)


def is_book(name: str) -> bool:
    """Whether a module is the book's package, or in it."""
    return name.split(".")[0] == BOOK


def list_lines(path: str, cell: Cell) -> None:
    """Gives tracebacks and `inspect` the code of a cell: the chapter's lines without its text.

    Only cells that are Python may be listed: another would keep `inspect` from finding the classes of all.
    """
    # Where there is no entry, this is the first cell, or one before it has emptied the cache.
    entry: Any = linecache.cache.get(path, (0, None, [], path))
    size, _, lines, _ = entry
    added = ["\n"] * (cell.line - 1 - len(lines)) + [line + "\n" for line in cell.code.split("\n")]
    lines += added
    # With no time of change the entry is not compared with a file.
    linecache.cache[path] = (size + sum(map(len, added)), None, lines, path)


@contextmanager
def _lines(path: str) -> Iterator[None]:
    """Lets `list_lines` list cells, until the end."""
    linecache.cache.pop(path, None)
    try:
        yield
    finally:
        linecache.cache.pop(path, None)


@contextmanager
def _process(path: Path) -> Iterator[None]:
    """Restores what cells can change of the process itself."""
    folder, argv, search, variables = _working_folder(), sys.argv, sys.path, dict(os.environ)
    folders = search[:]
    sys.argv = [str(path)]
    # Matplotlib reads it when it is imported, and then draws into memory.
    os.environ["MPLBACKEND"] = "Agg"
    try:
        yield
    finally:
        if folder is not None:
            with suppress(OSError):  # a cell can have removed it
                os.chdir(folder)
        sys.argv, sys.path = argv, search
        search[:] = folders
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


def _working_folder() -> str | None:
    """None where it was removed."""
    with suppress(OSError):
        return os.getcwd()
    return None


@contextmanager
def _warnings(path: str) -> Iterator[None]:
    """Shows the warnings of cells, as a notebook does; for other code the filters stay as they are."""

    def show(message: Warning | str, kind: type[Warning], file: str, line: int, *_: object) -> None:
        where = f"line {line}: " if file == path else ""
        print(f"{where}{kind.__name__}: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        warnings.filterwarnings("default", module="__main__$")
        # A figure is collected, not shown.
        warnings.filterwarnings("ignore", message=".*non-interactive, and thus cannot be shown")
        yield


@contextmanager
def _random_numbers(library: ModuleType) -> Iterator[None]:
    """The same random numbers in every run; Python's and NumPy's generators are restored afterwards."""
    # Chapters use the legacy interface.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002
    if seed := getattr(library, _SEED_FUNCTION, None):
        seed(_SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _figures_of_its_own() -> Iterator[None]:
    """Hides the figures that were open before: a cell's ``plt.plot`` draws into the current one."""
    opened = sys.modules.get("matplotlib._pylab_helpers")
    theirs = dict(opened.Gcf.figs) if opened else {}
    if opened:
        opened.Gcf.figs.clear()
    try:
        yield
    finally:
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")
        if opened:
            opened.Gcf.figs.update(theirs)
