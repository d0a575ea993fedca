"""Arrays in safetensors files, with the checks that the format itself does not make.

A safetensors file begins with the length of its header (8 bytes, little-endian), then the header, JSON that
gives every array's name, type, shape and place, then the data. The format's own library maps the file beside
the arrays, twice the memory, and accepts any names, shapes and types; who reads a file here says which ones
must be in it, and nothing is allocated for a header that claims other ones.

Source of the format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
import safetensors.numpy

from d2lrnn.contract.values import DType, FloatArray
from d2lrnn.errors import RunError
from d2lrnn.saving.json_fields import check_names, check_type
from d2lrnn.saving.json_reader import JSONReader

_LENGTH_BYTES = 8
#: How many bytes are hashed at once.
_PIECE = 1 << 20
#: More than a header needs for the name, type, shape and place of one array.
_HEADER_BYTES_PER_ARRAY = 256
_METADATA = "__metadata__"
#: Our own text in it: one key, as the format's library writes several in any order.
_KEY = "d2lrnn"
#: The longest header of a file that describes itself.
_MOST_HEADER = 1 << 20

#: The types of arrays in a file.
Stored = Literal["float32", "float64", "int32"]
_CODES: dict[Stored, str] = {"float32": "F32", "float64": "F64", "int32": "I32"}


class Expected(NamedTuple):
    """The shape and the type that an array in a file must have."""

    shape: tuple[int, ...]
    dtype: Stored

    @property
    def num_bytes(self) -> int:
        """How long it is in the file."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


def to_safetensors(arrays: Mapping[str, FloatArray], text: str | None = None) -> bytes:
    """The content of a safetensors file; `text` is what `read_text` finds in it."""
    # It would write wrong bytes, without a word, for arrays that are not C-contiguous.
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return bytes(safetensors.numpy.save(contiguous, None if text is None else {_KEY: text}))


def read_text(file: BinaryIO, path: Path) -> str:
    """The text in the header of a file that describes itself, opened at its start.

    Raises:
        RunError: it is no such file, or its header is damaged.
        OSError: it cannot be read.
    """
    with _named(path):
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(_MOST_HEADER, os.fstat(file.fileno()).st_size):
            raise RunError(f"it is no safetensors file with a header of at most {_MOST_HEADER:,} bytes")
        metadata = _parsed(file.read(length)).get(_METADATA)
        text = metadata.get(_KEY) if isinstance(metadata, dict) else None
        if not isinstance(text, str):
            raise RunError(f"its header has no text under {_KEY}")
        return text


def read_described(file: BinaryIO, path: Path, expected: Mapping[str, Expected]) -> dict[str, Any]:
    """The arrays of a file with a text, as `read_safetensors` reads them; their digest is the caller's."""
    file.seek(0)
    with _named(path):
        header = _read_header(file, expected, _MOST_HEADER)
        return _read_arrays(file, header, expected)


def read_safetensors(
    file: BinaryIO, path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: DType, digest: str | None
) -> dict[str, FloatArray]:
    """The arrays in a file, in the order of `shapes`. Memory is that of the arrays.

    Args:
        file: the file, opened at its start.
        path: what to call it in an error.
        shapes: the names and shapes that the file must have, no more and no fewer.
        dtype: the type that every array must have.
        digest: the file's SHA-256, in hexadecimal.

    Raises:
        RunError: the file is damaged, or holds other arrays or numbers that are not finite.
        OSError: it cannot be read.
    """
    expected = {name: Expected(shape, dtype) for name, shape in shapes.items()}
    with _named(path):
        # Its size first: a file that is far too long would take hours to hash.
        longest = _HEADER_BYTES_PER_ARRAY * (len(shapes) + 1)
        header = _read_header(file, expected, longest)
        data = file.tell()
        if _digest(file) != digest:
            raise RunError("its digest is not the one that was saved with it")
        file.seek(data)
        return _read_arrays(file, header, expected)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except RunError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def _read_arrays(file: BinaryIO, header: dict[str, Any], expected: Mapping[str, Expected]) -> dict[str, Any]:
    """The arrays of a file that stands where its data begin."""
    data, starts, arrays = file.tell(), _check_header(header, expected), {}
    for name, (shape, dtype) in expected.items():
        file.seek(data + starts[name])
        array = np.fromfile(file, np.dtype(dtype).newbyteorder("<"), math.prod(shape)).reshape(shape)
        _check_finite(name, array)
        arrays[name] = array.astype(dtype, copy=False)
    return arrays


def _digest(file: BinaryIO) -> str:
    """The SHA-256 of a whole file."""
    found = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_PIECE):
        found.update(piece)
    return found.hexdigest()


def _read_header(file: BinaryIO, expected: Mapping[str, Expected], longest: int) -> dict[str, Any]:
    """Reads up to the data, where the whole file is accounted for: its length, its header, its data."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    data = sum(each.num_bytes for each in expected.values())
    if length > longest or size != _LENGTH_BYTES + length + data:
        raise RunError(
            f"it has {size:,} bytes and a header of {length:,}, which do not belong to the {len(expected)} "
            f"arrays of {data:,} bytes that it must hold"
        )
    return _parsed(file.read(length))


def _parsed(content: bytes) -> dict[str, Any]:
    reader = JSONReader(content)
    header = {name: reader.value() for name in reader.members()}
    reader.end()
    return header


def _check_header(header: dict[str, Any], expected: Mapping[str, Expected]) -> dict[str, int]:
    """Where in the data every array starts; they fill it without gaps, in any order."""
    header.pop(_METADATA, None)
    missing, extra = [n for n in expected if n not in header], sorted(n for n in header if n not in expected)
    if missing:
        raise RunError(f"it lacks {missing[0]}")
    if extra:
        raise RunError(f"it holds {extra[0][:60]!r}, which the model does not have")
    starts: dict[str, int] = {}
    for name, (shape, dtype) in expected.items():
        entry = check_type(dict, header[name], name)
        check_names(entry, ["dtype", "shape", "data_offsets"], name)
        if entry["shape"] != list(shape):
            raise RunError(f"{name} has shape {str(entry['shape'])[:60]}, not {list(shape)}")
        if entry["dtype"] != _CODES[dtype]:
            raise RunError(f"{name} has type {str(entry['dtype'])[:60]}, not {_CODES[dtype]}")
        offsets = check_type(list, entry["data_offsets"], f"the place of {name}")
        starts[name] = check_type(int, offsets[0] if offsets else None, f"the place of {name}")
        if offsets != [starts[name], starts[name] + expected[name].num_bytes]:
            raise RunError(f"the place of {name} is {str(offsets)[:60]}, which is not as long as the array")
    place = 0
    for name in sorted(starts, key=starts.__getitem__):
        if starts[name] != place:
            raise RunError(f"{name} starts at {starts[name]:,}, where {place:,} was expected")
        place += expected[name].num_bytes
    return starts


def _check_finite(name: str, array: FloatArray) -> None:
    # Both ends, not every entry: np.isfinite(array) would take another quarter of the memory.
    with np.errstate(invalid="ignore"):
        ends = array.min(), array.max()
    if not np.isfinite(ends).all():
        raise RunError(f"{name} holds a value that is not a finite number")
