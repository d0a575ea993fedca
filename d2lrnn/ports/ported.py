"""``d2lrnn.port``: a framework's recurrent module, described, proved, and built in another framework."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from d2lrnn.atomic_files import write_atomically
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError, RunError, reason_of
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.files import from_file, to_bytes
from d2lrnn.ports.fitting import fit
from d2lrnn.ports.porter import Module, Porter, backend_name_of, porter_of
from d2lrnn.ports.proof import PADDED, Judge, Report, Results, Side, compare, judge, results, twin_of
from d2lrnn.registry import find_backend

REFERENCE = "the float64 reference"


@dataclass(frozen=True)
class Ported:
    """A stack of recurrent layers on its way from one framework to another.

    Attributes:
        spec: what it computes.
        parameters: by canonical name; see `d2lrnn.ports.description`.
        source: the backend that it came from.
        found: what the source's own module computed in the drawn cases, and its float64 twin.
        reports: what was compared; all of it agrees.
        notes: what is otherwise in the other framework, or could not be carried.
        module: what was built; None where nothing was yet.
    """

    spec: StackSpec
    parameters: dict[str, FloatArray]
    source: str
    found: Side
    reports: tuple[Report, ...] = ()
    notes: tuple[str, ...] = ()
    module: Module = None

    def build(self, to: str | None = None) -> Ported:
        """The same with `module`, a framework's own, that was proved against the reference and the source.

        Args:
            to: the name of the backend; None takes ``D2LRNN_BACKEND``, see `d2lrnn.backend`.

        Raises:
            PortError: the framework cannot hold it, or computes something else.
            UnknownBackendError: no backend has this name.
            BackendNotInstalledError: its framework is missing.
        """
        name, porter = porter_of(to)
        fitted = fit(self.spec, self.parameters, conventions(name), name)
        module = porter.build(fitted.spec, fitted.parameters, fitted.conventions)
        side, theirs = f"what was built in {name}", _run(porter, module, fitted.spec)
        # Its padding may be another one than the source's: by its own it is judged.
        judged = judge(fitted.spec, fitted.parameters)
        reports = [_compare(side, theirs, REFERENCE, judged.side, fitted.spec, judged)]
        if fitted.spec.padding != self.spec.padding:
            theirs, source = _without_padding(theirs), _without_padding(self.found)
        else:
            source = self.found
        reports.append(_compare(side, theirs, _side(self.source), source, fitted.spec, judged))
        return replace(
            self, module=module, reports=(*self.reports, *reports), notes=(*self.notes, *fitted.notes)
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a safetensors file with the description, the parameters and the proof.

        ``d2lrnn check FILE`` checks it on any backend, and `load_port` reads it.

        Raises:
            PortError: it cannot be written.
        """
        content = to_bytes(self.spec, self.parameters, self.source, self.found)
        try:
            write_atomically(Path(path), content)
        except OSError as error:
            raise PortError(f"{path} cannot be written: {reason_of(error)}") from error


def port(module: Module, to: str | None = None) -> Ported:
    """Takes a recurrent module out of its framework, proves what was taken, and builds it in another one.

    Args:
        module: a framework's recurrent layer or cell, or a list of layers, one behind the other.
        to: the backend to build it on. Where it is not installed here it is checked that it can hold the
            module; save what is returned, and build it there. None builds nothing.

    Raises:
        ParameterError: it holds a number that is not finite.
        PortError: it is no recurrent module; it or the framework to build it in computes something else than
            what was described; or that framework cannot hold it: the message says why.
        UnknownBackendError: no backend has this name.

    Example:
        >>> ported = d2lrnn.port(torch.nn.GRU(8, 16), to="tensorflow")  # doctest: +SKIP
        >>> print(*ported.reports, *ported.notes, sep="; ")  # doctest: +SKIP
        >>> ported.save("gru.safetensors")  # doctest: +SKIP
    """
    name, porter = porter_of(backend_name_of(module))
    spec, described, notes = porter.describe(module)
    parameters = check_arrays("parameter", spec.parameter_shapes(), described, spec.dtype)
    found = _run(porter, module, spec)
    judged = judge(spec, parameters)
    report = _compare(_side(name), found, REFERENCE, judged.side, spec, judged)
    ported = Ported(spec, parameters, name, found, (report,), notes)
    if to is None:
        return ported
    entry = find_backend(to)
    if entry.installed:
        return ported.build(to)
    fitted = fit(spec, parameters, conventions(to), entry.name)
    return replace(ported, notes=(*notes, *fitted.notes))


def load_port(path: str | os.PathLike[str]) -> Ported:
    """Reads what `Ported.save` wrote, and computes its proof anew with the reference.

    Raises:
        PortError: it is no such file, is damaged, or its proof does not hold.

    Example:
        >>> layer = d2lrnn.load_port("gru.safetensors").build("tensorflow").module  # doctest: +SKIP
    """
    try:
        spec, parameters, source, found = from_file(Path(path))
    except RunError as error:
        raise PortError(str(error)) from error
    judged = judge(spec, parameters)
    report = _compare(_side(source), found, REFERENCE, judged.side, spec, judged)
    return Ported(spec, parameters, source, found, (report,))


def _side(source: str) -> str:
    return f"the {source} module"


def _run(porter: Porter, module: Module, spec: StackSpec) -> Side:
    def run(each: Module, of: StackSpec) -> Results:
        return results(
            spec, lambda case: porter.run(each, of, case.inputs, case.state, case.lengths), of.dtype
        )

    if spec.dtype == "float64":
        return Side(run(module, spec))
    twin = porter.twin(module)
    return Side(run(module, spec), None if twin is None else run(twin, twin_of(spec)))


def _compare(side: str, theirs: Side, against: str, expected: Side, spec: StackSpec, judged: Judge) -> Report:
    return compare(side, theirs, against, expected, spec.dtype, judged.rounding).require()


def _without_padding(side: Side) -> Side:
    own, twin = (
        None if found is None else {case: arrays for case, arrays in found.items() if case != PADDED}
        for found in side
    )
    return Side(own or {}, twin)
