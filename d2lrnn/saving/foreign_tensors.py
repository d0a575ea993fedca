"""Safetensors files of other programs: what is in them, and those arrays that are asked for.

`d2lrnn.saving.tensor_files` reads files whose content is known beforehand; here it is not. The header is read
piece by piece, and memory is that of the arrays that are asked for, whatever else a file holds or claims.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import RunError
from d2lrnn.saving.json_fields import check_names, check_type
from d2lrnn.saving.json_reader import JSONReader

#: The names of types whose arrays can be read, by what the format calls them.
READABLE = {"F32": "float32", "F64": "float64"}

_LENGTH_BYTES = 8
#: A header of a hundred thousand arrays.
_MOST_HEADER = 1 << 24
_MOST_AXES = 16


class Entry(NamedTuple):
    """An array in a file: its type, in the format's or NumPy's name, its shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_entries(file: BinaryIO) -> dict[str, Entry]:
    """What a file holds, opened at its start.

    Raises:
        RunError: it is no safetensors file, or its header is damaged.
        OSError: it cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 2 <= length <= min(_MOST_HEADER, size - _LENGTH_BYTES):
        raise RunError(f"it is no safetensors file with a header of at most {_MOST_HEADER:,} bytes")
    reader, data = JSONReader(file.read(length)), _LENGTH_BYTES + length
    entries = {}
    for name in reader.members():
        value = reader.value()
        if name != "__metadata__":
            entries[name] = _entry(name[:60], value, data, size)
    reader.end()
    return entries


def _entry(name: str, value: object, data: int, size: int) -> Entry:
    fields = check_type(dict, value, name)
    check_names(fields, ["dtype", "shape", "data_offsets"], name)
    dtype = check_type(str, fields["dtype"], f"the type of {name}")
    shape = check_type(tuple[int, ...], fields["shape"], f"the shape of {name}")
    place = check_type(tuple[int, ...], fields["data_offsets"], f"the place of {name}")
    if len(shape) > _MOST_AXES or any(length < 0 for length in shape):
        raise RunError(f"the shape of {name} is {str(list(shape))[:60]}")
    if len(place) != 2 or not 0 <= place[0] <= place[1] <= size - data:
        raise RunError(f"the place of {name} is {str(list(place))[:60]}, which is not within the file")
    kind = READABLE.get(dtype, dtype[:20])
    if dtype in READABLE and math.prod(shape) * np.dtype(kind).itemsize != place[1] - place[0]:
        raise RunError(
            f"{name} has the shape {list(shape)}, which its {place[1] - place[0]:,} bytes do not fill"
        )
    return Entry(kind, shape, data + place[0], data + place[1])


def read_arrays(file: BinaryIO, entries: dict[str, Entry], names: Sequence[str]) -> dict[str, FloatArray]:
    """Arrays of a type that can be read.

    Raises:
        RunError: the file has become shorter.
    """
    arrays: dict[str, Any] = {}
    for name in names:
        dtype, shape, start, _ = entries[name]
        file.seek(start)
        array = np.fromfile(file, np.dtype(dtype).newbyteorder("<"), math.prod(shape))
        if array.size != math.prod(shape):
            raise RunError(f"{name[:60]} ends before it should")
        arrays[name] = array.reshape(shape).astype(dtype, copy=False)
    return arrays
