"""The arrays in a file of ``mx.nd.save``, read without MXNet, whose own reader trusts what a file claims.

All numbers are little-endian. A file has

==================  ==================================================================================
8 bytes             0x112
8 bytes             0
8 bytes             the number of arrays
the arrays          one behind the other, see below
8 bytes             the number of names: that of the arrays, or 0
the names           8 bytes with its length, and the bytes
==================  ==================================================================================

and an array

==================  ==================================================================================
4 bytes             the version: 0xF993FAC9, with the shapes of NumPy 0xF993FACA, before MXNet 1.0
                    0xF993FAC8, and in the first releases the number of its axes
4 bytes             0 where it is dense; not before MXNet 1.0
4 bytes             the number of its axes; not in the first releases
8 bytes an axis     its lengths; in the first releases 4 bytes
4 and 4 bytes       the device on which it was
4 bytes             the type of its numbers
the numbers
==================  ==================================================================================

Source: ``NDArray::Save`` in MXNet 1.9.1, src/ndarray/ndarray.cc.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError

_FILE = 0x112
_DENSE, _NUMPY, _BEFORE_SPARSE = 0xF993FAC9, 0xF993FACA, 0xF993FAC8
_MOST_AXES = 32
#: The least bytes that an array can have, and more arrays than any model has: each takes memory here.
_LEAST, _MOST_ARRAYS = 12, 100_000

_TYPES = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool",
    12: "bfloat16",
}  # fmt: skip
_SIZES = {"bfloat16": 2} | {name: np.dtype(name).itemsize for name in _TYPES.values() if name != "bfloat16"}


class Entry(NamedTuple):
    """An array in a file.

    Attributes:
        dtype: the type of its numbers, in NumPy's name; ``"none"`` where it has none.
        shape: its shape.
        start: where its bytes begin.
        numpy: whether it was saved with the shapes of NumPy (npx.set_np), without which MXNet reads no such.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    numpy: bool


class _Reader:
    """Takes numbers from a file, whose size it knows."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size

    @property
    def left(self) -> int:
        return self.size - self.file.tell()

    def take(self, kind: str, count: int = 1) -> tuple[int, ...]:
        """Numbers of a kind of `struct`."""
        wanted = struct.calcsize(f"<{kind}") * count
        return struct.unpack(f"<{count}{kind}", self.bytes(wanted))

    def bytes(self, wanted: int) -> bytes:
        """So many bytes."""
        if wanted > self.left:
            raise PortError("it is damaged: it ends before it should")
        return self.file.read(wanted)

    def skip(self, wanted: int) -> int:
        """Goes on by so many bytes, and says where they begin."""
        start = self.file.tell()
        if wanted > self.left:
            raise PortError(
                f"it is damaged: an array is to have {wanted:,} bytes, and {self.left:,} are left"
            )
        self.file.seek(wanted, os.SEEK_CUR)
        return start


def read_entries(path: Path) -> dict[str, Entry]:
    """What a file holds. Memory is that of the names, and no array is read.

    Raises:
        PortError: it is no such file, or it is damaged.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise PortError("it is no file")
    with open(path, "rb") as file:
        reader = _Reader(file)
        if reader.size < 24 or reader.take("Q", 2) != (_FILE, 0):
            raise PortError("it is no file of mx.nd.save, as save_parameters and export write it")
        (count,) = reader.take("Q")
        if count > min(reader.left // _LEAST, _MOST_ARRAYS):
            raise PortError(
                f"it is damaged: it is to have {count:,} arrays, and {reader.left:,} bytes are left"
            )
        found = [_entry(reader) for _ in range(count)]
        if reader.take("Q") != (count,):
            raise PortError("its arrays have no names: save a dictionary of them, as save_parameters does")
        names = [reader.bytes(*reader.take("Q")) for _ in range(count)]
        if reader.left:
            raise PortError(f"it is damaged: {reader.left:,} bytes follow its end")
    if len(set(names)) < count:
        raise PortError("it is damaged: two of its arrays have one name")
    return {name.decode("utf-8", "backslashreplace"): each for name, each in zip(names, found, strict=True)}


def _entry(reader: _Reader) -> Entry:
    (version,) = reader.take("I")
    if version in (_DENSE, _NUMPY) and reader.take("i") != (0,):
        raise PortError(
            "it has sparse arrays, which are not read: save it with dense ones (tostype('default'))"
        )
    if version in (_DENSE, _NUMPY, _BEFORE_SPARSE):
        (axes,), length = reader.take("i"), "q"
    else:
        axes, length = version, "I"
    if not -1 <= axes <= _MOST_AXES:
        raise PortError("it is damaged: an array begins with what no version of MXNet writes")
    shape = reader.take(length, max(0, axes))
    if any(each < 0 for each in shape):
        raise PortError(f"it is damaged: an array is to have the shape {shape}")
    if axes == -1 or (axes == 0 and version != _NUMPY):
        return Entry("none", (), reader.file.tell(), version == _NUMPY)  # an array without numbers ends here
    _, _, flag = reader.take("i", 3)
    if flag not in _TYPES:
        raise PortError(f"it is damaged: {flag} is no type of numbers")
    dtype = _TYPES[flag]
    return Entry(dtype, shape, reader.skip(math.prod(shape) * _SIZES[dtype]), version == _NUMPY)


def read_array(path: Path, entry: Entry) -> FloatArray:
    """An array of float32 or float64 that `read_entries` found.

    Raises:
        PortError: the file has become shorter.
        OSError: it cannot be read.
    """
    count = math.prod(entry.shape)
    array: FloatArray = np.fromfile(path, np.dtype(entry.dtype).newbyteorder("<"), count, offset=entry.start)
    if array.size != count:
        raise PortError("it is damaged: it ends before it should")
    return array.reshape(entry.shape).astype(entry.dtype, copy=False)
