"""A model in a format that runs without this library: ONNX, a SavedModel, StableHLO.

Each backend that has a format writes its own; `d2lrnn.registry` says which. What is exported is one function,
the same in every format, with dropout off:

=================  ==================  ===================================================================
``tokens``         int32 (B, T)        token indices in [0, V)
``h`` (and ``c``)  `dtype` (L, B, h)   the state before them: zeros at first, later what was returned
``logits``         `dtype` (B, T, V)   of the token that follows each
``next_h``, …      `dtype` (L, B, h)   the state after them
=================  ==================  ===================================================================

B and T are free. Formats without names have inputs and outputs in this order.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Protocol, cast

from d2lrnn.atomic_files import sync_folder
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.values import Model
from d2lrnn.errors import OccupiedError, RunError, SpecError, reason_of
from d2lrnn.registry import backend_of, backends, find_backend


class Exporter(Protocol):
    """The method of a `d2lrnn.contract.protocols.Backend` whose entry in the registry has `exports`."""

    def write_export(self, model: Model, path: Path) -> None:
        """Writes the function above.

        Args:
            model: what `Backend.build` returned.
            path: where nothing is yet; it becomes a file or, where the format is one, a folder.

        Raises:
            SpecError: a package is missing that the format needs.
            OSError: it cannot be written.
        """


def export_format(backend: Backend, to: str | None = None) -> str:
    """The format that a backend exports models to.

    Args:
        backend: the backend.
        to: the format that was asked for; None takes the backend's own.

    Raises:
        SpecError: the backend has none, or another one; the message says which backend has which.

    Example:
        >>> export_format(backend("numpy"))
        Traceback (most recent call last):
            ...
        d2lrnn.errors.SpecError: the backend numpy has no format to export a model to: choose another ...
    """
    own = find_backend(backend.name).exports
    if own is not None and to in (None, own):
        return own
    others = ", ".join(f"{each.exports} ({each.name})" for each in backends() if each.exports)
    if to is not None and to not in [each.exports for each in backends()]:
        raise SpecError(f"unknown format {to!r}: choose one of {others}")
    has = f"exports models to {own} and not to {to}" if own else "has no format to export a model to"
    raise SpecError(f"the backend {backend.name} {has}: choose another backend. The formats are {others}")


def export(
    model: Model, path: str | os.PathLike[str], *, to: str | None = None, overwrite: bool = False
) -> str:
    """Writes a model to a file or a folder that runs without this library; see this module for what it has.

    Args:
        model: what `Backend.build` or `d2lrnn.load` returned, or `Learner.model`.
        path: the file to write; of a SavedModel it is a folder.
        to: ``"onnx"``, ``"savedmodel"`` or ``"stablehlo"``; None takes the one of the model's backend.
        overwrite: whether a file, or a folder of such a model, that is there is replaced.

    Returns:
        The format.

    Raises:
        SpecError: the model's backend has no such format, or a package is missing that it needs.
        OccupiedError: there is something at `path`, and `overwrite` is false or it is of another kind.
        RunError: it cannot be written.

    Example:
        >>> d2lrnn.export(d2lrnn.load("runs/gru", backend="jax"), "gru.stablehlo")  # doctest: +SKIP
        'stablehlo'
    """
    backend = backend_of(model)
    chosen = export_format(backend, to)
    exporter = cast(Exporter, backend)  # which has a format
    target = Path(os.path.realpath(path))
    check_free(target, overwrite=overwrite)
    beside = target.parent / f".{target.name}-{uuid.uuid4().hex}"
    try:
        exporter.write_export(model, beside)
        put_in_place(beside, target, overwrite=overwrite)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {reason_of(error)}") from error
    finally:
        remove(beside)
    return chosen


def check_free(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Checks before the work whether a model can be written to a path.

    Raises:
        OccupiedError: there is something, and `overwrite` is false.
        RunError: there is no folder to write to.
    """
    target = Path(os.path.realpath(path))
    if not str(path) or not target.parent.is_dir():
        raise RunError(f"{path} cannot be written: there is no folder {target.parent}. Make it first")
    if target.exists() and not overwrite:
        raise OccupiedError(
            f"{path} is there already: choose another name, or replace it with overwrite=True"
        )


def put_in_place(new: Path, target: Path, *, overwrite: bool) -> None:
    """Renames what is whole; what it replaces is removed afterwards, and is nothing but an older export.

    Raises:
        OccupiedError: there is something, and `overwrite` is false or it is of another kind.
        OSError: it cannot be renamed.
    """
    check_free(target, overwrite=overwrite)  # it may have come meanwhile
    if not target.exists():
        os.rename(new, target)
    elif new.is_file() and target.is_file():
        os.replace(new, target)
    elif new.is_dir() and target.is_dir() and set(os.listdir(target)) <= set(os.listdir(new)):
        old = new.with_name(f"{new.name}-old")
        os.rename(target, old)
        os.rename(new, target)
        shutil.rmtree(old)
    else:
        raise OccupiedError(f"{target} is no model of this format: it is not replaced. Choose another name")
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Removes a file or a folder that may be there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
