"""The arrays of an ONNX model, which may claim any size and lie in files beside it."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from d2lrnn.errors import PortError

#: The types that are read: of weights, and of axes and shapes. The second is the field that may hold them.
_TYPES: dict[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
}
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


def array_of(tensor: TensorProto) -> Any:
    """A tensor as an array, where its data are as many as its shape says.

    Raises:
        PortError: they are not, or are of a type that no layer here has.
    """
    if tensor.data_type not in _TYPES:
        known = tensor.data_type in TensorProto.DataType.values()
        kind = TensorProto.DataType.Name(tensor.data_type).lower() if known else "no known type"
        raise PortError(
            f"{_shown(tensor)} has numbers of {kind}: a layer has float or double. Convert it there, and "
            "save it again"
        )
    dtype, field = _TYPES[tensor.data_type]
    shape, kind_of = tuple(tensor.dims), np.dtype(dtype)
    if any(length < 0 for length in shape) or tensor.HasField("segment"):
        raise PortError(f"{_shown(tensor)} has the shape {list(shape)[:8]}")
    if tensor.data_location == TensorProto.EXTERNAL:
        raise PortError(
            f"{_shown(tensor)} lies in a file beside its model, which was not read with it: load the "
            "model with its external data, or give the file to d2lrnn convert"
        )
    raw = tensor.HasField("raw_data")
    found = len(tensor.raw_data) // kind_of.itemsize if raw else len(getattr(tensor, field))
    if found != math.prod(shape) or (raw and len(tensor.raw_data) % kind_of.itemsize):
        raise PortError(
            f"{_shown(tensor)} has the shape {list(shape)[:8]}, which its {found:,} numbers do not fill"
        )
    data = np.frombuffer(tensor.raw_data, kind_of) if raw else np.array(getattr(tensor, field), kind_of)
    return data.reshape(shape).astype(kind_of.newbyteorder("="))


def _shown(tensor: TensorProto) -> str:
    return f"the array {tensor.name[:60]!r}"


def read_beside(tensor: TensorProto, folder: Path) -> None:
    """Puts the data of a tensor that lie in a file into the tensor.

    Raises:
        PortError: the file is not in the folder of the model, or does not have them.
        OSError: it cannot be read.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = Path(location).parts
    # As PureWindowsPath sees it, too: a model may come from anywhere.
    if not parts or Path(location).is_absolute() or ".." in parts or "\\" in location or ":" in location:
        raise PortError(
            f"{_shown(tensor)} is to lie in {location[:80]!r}, which is not in the model's folder"
        )
    inside = folder
    for part in parts:
        inside = inside / part
        if inside.is_symlink():
            raise PortError(f"{_shown(tensor)} is to lie in {location[:80]!r}, which is a link")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
    except ValueError as error:
        raise PortError(f"{_shown(tensor)} says no number for its place in {location[:80]!r}") from error
    with open(inside, "rb", opener=lambda name, _: os.open(name, _FLAGS)) as file:
        status = os.fstat(file.fileno())
        length = status.st_size - offset if length < 0 else length
        if not stat.S_ISREG(status.st_mode) or offset < 0 or not 0 <= length <= status.st_size - offset:
            raise PortError(f"{_shown(tensor)} is not in {location[:80]!r}: the file is shorter")
        _check_length(tensor, length)
        file.seek(offset)
        tensor.raw_data = file.read(length)
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def _check_length(tensor: TensorProto, length: int) -> None:
    if tensor.data_type in _TYPES:
        needed = (
            math.prod(max(each, 0) for each in tensor.dims) * np.dtype(_TYPES[tensor.data_type][0]).itemsize
        )
        if needed != length:
            raise PortError(f"{_shown(tensor)} needs {needed:,} bytes, and its place has {length:,}")
