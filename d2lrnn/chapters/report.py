"""What a person sees while a chapter runs: each cell with what it showed."""

from __future__ import annotations

import sys
import textwrap

from d2lrnn.chapters.runner import CellResult, Restored
from d2lrnn.chapters.source import Cell

_INDENT = "    "


class ChapterReport:
    """Writes to stdout: a cell's number and first line when it begins, what it prints, what came of it.

    Args:
        num_cells: how many cells the tab has.
    """

    def __init__(self, num_cells: int) -> None:
        self._num_cells = num_cells
        # Not what `sys.stdout` is while a cell runs.
        self._stream = sys.stdout
        self._line_is_open = False

    def restored(self, what: Restored) -> None:
        """Says what was put back into the framework."""
        self._line(f"put back  {what.name}: {what.why}")

    def begins(self, cell: Cell) -> None:
        """Says which cell runs, before it does: it may take an hour."""
        self._line(f"\ncell {cell.number} of {self._num_cells}, line {cell.line}: {cell.title}")
        self._stream.flush()

    def printed(self, text: str) -> None:
        """Passes on what a cell prints, also to a terminal that lacks its letters."""
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()
        self._line_is_open = not text.endswith("\n")

    def ended(self, result: CellResult) -> None:
        """Says what the cell came to."""
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
        """Text of several lines, under each other."""
        indent = _INDENT + " " * len(what)
        self._line(_INDENT + what + textwrap.indent(text, indent).lstrip())

    def _line(self, text: str) -> None:
        self.printed(text + "\n")


def _size_of_png(picture: bytes) -> tuple[int, int]:
    """Width and height, which a PNG file has in bytes 16 to 24."""
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
