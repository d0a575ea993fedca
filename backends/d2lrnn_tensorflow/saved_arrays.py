"""The archives that Keras writes: configuration and weights, read without building anything of them.

A ``.keras`` file is a zip of ``config.json`` and ``model.weights.h5``; a ``.weights.h5`` file is the latter
alone. In it each layer has a group, by the names of the classes on the way, whose ``vars`` has its arrays by
number.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention

#: The configuration of a model of ten thousand layers.
_MOST_CONFIG = 1 << 24
#: How much larger than the archive its members may be: Keras stores them as they are.
_MOST_INFLATED = 4
_MOST_GROUPS, _MOST_DEPTH = 100_000, 32
_PIECE = 1 << 20


class CellArrays(NamedTuple):
    """A cell's arrays as Keras orders them: kernel, recurrent kernel and, unless there is none, bias.

    Attributes:
        place: its group in the file.
        convention: of its layer.
        arrays: two or three.
    """

    place: str
    convention: Convention
    arrays: list[FloatArray]


def listed(names: Sequence[str]) -> str:
    """Some names, for an error."""
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


@contextmanager
def opened_archive(path: Path) -> Iterator[tuple[Any, h5py.File]]:
    """The configuration and the weights in a ``.keras`` file.

    Raises:
        PortError: it is damaged, or no such file.
    """
    limit = _MOST_INFLATED * path.stat().st_size + _PIECE
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryFile() as weights:
            content = archive.open("config.json").read(_MOST_CONFIG + 1)
            if len(content) > _MOST_CONFIG:
                raise PortError(f"its config.json has more than {_MOST_CONFIG:,} bytes")
            config = json.loads(content)
            with archive.open("model.weights.h5") as member:
                _copy(member, weights, limit)
            with _opened(weights) as file:
                yield config, file
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        RecursionError,
        NotImplementedError,
        EOFError,
    ) as error:
        if isinstance(error, PortError):
            raise
        reason = str(error).strip("'\"")[:200] or type(error).__name__
        raise PortError(f"it is damaged, or no .keras file of Keras 3: {reason}") from error


@contextmanager
def opened_weights(path: Path) -> Iterator[h5py.File]:
    """A ``.weights.h5`` file.

    Raises:
        PortError: it is damaged, or no such file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, _opened(file) as weights:
        yield weights


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[h5py.File]:
    try:
        weights = h5py.File(file, "r")
    except OSError as error:
        raise PortError(f"it is damaged, or has no weights: {str(error)[:200]}") from error
    try:
        yield weights
    except PortError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:  # what h5py raises of damage
        raise PortError(f"its weights are damaged: {str(error)[:200]}") from error
    finally:
        weights.close()


def _copy(member: IO[bytes], target: IO[bytes], limit: int) -> None:
    copied = 0
    while piece := member.read(_PIECE):
        copied += len(piece)
        if copied > limit:
            raise PortError("it is damaged: its weights are packed to less than a quarter of their size")
        target.write(piece)
    target.seek(0)


def groups_of_cells(weights: h5py.File) -> list[str]:
    """The groups that have arrays of their own and a name that a cell has, in order of their names.

    Raises:
        PortError: there are more groups than a model has.
    """
    found: list[str] = []
    waiting, seen = [("", 0)], 0
    while waiting:
        name, depth = waiting.pop()
        group, seen = (group_at(weights, name) if name else weights), seen + 1
        if group is None:
            continue
        if seen > _MOST_GROUPS or depth > _MOST_DEPTH:
            raise PortError("its groups are more, or deeper, than a model has")
        parts = name.split("/")
        is_cell = parts[-1] == "cell" or (len(parts) > 2 and parts[-2] == "cells")
        if is_cell and group_at(weights, f"{name}/vars/0") is not None:
            found.append(name)
        for child in group:
            hard = isinstance(group.get(child, getlink=True), h5py.HardLink)
            if child != "vars" and hard and group.get(child, getclass=True) is h5py.Group:
                waiting.append((f"{name}/{child}" if name else child, depth + 1))
    return sorted(found)


def group_at(weights: h5py.File, name: str) -> Any:
    """A group or an array by its path; None where there is none, or a link leads somewhere else."""
    place: Any = weights
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            return None
        place = place[part]
    return place


def arrays_at(weights: h5py.File, name: str, most_bytes: int) -> list[FloatArray]:
    """The arrays of a layer or a cell, in Keras' order.

    Raises:
        PortError: they are missing, do not lie in the file, or are larger than it.
    """
    group = group_at(weights, f"{name}/vars")
    if not isinstance(group, h5py.Group):
        raise PortError(f"it has no arrays at {name}/vars")
    arrays = []
    for k in range(min(len(group), 8)):
        data = group_at(weights, f"{name}/vars/{k}")
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or data.shape is None:
            raise PortError(f"the array {name}/vars/{k} does not lie in the file")
        if data.dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise PortError(
                f"the array {name}/vars/{k} has numbers of {str(data.dtype)[:20]}: take float32 or float64"
            )
        if data.nbytes > most_bytes:
            raise PortError(
                f"it is damaged: {name}/vars/{k} is to have {data.nbytes:,} bytes, more than the file"
            )
        arrays.append(np.array(data))
    return arrays
