"""What is printed while a chapter runs: each cell with its output."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable

from d2lrnn.chapters.results import CellResult
from d2lrnn.chapters.source import Cell

_INDENT = "    "


class ChapterReport:
    """Writes to stdout: a cell's number and first line when it begins, its output, its value and its time.

    Args:
        num_cells: how many cells the tab has.
    """

    def __init__(self, num_cells: int) -> None:
        self._num_cells = num_cells
        # While a cell runs, `sys.stdout` is another stream.
        self._stream = sys.stdout
        self._line_is_open = False

    def restored(self, name: str, why: str) -> None:
        """Reports what was put back into the framework."""
        self._line(f"put back  {name}: {why}")

    def begins(self, cell: Cell) -> None:
        """Reports a cell before it runs: it may take an hour."""
        where = "" if cell.lines_before else f", line {cell.line}"
        self._line(f"\ncell {cell.number} of {self._num_cells}{where}: {cell.title}")
        for command in cell.commands:
            self._line(f"{_INDENT}skipped {command}")
        self._stream.flush()

    def printed(self, text: str, stream: str = "stdout") -> None:
        """Writes what a cell prints, also to a terminal whose encoding lacks some of it."""
        # A cell's progress bar draws its line anew; not every stream lets other text do so.
        self._write(text, getattr(self._stream, "draw", self._stream.write))

    def ended(self, result: CellResult) -> None:
        """Reports the cell's value, figures, error and time."""
        if self._line_is_open:
            self._line("")
        if result.value is not None:
            self._block("value   ", result.value)
        for picture in result.figures:
            width, height = _size_of_png(picture)
            self._line(f"{_INDENT}figure  {width} × {height} pixels")
        if result.error is not None:
            self._block("failed  ", "\n".join(filter(None, [result.error, result.traceback])))
        self._line(f"{_INDENT}time    {result.seconds:.2f} s")

    def _block(self, what: str, text: str) -> None:
        """Writes text of several lines, aligned."""
        indent = _INDENT + " " * len(what)
        self._line(_INDENT + what + textwrap.indent(text, indent).lstrip())

    def _line(self, text: str) -> None:
        self._write(text + "\n", self._stream.write)

    def _write(self, text: str, write: Callable[[str], object]) -> None:
        encoding = self._stream.encoding or "utf-8"
        write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()
        self._line_is_open = not text.endswith("\n")


def _size_of_png(picture: bytes) -> tuple[int, int]:
    """Width and height, which a PNG file has in bytes 16 to 24."""
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
