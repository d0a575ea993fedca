"""Arrays in safetensors files, with the checks that the format itself does not make.

A safetensors file begins with the length of its header (8 bytes, little-endian), then the header, JSON that
gives every array's name, type, shape and place, then the data. The library that reads it accepts any names,
shapes and types; who reads a file here says which ones must be in it, and nothing is allocated for a header
that claims other ones. Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from d2lrnn.adapter import DType, FloatArray
from d2lrnn.errors import RunError, reason_of

_LENGTH_BYTES = 8
#: More than a header needs for the name, type, shape and place of one array.
_HEADER_BYTES_PER_ARRAY = 256
_CODES: dict[DType, str] = {"float32": "F32", "float64": "F64"}


def to_safetensors(arrays: Mapping[str, FloatArray]) -> bytes:
    """The content of a safetensors file."""
    # It would write wrong bytes, without a word, for arrays that are not C-contiguous.
    return bytes(safetensors.numpy.save({n: np.ascontiguousarray(value) for n, value in arrays.items()}))


def read_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: DType
) -> dict[str, FloatArray]:
    """The arrays in a file, in the order of `shapes`.

    Args:
        path: the file. It is mapped, not read whole: memory is that of the arrays.
        shapes: the names and shapes that the file must have, no more and no fewer.
        dtype: the type that every array must have.

    Raises:
        RunError: the file cannot be read or is damaged, or holds other arrays or numbers that are not finite.
    """
    try:
        _check_sizes(path, shapes, dtype)
        with safetensors.safe_open(path, framework="numpy") as file:
            _check_names(path, shapes, set(file.keys()))
            return {name: _read(path, file, name, shape, dtype) for name, shape in shapes.items()}
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def _check_sizes(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: DType) -> None:
    """The whole file is accounted for: its length, its header, its data."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    longest = _HEADER_BYTES_PER_ARRAY * (len(shapes) + 1)
    data = np.dtype(dtype).itemsize * sum(math.prod(shape) for shape in shapes.values())
    if header > longest or size != _LENGTH_BYTES + header + data:
        raise RunError(
            f"{path} is damaged: it has {size:,} bytes and a header of {header:,}, which do not "
            f"belong to the {len(shapes)} arrays of {data:,} bytes that it must hold"
        )


def _check_names(path: Path, shapes: Mapping[str, tuple[int, ...]], found: set[str]) -> None:
    missing, extra = [n for n in shapes if n not in found], sorted(n for n in found if n not in shapes)
    if missing:
        raise RunError(f"{path} is damaged: it lacks {missing[0]}")
    if extra:
        raise RunError(f"{path} is damaged: it holds {extra[0][:60]!r}, which the model does not have")


def _read(path: Path, file: Any, name: str, shape: tuple[int, ...], dtype: DType) -> FloatArray:
    declared = file.get_slice(name)
    if tuple(declared.get_shape()) != shape:
        raise RunError(f"{path} is damaged: {name} has shape {tuple(declared.get_shape())}, not {shape}")
    if declared.get_dtype() != _CODES[dtype]:
        raise RunError(f"{path} is damaged: {name} has type {declared.get_dtype()}, not {_CODES[dtype]}")
    array: FloatArray = file.get_tensor(name)
    if not np.isfinite(array).all():
        raise RunError(f"{path} is damaged: {name} holds a value that is not a finite number")
    return array
