"""Files of `flax.serialization`: which arrays are in one, found without a claim of the file being believed.

flax's own reader hands the whole file to msgpack, which makes room for as many elements as a list claims to
have before it has seen one: lists in lists in a file of a megabyte take gigabytes. Here each element is read
where it stands. Who has read a file so may give it to flax.

The format: msgpack (github.com/msgpack/msgpack/blob/master/spec.md). An array is an extension of the kind 1
whose content is msgpack again: its shape, the name of its type, its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError

#: Where an array is in a tree of dictionaries: their keys.
TreePath = tuple[str, ...]

#: Deeper than anyone nests modules.
_MOST_DEPTH = 64
_MOST_AXES = 8
_CHUNKED = "__msgpack_chunked_array__"

#: Kinds of extensions: flax's reader opens all of them.
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
#: Two numbers of eight bytes, with a byte before each and one before both.
_COMPLEX_SIZE = 19


class Leaf(NamedTuple):
    """An array in a file: its type, its shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def read(self, content: bytes) -> FloatArray:
        """A view of the array."""
        array: FloatArray = np.frombuffer(content[self.start : self.stop], self.dtype).reshape(self.shape)
        return array


def leaves(content: bytes) -> dict[TreePath, Leaf]:
    """The arrays in a file's content; what else is in it is passed over.

    Raises:
        PortError: it is damaged, or no such file.
    """
    reader, found = _Reader(content), {}
    for path, leaf in reader.tree((), 0):
        if path in found:
            raise PortError(f"it is damaged: {'/'.join(path)} is in it twice")
        found[path] = leaf
    if reader.at != len(content):
        raise PortError("it is damaged: there is something behind its end")
    return found


class _Reader:
    """Reads msgpack from its beginning; `at` is where the next value stands."""

    def __init__(self, content: bytes, at: int = 0, stop: int | None = None) -> None:
        self._content, self.at = content, at
        self._stop = len(content) if stop is None else stop

    def tree(self, path: TreePath, depth: int) -> Iterator[tuple[TreePath, Leaf]]:
        """The arrays in the next value, which is passed."""
        if depth > _MOST_DEPTH:
            raise PortError(f"it is damaged: it is nested deeper than {_MOST_DEPTH}")
        kind, size = self._head()
        if kind == "map":
            for _ in range(size):
                key = self._key()
                if key == _CHUNKED:
                    raise PortError(
                        f"{'/'.join(path)} has more than a gigabyte and is in pieces, which is not read here"
                    )
                yield from self.tree((*path, key), depth + 1)
        elif kind == "list":
            for index in range(size):
                yield from self.tree((*path, str(index)), depth + 1)
        elif kind == "extension":
            code, start = self._take(1)[0], self.at
            self._skip(size)
            content = _Reader(self._content, start, self.at)
            if code == _ARRAY:
                yield path, content.array()
            elif code == _SCALAR:
                content.array()
            elif code == _COMPLEX and size > _COMPLEX_SIZE:
                raise PortError("it is damaged: a complex number has more than two parts")
        else:
            self._skip(size)

    def array(self) -> Leaf:
        """The content of an extension that is an array."""
        if self._head() != ("list", 3):
            raise PortError("it is damaged: an array is not shape, type and bytes")
        kind, axes = self._head()
        if kind != "list" or axes > _MOST_AXES:
            raise PortError("it is damaged: an array has no shape")
        shape = tuple(self._number() for _ in range(axes))
        dtype, (start, stop) = self._text(), self._bytes()
        if self.at != self._stop:
            raise PortError("it is damaged: there is something behind an array's end")
        # Of other types nothing is read.
        size = {"float32": 4, "float64": 8}.get(dtype)
        if size is not None and math.prod(shape) * size != stop - start:
            raise PortError(f"it is damaged: an array of shape {shape} has {stop - start:,} bytes")
        return Leaf(dtype, shape, start, stop)

    def _head(self) -> tuple[str, int]:
        """What the next value is, and its number of elements, or of the bytes that follow."""
        byte = self._take(1)[0]
        for first, last, kind, mask in _FIXED:
            if first <= byte <= last:
                return kind, byte & mask
        if byte not in _SIZED:
            raise PortError(f"it is damaged: it has the byte {byte:#x} where a value begins")
        kind, length = _SIZED[byte]
        if length < 0:
            return kind, -length - 1
        return kind, int.from_bytes(self._take(length), "big")

    def _key(self) -> str:
        """A dictionary's key: a text, or the number of a list's element."""
        at = self.at
        if self._content[at : at + 1] <= b"\x7f":
            return str(self._take(1)[0])
        if self._content[at : at + 1] in (b"\xcc", b"\xcd", b"\xce"):
            return str(self._number())
        return self._text()

    def _number(self) -> int:
        at, (kind, size) = self.at, self._head()
        if kind != "number":
            raise PortError("it is damaged: it has no number where one belongs")
        if size == 0:
            return self._content[at]
        return int.from_bytes(self._take(size), "big")

    def _text(self) -> str:
        start, stop = self._bytes()
        try:
            return self._content[start:stop].decode()
        except UnicodeDecodeError as error:
            raise PortError("it is damaged: a name in it is no text") from error

    def _bytes(self) -> tuple[int, int]:
        kind, size = self._head()
        if kind != "bytes":
            raise PortError("it is damaged: it has no text where one belongs")
        start = self.at
        self._skip(size)
        return start, self.at

    def _take(self, size: int) -> bytes:
        start = self.at
        self._skip(size)
        return self._content[start : self.at]

    def _skip(self, size: int) -> None:
        if size > self._stop - self.at:
            raise PortError("it is damaged: it ends too early")
        self.at += size


#: First bytes that hold a size, from and to, and the bits that it is in.
_FIXED = (
    (0x00, 0x7F, "number", 0), (0x80, 0x8F, "map", 0x0F), (0x90, 0x9F, "list", 0x0F),
    (0xA0, 0xBF, "bytes", 0x1F), (0xE0, 0xFF, "negative", 0),
)  # fmt: skip

#: First bytes before a size, and its number of bytes; -1 - n where n bytes follow and there is none.
_SIZED = {
    0xC0: ("nothing", -1), 0xC2: ("nothing", -1), 0xC3: ("nothing", -1),
    0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4),
    0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4),
    0xCA: ("float", -5), 0xCB: ("float", -9),
    0xCC: ("number", -2), 0xCD: ("number", -3), 0xCE: ("number", -5), 0xCF: ("number", -9),
    0xD0: ("negative", -2), 0xD1: ("negative", -3), 0xD2: ("negative", -5), 0xD3: ("negative", -9),
    0xD4: ("extension", -2), 0xD5: ("extension", -3), 0xD6: ("extension", -5), 0xD7: ("extension", -9),
    0xD8: ("extension", -17),
    0xD9: ("bytes", 1), 0xDA: ("bytes", 2), 0xDB: ("bytes", 4),
    0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip
