"""A table in plain text that fits a terminal of any width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

_GAP = "  "

#: No column of a text that is wrapped is narrower than that.
_NARROWEST = 8


def text_table(rows: Sequence[Sequence[str]], width: int) -> str:
    """Rows with a heading, as they are, transposed, or one below the other: the first of these that fits.

    Args:
        rows: the heading, and then rows of as many cells; the first cell of each is its name.
        width: of the terminal, in characters.

    Example:
        >>> heading = ("run", "cell", "optimizer", "perplexity")
        >>> rows = [heading, ("a", "rnn", "sgd", "12.10"), ("b", "gru", "adam", "9.85")]
        >>> print(text_table(rows, 40))
        run  cell  optimizer  perplexity
        a    rnn   sgd             12.10
        b    gru   adam             9.85
        >>> print(text_table(rows, 24))
        run             a     b
        cell          rnn   gru
        optimizer     sgd  adam
        perplexity  12.10  9.85
        >>> print(text_table(rows, 20))
        a
          cell        rnn
          optimizer   sgd
          perplexity  12.10
        b
          cell        gru
          optimizer   adam
          perplexity  9.85
    """
    for cells in (rows, list(zip(*rows, strict=True))):
        lines = _lines(cells)
        if max(map(len, lines)) <= width:
            return "\n".join(lines)
    return "\n".join(_blocks(rows, width))


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column begins on the left, the others, in which there are numbers, end on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [
        any(char.isdigit() for cell in column[1:] for char in cell) for column in zip(*rows, strict=True)
    ]
    return [
        _GAP.join(
            cell.rjust(size) if number and is_numeric else cell.ljust(size)
            for number, (cell, size, is_numeric) in enumerate(zip(row, widths, numeric, strict=True))
        ).rstrip()
        for row in rows
    ]


def _blocks(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    heading, *others = rows
    size = max(map(len, heading[1:]))
    lines = []
    for name, *cells in others:
        lines += textwrap.wrap(name, max(width, _NARROWEST), break_on_hyphens=False)
        for title, cell in zip(heading[1:], cells, strict=True):
            first = f"{_GAP}{title.ljust(size)}{_GAP}"
            room = max(width - len(first), _NARROWEST)
            wrapped = textwrap.wrap(cell, room, break_on_hyphens=False) or [""]
            lines += [first + wrapped[0], *(" " * len(first) + part for part in wrapped[1:])]
    return lines
