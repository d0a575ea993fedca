"""Runs a chapter's cells as a notebook would: in order, in one scope, with d2lrnn in place of ``d2l``.

A chapter is code that a person chose to run: it runs in this process, with all rights of this process. What
its cells change in the process is undone at the end (`d2lrnn.chapters.isolation`), and so is what was put
back into a framework for their sake.
"""

from __future__ import annotations

import ast
import io
import sys
import time
import tokenize
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from types import ModuleType
from typing import Any, Protocol

from d2lrnn.chapters.epoch_limit import cap_epochs
from d2lrnn.chapters.isolation import BOOK, notebook_scope
from d2lrnn.chapters.source import Cell, Chapter
from d2lrnn.errors import SpecError
from d2lrnn.registry import find_backend
from d2lrnn.registry import tab as load_package

_LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class Restored:
    """Something that a framework removed and a chapter's cells still use.

    A backend lists these as ``RESTORED`` in its module ``dropped``; the runner puts back those that are
    needed while a chapter runs, and says so.

    Attributes:
        name: what it was called, ``SimpleRNN(time_major=True)``.
        why: one line: since which version it is missing, and what replaces it.
        needed_in: whether the code of all cells, as one text, uses it.
        put_back: makes it work inside a ``with`` block, and removes it afterwards.
    """

    name: str
    why: str
    needed_in: Callable[[str], bool]
    put_back: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class CellResult:
    """The result of one cell.

    Attributes:
        cell: the cell.
        seconds: how long it ran.
        value: the value of its last expression, as text; None where a notebook would show none.
        output: what it printed, in order: pairs of ``stdout`` or ``stderr`` and the text.
        figures: the pictures that it left open, each a PNG file's bytes.
        error: what went wrong, in one line; None where nothing did.
        error_kind: the class of the exception; None where there was none.
        traceback: the chapter's lines that led to it; None where there are none.
    """

    cell: Cell
    seconds: float
    value: str | None
    output: tuple[tuple[str, str], ...]
    figures: tuple[bytes, ...]
    error: str | None = None
    error_kind: str | None = None
    traceback: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.error is None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.error_kind == KeyboardInterrupt.__name__

    @property
    def printed(self) -> str:
        """What it printed."""
        return "".join(text for _, text in self.output)

    def to_json(self) -> dict[str, Any]:
        """The result as data, without the figures."""
        return {
            "cell": self.cell.number,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "value": self.value,
            "printed": self.printed,
            "error": self.error,
        }


@dataclass(frozen=True)
class ChapterRun:
    """The result of a chapter: those of the cells that were begun.

    Attributes:
        chapter: the chapter.
        tab: the book's name of the tab that ran.
        results: a result for every cell that was begun, in order.
    """

    chapter: Chapter
    tab: str
    results: tuple[CellResult, ...]

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that were begun and did not run to their end."""
        return tuple(result for result in self.results if not result.ok)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return any(result.interrupted for result in self.results)


class Watcher(Protocol):
    """Has a method for each event of a chapter's run."""

    def restored(self, what: Restored) -> None:
        """Something that the framework dropped was put back."""

    def begins(self, cell: Cell) -> None:
        """A cell begins."""

    def printed(self, text: str) -> None:
        """The cell printed something."""

    def ended(self, result: CellResult) -> None:
        """The cell has ended, well or not."""


class _IgnoreEvents:
    """The watcher where none is given."""

    def restored(self, what: Restored) -> None: ...

    def begins(self, cell: Cell) -> None: ...

    def printed(self, text: str) -> None: ...

    def ended(self, result: CellResult) -> None: ...


def run_chapter(
    chapter: Chapter,
    tab: str,
    library: ModuleType,
    *,
    restored: Sequence[Restored] = (),
    epochs: int | None = None,
    watcher: Watcher | None = None,
) -> ChapterRun:
    r"""Runs the cells of one tab; after a cell that fails it goes on with the next, Ctrl-C ends it.

    Args:
        chapter: the chapter.
        tab: the book's name of the tab, ``pytorch``, ``tensorflow``, ``jax`` or ``mxnet``, or the name of
            another package's backend.
        library: what the cells import as ``d2l``, from `load_tab`.
        restored: what can be put back where the cells need it, from `load_tab`.
        epochs: the largest number of epochs that a cell may ask for; None leaves them as they are.
        watcher: its methods are called as the cells run.

    Raises:
        ChapterError: the chapter has no code for this tab.
        SpecError: `epochs` is below 1.

    Example:
        >>> from pathlib import Path
        >>> lines = ["```{.python .input}", "%%tab all", "6 * 7", "```"]
        >>> _ = Path("chapter.md").write_text("\n".join(lines))
        >>> run = run_chapter(Chapter("chapter.md"), "pytorch", ModuleType("d2l"))
        >>> [(result.ok, result.value) for result in run.results]
        [(True, '42')]
    """
    if epochs is not None and epochs < 1:
        raise SpecError(f"the number of epochs is {epochs}: it must be at least 1")
    cells = chapter.cells(tab)
    watcher = watcher or _IgnoreEvents()
    results: list[CellResult] = []
    with ExitStack() as stack:
        scope = stack.enter_context(notebook_scope(chapter.path, cells, tab, library))
        code = "\n".join(cell.code for cell in cells)
        for what in restored:
            if what.needed_in(code):
                stack.enter_context(what.put_back())
                watcher.restored(what)
        session = _Session(str(chapter.path), scope, tab, library, epochs, watcher)
        for cell in cells:
            watcher.begins(cell)
            results.append(session.run(cell))
            watcher.ended(results[-1])
            if results[-1].interrupted:
                break
    return ChapterRun(chapter, tab, tuple(results))


def load_tab(name: str) -> tuple[ModuleType, tuple[Restored, ...]]:
    """What a tab's cells import as ``d2l``, and what can be put back for them.

    Raises:
        BackendNotInstalledError: the framework of the tab is missing.
    """
    entry = find_backend(name)
    library = load_package(entry.name)
    # Another package's backend can be a single module.
    if not hasattr(library, "__path__") or find_spec(f"{entry.package}.dropped") is None:
        return library, ()
    return library, tuple(import_module(f"{entry.package}.dropped").RESTORED)


@dataclass
class _Session:
    """Runs one cell after the other in the same scope."""

    path: str
    scope: dict[str, Any]
    tab: str
    library: ModuleType
    epochs: int | None
    watcher: Watcher

    def run(self, cell: Cell) -> CellResult:
        output: list[tuple[str, str]] = []
        value = error = kind = lines = None
        figures: tuple[bytes, ...] = ()
        begun = time.perf_counter()
        try:
            with (
                redirect_stdout(_Recorder("stdout", output, self.watcher)),
                redirect_stderr(_Recorder("stderr", output, self.watcher)),
            ):
                value = self._execute(cell)
        except KeyboardInterrupt:
            error, kind = f"cell {cell.number}: interrupted", KeyboardInterrupt.__name__
        except (Exception, SystemExit) as raised:
            (error, lines), kind = self._describe(cell, raised), type(raised).__name__
        seconds = time.perf_counter() - begun
        try:
            figures = _taken_figures()
        except Exception as raised:  # an axis label that cannot be drawn shows only now
            message = f"cell {cell.number}: its figure cannot be drawn: {_message(raised)}"
            error, kind = error or message, kind or type(raised).__name__
        return CellResult(cell, seconds, value, _joined(output), figures, error, kind, lines)

    def _execute(self, cell: Cell) -> str | None:
        # The lines before it make the line numbers those of the chapter.
        tree = ast.parse("\n" * (cell.line - 1) + cell.code, self.path)
        if self.epochs is not None:
            cap_epochs(tree, self.epochs)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr) or _ends_in_semicolon(cell.code):
            exec(_compiled(tree, self.path, "exec"), self.scope)
            return None
        tree.body.pop()
        exec(_compiled(tree, self.path, "exec"), self.scope)
        value = eval(_compiled(ast.Expression(last.value), self.path, "eval"), self.scope)
        return None if value is None else repr(value)

    def _describe(self, cell: Cell, error: BaseException) -> tuple[str, str]:
        """The error in one line, and with the lines of the chapter that led to it."""
        frames = traceback.extract_tb(error.__traceback__)
        in_chapter = [frame for frame in frames if frame.filename == self.path]
        line = in_chapter[-1].lineno if in_chapter else getattr(error, "lineno", None)
        where = f"cell {cell.number}" + (f", line {line}" if line else "")
        message = f"{where}: {self._missing(error) or _message(error)}"
        if not in_chapter:
            return message, "".join(traceback.format_exception_only(error)).rstrip()
        # The last line of the library as well, to mend the library by.
        shown = in_chapter if frames[-1].filename == self.path else [*in_chapter, frames[-1]]
        lines = ["Traceback (most recent call last):\n", *traceback.format_list(shown)]
        return message, "".join([*lines, *traceback.format_exception_only(error)]).rstrip()

    def _missing(self, error: BaseException) -> str | None:
        """Which name or module a cell uses that does not exist here."""
        if isinstance(error, AttributeError) and error.obj is self.library:
            return f"needs {BOOK}.{error.name}, which the tab {self.tab} does not have"
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            if error.name.split(".")[0] == BOOK:
                return f"needs {error.name}, which the tab {self.tab} does not have"
            return f"needs the module {error.name}, which is not installed here"
        if isinstance(error, ImportError) and error.name in (BOOK, self.library.__name__):
            wanted = str(error).partition("'")[2].partition("'")[0]
            return f"needs {BOOK}.{wanted}, which the tab {self.tab} does not have"
        return None


class _Recorder(io.TextIOBase):
    """Records what is printed, and passes it on."""

    encoding = "utf-8"

    def __init__(self, name: str, output: list[tuple[str, str]], watcher: Watcher) -> None:
        self._name, self._output, self._watcher = name, output, watcher

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            self._output.append((self._name, text))
            self._watcher.printed(text)
        return len(text)


def _joined(output: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What was printed, with one entry for all that went to the same stream without a break."""
    runs = groupby(output, key=lambda entry: entry[0])
    return tuple((name, "".join(text for _, text in entries)) for name, entries in runs)


def _compiled(tree: ast.Module | ast.Expression, path: str, mode: str) -> Any:
    # A cell does not inherit this module's `from __future__` imports.
    return compile(tree, path, mode, dont_inherit=True)


def _ends_in_semicolon(code: str) -> bool:
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [
        token for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type not in skipped
    ]
    return bool(tokens) and tokens[-1].string == ";"


def _taken_figures() -> tuple[bytes, ...]:
    """The open figures, as PNG files; they are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return ()
    pictures = []
    try:
        for number in pyplot.get_fignums():
            file = io.BytesIO()
            pyplot.figure(number).savefig(file, format="png", bbox_inches="tight")
            pictures.append(file.getvalue())
    finally:
        pyplot.close("all")
    return tuple(pictures)


def _message(error: BaseException) -> str:
    """An error in one line, with its kind."""
    text = " ".join(str(error).split())
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + " …"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
