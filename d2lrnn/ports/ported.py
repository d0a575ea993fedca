"""``d2lrnn.port``: a framework's recurrent module, described, proved, and built in another framework."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from d2lrnn.atomic_files import write_atomically
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError, RunError, reason_of
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.files import from_file, to_bytes
from d2lrnn.ports.fitting import Fitted, fit
from d2lrnn.ports.porter import Described, Module, Porter, backend_name_of, porter_of
from d2lrnn.ports.proof import PADDED, Judge, Report, Results, Side, compare, judge, results, twin_of
from d2lrnn.registry import find_porting

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

    def build(self, to: str | None = None, namespace: str | None = None) -> Ported:
        """The same with `module`, a framework's own, that was proved against the reference and the source.

        Args:
            to: the name of the backend; None takes ``D2LRNN_BACKEND``, see `d2lrnn.backend`.
            namespace: see `port`.

        Raises:
            PortError: the framework cannot hold it, or computes something else.
            UnknownBackendError: no backend has this name.
            BackendNotInstalledError: its framework is missing.
        """
        name, porter = porter_of(to)
        fitted = fit(self.spec, self.parameters, conventions(name), name, namespace)
        module = porter.build(fitted.spec, fitted.parameters, fitted.conventions)
        built = self.compared(f"what was built in {name}", computed(porter, module, fitted.spec), fitted)
        return replace(built, module=module, notes=(*self.notes, *fitted.notes))

    def compared(self, side: str, theirs: Side, fitted: Fitted) -> Ported:
        """The same with two more reports: what a side computes, against the reference and the source.

        Args:
            side: what the reports call it.
            theirs: what it computes.
            fitted: what it was built from.

        Raises:
            PortError: it computes something else.
        """
        # Its padding may be another one than the source's: by its own it is judged.
        judged = judge(fitted.spec, fitted.parameters)
        reports = [_compare(side, theirs, REFERENCE, judged.side, fitted.spec, judged)]
        if fitted.spec.padding != self.spec.padding:
            theirs, source = _without_padding(theirs), _without_padding(self.found)
        else:
            source = self.found
        reports.append(_compare(side, theirs, _side(self.source), source, fitted.spec, judged))
        return replace(self, reports=(*self.reports, *reports))

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


def port(module: Module, to: str | None = None, namespace: str | None = None) -> Ported:
    """Takes a recurrent module out of its framework, proves what was taken, and builds it in another one.

    Args:
        module: a framework's recurrent layer or cell, or a list of layers, one behind the other. One whose
            parameters lie beside it is a pair ``(module, variables)``, or a module bound to them.
        to: the backend to build it on. Where it is not installed here it is checked that it can hold the
            module; save what is returned, and build it there. None builds nothing.
        namespace: which of the framework's layers, where it has several kinds, as ``"linen"`` and ``"nnx"``:
            what their names in the table of conventions begin with. None takes the first kind that can hold
            the module.

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
    described = porter.describe(module)
    ported = taken(described, name, partial(computed, porter, module))
    if to is None:
        return ported
    entry = find_porting(to)
    if entry.installed:
        return ported.build(to, namespace)
    fitted = fit(ported.spec, ported.parameters, conventions(to), entry.name, namespace)
    return replace(ported, notes=(*ported.notes, *fitted.notes))


def taken(described: Described, source: str, compute: Callable[[StackSpec], Side]) -> Ported:
    """What was described, if it is what the source computes.

    Args:
        described: by the source's porter, or of its file.
        source: the name of the backend.
        compute: what the source's own module computes in the drawn cases.

    Raises:
        ParameterError: a number is not finite, or an array is of another shape or type.
        PortError: the source computes something else.
    """
    spec = described.spec
    parameters = check_arrays("parameter", spec.parameter_shapes(), described.parameters, spec.dtype)
    found, judged = compute(spec), judge(spec, parameters)
    report = _compare(_side(source), found, REFERENCE, judged.side, spec, judged)
    return Ported(spec, parameters, source, found, (report,), described.notes)


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


def computed(porter: Porter, module: Module, spec: StackSpec) -> Side:
    """What a module computes in the drawn cases, and its float64 twin."""

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
