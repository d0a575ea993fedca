"""What a cell prints: passed on at once, and kept up to a limit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

#: The most characters of what a cell prints that are kept, and of its value.
MOST_CHARACTERS = 1_000_000

#: So many characters of a longer text are passed on at once.
_PIECE = 1 << 16

#: A change between the streams takes as much memory as so many characters.
_CHANGE = 100


class Printed:
    """What a cell has printed, in order; beyond the limit it is counted alone.

    Example:
        >>> printed = Printed()
        >>> printed.add("stdout", "a")
        >>> printed.add("stdout", "b")
        >>> printed.parts()
        (('stdout', 'ab'),)
    """

    def __init__(self) -> None:
        self._parts: list[tuple[str, io.StringIO]] = []
        self._room, self._left_out = MOST_CHARACTERS, 0

    def add(self, stream: str, text: str) -> None:
        """Keeps what was printed to ``stdout`` or ``stderr``, as far as there is room."""
        if self._room > 0 and (not self._parts or self._parts[-1][0] != stream):
            self._parts.append((stream, io.StringIO()))
            self._room -= _CHANGE
        kept = text[: max(0, self._room)]
        if kept:
            self._parts[-1][1].write(kept)
        self._room -= len(kept)
        self._left_out += len(text) - len(kept)

    def parts(self) -> tuple[tuple[str, str], ...]:
        """Pairs of stream and text, one for all that went to the same stream without a break."""
        parts = [(stream, text.getvalue()) for stream, text in self._parts]
        if self._left_out:
            parts.append(("stderr", f"\n… {self._left_out:,} more characters were printed and not kept\n"))
        return tuple(parts)


class Recorder(io.TextIOBase):
    """The standard output or error of a cell.

    Args:
        stream: ``stdout`` or ``stderr``.
        printed: keeps what is printed.
        pass_on: is called with the stream and the text.
    """

    encoding = "utf-8"

    def __init__(self, stream: str, printed: Printed, pass_on: Callable[[str, str], None]) -> None:
        self._stream, self._printed, self._pass_on = stream, printed, pass_on

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Keeps a text and passes it on, a piece at a time."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        for piece in _pieces(text):
            self._printed.add(self._stream, piece)
            self._pass_on(piece, self._stream)
        return str.__len__(text)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """At most so many characters of a text, a plain string whatever class of a cell's own it is.

    Example:
        >>> shortened("abcdef", 3)
        'abc … 3 more characters'
    """
    length = str.__len__(text)
    kept = str.__getitem__(text, slice(most))
    return kept if length <= most else f"{kept} … {length - most:,} more characters"


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, str.__len__(text), _PIECE):
        yield str.__getitem__(text, slice(start, start + _PIECE))
