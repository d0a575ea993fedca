"""What a backend offers for ports: it describes its framework's modules, builds them and runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from d2lrnn.contract.values import FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import StackSpec
from d2lrnn.registry import RUNTIMES, backends, porting

#: A framework's own recurrent module, or a list of such, one behind the other. One whose parameters lie
#: beside it is a pair with these.
Module: TypeAlias = Any


class Described(NamedTuple):
    """What a module is.

    Attributes:
        spec: what it computes.
        parameters: copies, by canonical name.
        notes: what it has that no description carries: dropout, a state that it keeps.
        namespace: of which kind its layers are, where the framework has several.
    """

    spec: StackSpec
    parameters: dict[str, FloatArray]
    notes: tuple[str, ...] = ()
    namespace: str | None = None


class Porter(Protocol):
    """A framework's recurrent modules. Nothing that is passed in is changed."""

    def describe(self, module: Module) -> Described:
        """What a module computes, and its parameters.

        Raises:
            PortError: it is none of the framework's recurrent modules, or computes what no description has.
        """

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> Module:
        """The module of a stack that `d2lrnn.ports.fitting.fit` has made fit these conventions."""

    def twin(self, module: Module) -> Module | None:
        """A copy of a float32 module that the framework makes of it, and not of its description, in float64.

        Its parameters are the same numbers. None where the framework cannot.
        """

    def run(
        self,
        module: Module,
        spec: StackSpec,
        inputs: FloatArray,
        state: Parameters | None = None,
        lengths: IntArray | None = None,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """What the module itself computes, dropout off: `d2lrnn.ports.reference.run` by the framework.

        It gives all outputs and states, whatever the module returns to its other callers.
        """


class PortingBackend(Protocol):
    """A backend, or a runtime that trains nothing, whose framework has recurrent modules."""

    name: str

    def porter(self) -> Porter:
        """What describes, builds and runs them."""


def porter_of(name: str | None) -> tuple[str, Porter]:
    """The name and the porter of a backend.

    Raises:
        UnknownBackendError: no backend has this name.
        BackendNotInstalledError: its framework is missing.
        PortError: its framework has no layers to convert.
    """
    found: PortingBackend = porting(name)
    conventions(found.name)  # which refuses one that has none
    return found.name, found.porter()


def backend_name_of(module: Module) -> str:
    """The name of the backend whose framework a module is of.

    Raises:
        PortError: it is of none.
    """
    first = module
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    roots = [kind.__module__.partition(".")[0] for kind in type(first).__mro__]
    for entry in (*backends(), *RUNTIMES):
        if any(root in entry.requires for root in roots):
            return entry.name
    kind = f"{type(first).__module__}.{type(first).__name__}"
    raise PortError(f"{kind} is a module of no framework that is known here: give a recurrent layer or cell")
