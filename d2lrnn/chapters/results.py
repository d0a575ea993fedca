"""What came of a chapter's cells, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from d2lrnn.chapters.source import Cell, Chapter


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
        capped: whether it asked for more epochs than it was given.
    """

    cell: Cell
    seconds: float
    value: str | None
    output: tuple[tuple[str, str], ...]
    figures: tuple[bytes, ...]
    error: str | None = None
    error_kind: str | None = None
    traceback: str | None = None
    capped: bool = field(default=False, kw_only=True)

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
            "capped": self.capped,
        }


@dataclass(frozen=True)
class ChapterRun:
    """The result of a chapter: those of the cells that were begun.

    Attributes:
        chapter: the chapter.
        tab: the book's name of the tab that ran.
        results: a result for every cell that was begun, in order.
        epochs: the largest number of epochs that a cell could ask for; None where they were left as they are.
    """

    chapter: Chapter
    tab: str
    results: tuple[CellResult, ...]
    epochs: int | None = None

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that were begun and did not run to their end."""
        return tuple(result for result in self.results if not result.ok)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return any(result.interrupted for result in self.results)
