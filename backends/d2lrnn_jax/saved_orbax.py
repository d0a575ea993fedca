"""Folders of orbax: which arrays are in one, and these, in no more memory than its files can hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax import checkpoint as ocp

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.formats.shapes import Shaped
from d2lrnn_jax.saved_msgpack import TreePath

#: How much larger than the folder its arrays may be: they are compressed, which gains little on weights.
_MOST_INFLATED = 4
_ROOM = 1 << 20

#: The file that a checkpoint has.
_METADATA = "_METADATA"


def leaves(folder: Path) -> dict[TreePath, Shaped]:
    """The arrays of a checkpoint by their keys.

    Raises:
        PortError: it is damaged, no checkpoint, or its arrays are larger than its files can hold.
    """
    return {path: Shaped(str(np.dtype(each.dtype)), tuple(each.shape)) for path, each in _arrays(folder)}


def arrays(folder: Path) -> dict[TreePath, FloatArray]:
    """All arrays of a checkpoint whose `leaves` were read."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = _metadata(checkpointer, folder)
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        try:
            restored = checkpointer.restore(folder.absolute(), restore_args=as_arrays)
        except Exception as error:  # a damaged folder raises anything
            raise _damaged(error) from error
    return {path: np.asarray(each) for path, each in _flat(restored)}


def write(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays as orbax' users do."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), tree)
        checkpointer.wait_until_finished()


def _arrays(folder: Path) -> list[tuple[TreePath, Any]]:
    if not (folder / _METADATA).is_file():
        raise PortError(
            f"it is no checkpoint: it has no {_METADATA}. Of a CheckpointManager give the folder of one item "
            "of one step, as 100/default"
        )
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = [
            (path, each)
            for path, each in _flat(_metadata(checkpointer, folder))
            if getattr(each, "dtype", None) is not None and getattr(each, "shape", None) is not None
        ]
    limit = _MOST_INFLATED * sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) + _ROOM
    if (size := sum(_size(each) for _, each in found)) > limit:
        raise PortError(f"it is damaged: its arrays are to have {size:,} bytes, which its files cannot hold")
    return found


def _size(each: Any) -> int:
    """The bytes of an array, or of one of its pieces, which are read whole."""
    shapes = [each.shape, getattr(each.storage, "chunk_shape", None) or ()]
    return int(np.dtype(each.dtype).itemsize) * max(math.prod(shape) for shape in shapes)


def _metadata(checkpointer: Any, folder: Path) -> Any:
    try:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
    except Exception as error:  # a damaged folder raises anything
        raise _damaged(error) from error
    return tree


def _flat(tree: Any) -> list[tuple[TreePath, Any]]:
    return [(tuple(map(_key, path)), each) for path, each in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _key(entry: Any) -> str:
    return str(getattr(entry, "key", getattr(entry, "idx", entry)))


def _damaged(error: Exception) -> PortError:
    reason = (str(error) or type(error).__name__).partition("\n")[0]
    return PortError(f"it is damaged, or no checkpoint of orbax: {reason[:200]}")
