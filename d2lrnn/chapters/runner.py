"""Runs a chapter's cells as a notebook would: in order, in one scope, with d2lrnn in place of ``d2l``.

A chapter is code that a person chose to run: it runs in this process, with all rights of this process. What
its cells change in the process is undone at the end (`d2lrnn.chapters.isolation`), and so is what was put
back into a framework for their sake. A cell can also end the process: ``d2lrnn chapter`` runs the cells in
one of their own.
"""

from __future__ import annotations

import ast
import io
import sys
import time
import tokenize
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from d2lrnn.chapters.epoch_limit import cap_epochs
from d2lrnn.chapters.failures import Failure, failure_of, message_of
from d2lrnn.chapters.isolation import list_lines, notebook_scope
from d2lrnn.chapters.printed import Printed, Recorder, shortened
from d2lrnn.chapters.results import CellResult, ChapterRun
from d2lrnn.chapters.source import Cell, Chapter
from d2lrnn.errors import SpecError
from d2lrnn.registry import find_backend
from d2lrnn.registry import tab as load_package


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


class Watcher(Protocol):
    """Has a method for each event of a chapter's run."""

    def restored(self, name: str, why: str) -> None:
        """Something that the framework dropped was put back: `Restored.name` and `Restored.why`."""

    def begins(self, cell: Cell) -> None:
        """A cell begins."""

    def printed(self, text: str, stream: str) -> None:
        """The cell printed something, to ``stdout`` or ``stderr``."""

    def ended(self, result: CellResult) -> None:
        """The cell has ended, well or not."""


class _IgnoreEvents:
    """The watcher where none is given."""

    def restored(self, name: str, why: str) -> None: ...

    def begins(self, cell: Cell) -> None: ...

    def printed(self, text: str, stream: str) -> None: ...

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
    results = run_cells(
        chapter.path, cells, tab, library, restored=restored, epochs=epochs, watcher=watcher,
        of_first_edition=chapter.of_first_edition,
    )  # fmt: skip
    return ChapterRun(chapter, tab, results, epochs)


def run_cells(
    path: Path,
    cells: Sequence[Cell],
    tab: str,
    library: ModuleType,
    *,
    restored: Sequence[Restored],
    epochs: int | None,
    watcher: Watcher,
    of_first_edition: bool,
) -> tuple[CellResult, ...]:
    """Runs the cells of one tab of the chapter at `path`; see `run_chapter`."""
    results: list[CellResult] = []
    with ExitStack() as stack:
        scope = stack.enter_context(notebook_scope(path, tab, library, of_first_edition=of_first_edition))
        code = "\n".join(cell.code for cell in cells)
        for what in restored:
            if what.needed_in(code):
                stack.enter_context(what.put_back())
                watcher.restored(what.name, what.why)
        session = _Session(str(path), scope, tab, library, epochs, watcher)
        for cell in cells:
            watcher.begins(cell)
            results.append(session.run(cell))
            watcher.ended(results[-1])
            if results[-1].interrupted:
                break
    return tuple(results)


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
    capped: bool = False

    def run(self, cell: Cell) -> CellResult:
        printed = Printed()
        value: str | None = None
        failure: Failure | None = None
        figures: tuple[bytes, ...] = ()
        self.capped = False
        begun = time.perf_counter()
        try:
            with (
                redirect_stdout(Recorder("stdout", printed, self.watcher.printed)),
                redirect_stderr(Recorder("stderr", printed, self.watcher.printed)),
            ):
                value = self._execute(cell)
        except KeyboardInterrupt:
            failure = _interrupted(cell)
        except BaseException as raised:
            failure = failure_of(raised, cell, self.path, self.tab, self.library)
        seconds = time.perf_counter() - begun
        try:
            figures = _taken_figures()
        except KeyboardInterrupt:
            failure = _interrupted(cell)
        except BaseException as raised:  # an axis label that cannot be drawn shows only now
            message = f"cell {cell.number}: its figure cannot be drawn: {message_of(raised)}"
            failure = failure or Failure(message, type(raised).__name__)
        return CellResult(
            cell, seconds, value, printed.parts(), figures, *(failure or ()), capped=self.capped
        )

    def _execute(self, cell: Cell) -> str | None:
        # The lines before it make the line numbers those of the chapter.
        tree = ast.parse("\n" * (cell.line - 1) + cell.code, self.path)
        list_lines(self.path, cell)
        if self.epochs is not None:
            self.capped = cap_epochs(tree, self.epochs)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr) or _ends_in_semicolon(cell.code):
            exec(_compiled(tree, self.path, "exec"), self.scope)
            return None
        tree.body.pop()
        exec(_compiled(tree, self.path, "exec"), self.scope)
        value = eval(_compiled(ast.Expression(last.value), self.path, "eval"), self.scope)
        return None if value is None else shortened(repr(value))


def _interrupted(cell: Cell) -> Failure:
    return Failure(f"cell {cell.number}: interrupted", KeyboardInterrupt.__name__)


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
