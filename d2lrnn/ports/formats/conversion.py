"""From a file of one framework to a file of another, and the proof by what lies on the disk then."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import BackendNotInstalledError, PortError, reason_of
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.fitting import Fitted, fit
from d2lrnn.ports.formats import plain
from d2lrnn.ports.formats.protocol import Hints, PortFiles, hints_of, port_files_of
from d2lrnn.ports.formats.table import Format, find_format, format_of, formats, without_suffix
from d2lrnn.ports.ported import Ported, computed, load_port, taken
from d2lrnn.ports.porter import Described, Module, porter_of
from d2lrnn.ports.proof import Side, by_reference
from d2lrnn.registry import find_porting
from d2lrnn.saving.exporting import check_free, put_in_place, remove


class Plan(NamedTuple):
    """What is converted into what: nothing is read yet.

    Attributes:
        path: the file or the folder.
        kind: its format.
        to: the format that is wanted.
        out: the file or the folder to write.
    """

    path: Path
    format: Format
    to: Format
    out: Path


def plan(path: Path, to: str, out: Path | None = None, given: str | None = None) -> Plan:
    """Which formats a conversion is between.

    Args:
        path: the file or the folder.
        to: the name of the format that is wanted.
        out: what to write; None is a name like that of `path`, beside it.
        given: the name of the format of `path`; None finds it.

    Raises:
        PortError: a format is unknown, or `out` has a name of another one.
        BackendNotInstalledError: a framework is missing; the message says how to go on.
    """
    wanted = find_format(to)
    found = format_of(path) if given is None else find_format(given)
    for each, way in ((found, _HERE), (wanted, _THERE)):
        if each.backend is not None and not each.plain and not find_porting(each.backend).installed:
            then = way.format(path=path, to=each.name)
            missing = ", ".join(find_porting(each.backend).missing)
            raise BackendNotInstalledError(
                f"the format {each.name} needs {missing}, which is not installed here. {then}"
            )
    if out is not None and not wanted.folder and not out.name.lower().endswith(wanted.suffixes):
        known = " or ".join(wanted.suffixes)
        raise PortError(f"{out} is no name of a file of the format {wanted.name}: let it end in {known}")
    beside = path.with_name(without_suffix(path.name, found) + (wanted.suffixes or (f"-{wanted.name}",))[0])
    return Plan(path, found, wanted, out or beside)


_HERE = "Where it is, make a file that every environment reads: d2lrnn convert {path} --to ported"
_THERE = (
    "Convert to a file that every environment reads, d2lrnn convert {path} --to ported, and that one where "
    "it is, with --to {to}"
)


def read(path: Path, kind: Format, hints: Hints) -> Ported:
    """The stack in a file, proved by what its framework makes of the file.

    Raises:
        PortError: there is none, the file does not say enough of it, or the framework computes something
            else than what was read.
        ParameterError: it holds a number that is not finite.
        BackendNotInstalledError: its framework is missing.
    """
    if kind.backend is None:
        return load_port(path)
    if not find_porting(kind.backend).installed:
        with _named(path):
            described = plain.read(path, kind.backend, hints)
        note = _NOT_ASKED.format(backend=kind.backend)
        described = described._replace(notes=(*described.notes, note))
        return taken(described, _BY_REFERENCE, lambda spec: by_reference(spec, described.parameters))
    files, (name, porter) = port_files_of(kind.backend), porter_of(kind.backend)
    with _named(path):
        described = _described(files, path, kind, hints)
        table = conventions(name)
        fitted = fit(described.spec, described.parameters, table, name, described.namespace)
        module = files.load(path, kind.name, hints, _blank(fitted, name))
    found = described._replace(spec=fitted.spec, parameters=fitted.parameters)
    return taken(found, name, partial(computed, porter, module))


#: The backend whose formulas the reference's are.
_BY_REFERENCE = "numpy"
_NOT_ASKED = (
    "{backend} is not installed here: the reference computed what it would. d2lrnn check, where it is "
    "installed, asks {backend} itself"
)


def _described(files: PortFiles, path: Path, kind: Format, hints: Hints) -> Described:
    if kind.plain and kind.backend is not None:
        return plain.read(path, kind.backend, hints)
    return files.read(path, kind.name, hints)


def write(ported: Ported, out: Path, kind: Format, *, overwrite: bool = False) -> Ported:
    """Writes a stack to a file, and proves what lies on the disk.

    Args:
        ported: the stack.
        out: the file or the folder.
        kind: its format.
        overwrite: whether what is there is replaced.

    Returns:
        The same with reports of what was loaded from the file, and what is other than in the source.

    Raises:
        PortError: the framework or the format cannot hold it, it cannot be written, or what was loaded from
            the file computes something else: nothing is left there then.
        OccupiedError: there is something, and `overwrite` is false or it is of another kind.
    """
    with _new_place(out, kind, overwrite=overwrite) as beside:
        if kind.backend is None:
            ported.save(beside)
            again = load_port(beside)
            _require_same(ported, again, kind)
            return replace(ported, reports=again.reports)
        name = find_porting(kind.backend).name
        fitted = fit(ported.spec, ported.parameters, conventions(name), name, kind.namespace)
        side, theirs, notes = _written(fitted, beside, kind, name)
        proved = ported.compared(side, theirs, fitted)
        all_notes = (*ported.notes, *fitted.notes, *notes)
        return replace(proved, notes=tuple(dict.fromkeys(all_notes)))


def _written(fitted: Fitted, path: Path, kind: Format, backend: str) -> tuple[str, Side, tuple[str, ...]]:
    """Writes a file; what the framework makes of it, and what an error and the notes say of that."""
    hints = hints_of(fitted.spec)
    if not find_porting(backend).installed:
        plain.write(path, fitted, backend)
        again = plain.read(path, backend, hints)
        _require_same(fitted, again, kind)
        what, note = "what is read from the new file", _NOT_ASKED.format(backend=backend)
        return what, by_reference(again.spec, again.parameters), (note,)
    files, (name, porter) = port_files_of(backend), porter_of(backend)
    if kind.plain:
        plain.write(path, fitted, backend)
    else:
        files.write(path, kind.name, porter.build(fitted.spec, fitted.parameters, fitted.conventions))
    _require_same(fitted, _described(files, path, kind, hints), kind)
    loaded = files.load(path, kind.name, hints, _blank(fitted, name))
    return f"what {name} loads from the new file", computed(porter, loaded, fitted.spec), ()


def _blank(fitted: Fitted, backend: str) -> Module:
    """The module of a stack with zeros: what it has after a load, it has from the file."""
    _, porter = porter_of(backend)
    zeros = {name: np.zeros_like(array) for name, array in fitted.parameters.items()}
    return porter.build(fitted.spec, zeros, fitted.conventions)


class _Stack(Protocol):
    """What has been described."""

    @property
    def spec(self) -> StackSpec: ...

    @property
    def parameters(self) -> dict[str, FloatArray]: ...


def _require_same(written: _Stack, again: _Stack, kind: Format) -> None:
    """Raises a PortError where what is read from a new file is not what was written, to the last bit."""
    # What outputs are at padding is up to who builds the layers of a file of arrays.
    expected = written.spec if kind.described else replace(written.spec, padding=again.spec.padding)
    if expected != again.spec:
        raise PortError(
            f"a file of the format {kind.name} does not say all of this stack, and would be read as another "
            f"one: take a format that does, of {', '.join(each.name for each in formats() if each.described)}"
        )
    for name, array in written.parameters.items():
        if not np.array_equal(array, again.parameters[name]):
            raise PortError(f"{name} is read from the new file with other numbers than were written")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the file's name before an error."""
    try:
        yield
    except PortError as error:
        raise PortError(f"{path}: {error}") from error
    except OSError as error:
        raise PortError(f"{path} cannot be read: {reason_of(error)}") from error


@contextmanager
def _new_place(out: Path, kind: Format, *, overwrite: bool) -> Iterator[Path]:
    """Where to write what is put in the place of `out` when all went well, and is removed when not."""
    target = Path(os.path.realpath(out))
    check_free(target, overwrite=overwrite)
    beside = target.parent / f".{uuid.uuid4().hex}{kind.suffixes[0] if kind.suffixes else ''}"
    try:
        yield beside
        put_in_place(beside, target, overwrite=overwrite)
    except OSError as error:
        raise PortError(f"{out} cannot be written: {reason_of(error)}") from error
    finally:
        remove(beside)
