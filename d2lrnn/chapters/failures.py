"""What a cell's exception is shown as.

An exception of a cell is code of the cell's: to turn it into text can fail, or give more than anyone reads.
"""

from __future__ import annotations

import traceback
from types import ModuleType
from typing import NamedTuple

from d2lrnn.chapters.isolation import BOOK
from d2lrnn.chapters.printed import shortened
from d2lrnn.chapters.source import OTHER_LIBRARIES, Cell, other_library

_LONGEST_MESSAGE = 500
_LONGEST_TRACEBACK = 20_000


class Failure(NamedTuple):
    """What went wrong: in one line, of which class, and the chapter's lines that led to it."""

    error: str
    kind: str
    traceback: str | None = None


def failure_of(raised: BaseException, cell: Cell, path: str, tab: str, library: ModuleType) -> Failure:
    """What is shown of an exception that a cell raised.

    Args:
        raised: the exception.
        cell: the cell.
        path: the chapter, as its lines are known to tracebacks.
        tab: the book's name of the tab.
        library: what the cells import as ``d2l``.
    """
    try:
        kind = shortened(type(raised).__name__, _LONGEST_MESSAGE)
        error, lines = _described(raised, cell, path, _missing(raised, tab, library))
        return Failure(error, kind, shortened(lines, _LONGEST_TRACEBACK))
    except BaseException:
        return Failure(f"cell {cell.number}: an exception that cannot be shown", BaseException.__name__)


def message_of(raised: BaseException) -> str:
    """An exception in one line, with its class."""
    kind = type(raised).__name__
    try:
        text = shortened(" ".join(str(raised).split()), _LONGEST_MESSAGE)
    except BaseException:
        return f"{kind}, whose text cannot be shown"
    return f"{kind}: {text}" if text else kind


def _described(raised: BaseException, cell: Cell, path: str, missing: str | None) -> tuple[str, str]:
    """The exception in one line, and with the lines of the chapter that led to it."""
    frames = traceback.extract_tb(raised.__traceback__)
    in_chapter = [frame for frame in frames if frame.filename == path]
    line = in_chapter[-1].lineno if in_chapter else getattr(raised, "lineno", None)
    where = f"cell {cell.number}" + (f", line {line - cell.lines_before}" if line else "")
    message = f"{where}: {missing or message_of(raised)}"
    if not in_chapter:
        return message, "".join(traceback.format_exception_only(raised)).rstrip()
    # The last line of the library as well, to mend the library by.
    shown = in_chapter if frames[-1].filename == path else [*in_chapter, frames[-1]]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(shown)]
    return message, "".join([*lines, *traceback.format_exception_only(raised)]).rstrip()


def _missing(raised: BaseException, tab: str, library: ModuleType) -> str | None:
    """Which name or module a cell uses that does not exist here."""
    if isinstance(raised, AttributeError) and raised.obj is library:
        needed = f"needs {BOOK}.{raised.name}, which the tab {tab} does not have"
        # What a tab of the book says of the name beside that.
        return needed + str(raised).partition(f"{BOOK} has no {raised.name}")[2]
    if isinstance(raised, ModuleNotFoundError) and raised.name is not None:
        if raised.name.split(".")[0] == BOOK:
            return f"needs {raised.name}, which the tab {tab} does not have"
        if raised.name in OTHER_LIBRARIES:
            return other_library(raised.name)
        return f"needs the module {raised.name}, which is not installed here"
    if isinstance(raised, ImportError) and raised.name in (BOOK, library.__name__):
        wanted = str(raised).partition("'")[2].partition("'")[0]
        return f"needs {BOOK}.{wanted}, which the tab {tab} does not have"
    return None
