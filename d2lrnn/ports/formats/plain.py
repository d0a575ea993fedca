"""Safetensors files with a framework's names of arrays: read and written here, without the framework."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import safetensors.numpy

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError, RunError
from d2lrnn.ports.fitting import Fitted
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.shapes import Shaped
from d2lrnn.ports.formats.stacks import described, find_stack, named_arrays
from d2lrnn.ports.porter import Described
from d2lrnn.saving.checkpoint import opened
from d2lrnn.saving.foreign_tensors import read_arrays, read_entries


def read(path: Path, backend: str, hints: Hints) -> Described:
    """The stack in a file; see `d2lrnn.ports.formats.protocol.PortFiles.read`.

    Args:
        path: the file, or a link to it.
        backend: whose framework's names its arrays have.
        hints: what is known from elsewhere.

    Raises:
        PortError: it is damaged, has no such stack or several, or does not say enough of it.
    """
    try:
        # A hub's cache has links to what it fetched.
        with opened(Path(os.path.realpath(path))) as file:
            entries = read_entries(file)
            shapes = {name: Shaped(each.dtype, each.shape) for name, each in entries.items()}
            found = find_stack(shapes, backend, hints)
            arrays = read_arrays(file, entries, list(found.places.values()))
    except RunError as error:
        raise PortError(f"it is damaged: {error}") from error
    return described(found, arrays, backend)


def write(path: Path, fitted: Fitted, backend: str) -> None:
    """Writes a stack that fits the framework.

    Raises:
        OSError: it cannot be written.
    """
    arrays: dict[str, FloatArray] = {
        name: np.ascontiguousarray(array)
        for name, array in named_arrays(fitted.spec, fitted.parameters, backend).items()
    }
    # Some libraries take no file that does not say whose conventions it follows.
    content = safetensors.numpy.save(arrays, {"format": "pt"})
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
