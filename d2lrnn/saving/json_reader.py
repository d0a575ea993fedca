"""Reads JSON from strangers piece by piece, so that memory follows what is kept, not what the file holds.

``json.loads`` makes a list of 56 bytes from the three bytes ``[],``, and four bytes of every character where
one of them is an emoji: a file can take twenty times its size while it is read. Here whoever reads says what
comes next, an object, an array or a value; only objects and arrays that are asked for may be long.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from d2lrnn.errors import RunError

#: A value that is read at once has at most so many bytes: a token, a specification.
LONGEST_VALUE = 1 << 16

#: Most values are far shorter than the longest, and what is decoded first.
_FIRST_TRY = 1 << 9

#: How many bytes are checked at once to be UTF-8.
_PIECE = 1 << 16

_SPACE = re.compile(rb"[ \t\n\r]*")


class JSONReader:
    """A place in a JSON document, which moves forward as it is read.

    Args:
        content: the document.

    Raises:
        RunError: it is not UTF-8. Every method raises one where the document goes on in another way than
            asked for, and says at which byte.

    Example:
        >>> reader = JSONReader(b'{"tokens": ["a", "b"]}')
        >>> for name in reader.members():
        ...     print(name, list(reader.elements()))
        tokens ['a', 'b']
        >>> reader.end()
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        check = codecs.getincrementaldecoder("utf-8")()
        try:
            for start in range(0, len(content), _PIECE):
                check.decode(content[start : start + _PIECE])
            check.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise RunError(f"it is not JSON: {error.reason}") from error

    def members(self) -> Iterator[str]:
        """The names in an object, one by one: read the value of each before asking for the next.

        Raises:
            RunError: a name comes twice.
        """
        had: set[str] = set()
        for _ in self._items(b"{", b"}"):
            name = self.value()
            if not isinstance(name, str):
                raise self._error("a name in quotes was expected")
            if name in had:
                raise self._error(f"{name[:60]!r} comes twice")
            had.add(name)
            self._expect(b":")
            yield name

    def elements(self) -> Iterator[Any]:
        """The values in an array, one by one, each of them short."""
        for _ in self._items(b"[", b"]"):
            yield self.value()

    def value(self) -> Any:
        """A value of at most `LONGEST_VALUE` bytes."""
        self._skip_space()
        for most in (_FIRST_TRY, LONGEST_VALUE):
            piece = self._content[self._at : self._at + most]
            last = self._at + most >= len(self._content)
            # Only the last character can be in pieces: all of it is UTF-8.
            text = piece.decode("utf-8", "ignore")
            try:
                value, end = self._decoder.raw_decode(text)
            except (ValueError, RecursionError) as error:
                if last:
                    raise self._error(str(error).partition(":")[0]) from error
                continue
            # A number that ends where the piece does may go on behind it.
            if end < len(text) or last:
                self._at += len(text[:end].encode())
                return value
        raise self._error(f"no value ends within {LONGEST_VALUE:,} bytes")

    def null(self) -> bool:
        """Whether a null is next; then it is read."""
        self._skip_space()
        found = self._content.startswith(b"null", self._at)
        self._at += 4 * found
        return found

    def end(self) -> None:
        """Raises a RunError where the document goes on."""
        self._skip_space()
        if self._at < len(self._content):
            raise self._error("it should end here")

    def _items(self, opening: bytes, closing: bytes) -> Iterator[None]:
        self._expect(opening)
        if self._comes(closing):
            return
        while True:
            yield
            if self._comes(closing):
                return
            self._expect(b",")

    def _comes(self, sign: bytes) -> bool:
        self._skip_space()
        found = self._content.startswith(sign, self._at)
        self._at += found
        return found

    def _expect(self, sign: bytes) -> None:
        if not self._comes(sign):
            raise self._error(f"{sign.decode()!r} was expected")

    def _skip_space(self) -> None:
        match = _SPACE.match(self._content, self._at)
        self._at = match.end() if match else self._at

    def _error(self, what: str) -> RunError:
        return RunError(f"it is not JSON as it should be: byte {self._at:,}: {what}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
