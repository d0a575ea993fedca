"""What is printed while a chapter runs: each cell with its output."""

from __future__ import annotations

import sys
import textwrap

from d2lrnn.chapters.runner import CellResult, Restored
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

    def restored(self, what: Restored) -> None:
        """Reports what was put back into the framework."""
        self._line(f"put back  {what.name}: {what.why}")

    def begins(self, cell: Cell) -> None:
        """Reports a cell before it runs: it may take an hour."""
        self._line(f"\ncell {cell.number} of {self._num_cells}, line {cell.line}: {cell.title}")
        self._stream.flush()

    def printed(self, text: str) -> None:
        """Writes what a cell prints, also to a terminal whose encoding lacks some of it."""
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()
        self._line_is_open = not text.endswith("\n")

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
        self.printed(text + "\n")


def _size_of_png(picture: bytes) -> tuple[int, int]:
    """Width and height, which a PNG file has in bytes 16 to 24."""
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
