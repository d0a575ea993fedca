"""What is given to the doctor: a described stack, or a function of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.ported import Ported, port
from d2lrnn.ports.porter import backend_name_of
from d2lrnn.ports.proof import Case


@dataclass(frozen=True)
class DescribedSide:
    """A stack whose module computes what is described, which `d2lrnn.port` has proved.

    Attributes:
        spec: what it computes.
        parameters: by canonical name.
        source: the backend that it is of.
        notes: what the description does not carry.
    """

    spec: StackSpec
    parameters: dict[str, FloatArray]
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FunctionSide:
    """A function of arrays, of which nothing is known.

    Attributes:
        function: of inputs, state and lengths, or of the first of them.
        num_arguments: how many of them it takes.
    """

    function: Callable[..., Any]
    num_arguments: int

    def takes(self, case: Case) -> bool:
        """Whether it can be given what a case has."""
        needed = 1 + (case.state is not None) + (case.lengths is not None)
        return needed <= self.num_arguments

    def run(self, case: Case) -> dict[str, FloatArray]:
        """Its outputs, and the states by name where it gives them.

        Raises:
            PortError: it gives something else.
        """
        inputs, state, lengths = case
        copied = None if state is None else {name: array.copy() for name, array in state.items()}
        arguments = (inputs.copy(), copied, None if lengths is None else lengths.copy())
        found = self.function(*arguments[: self.num_arguments])
        outputs, states = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        try:
            arrays = {
                "outputs": np.asarray(outputs),
                **{str(name): np.asarray(states[name]) for name in states},
            }
        except (TypeError, ValueError) as error:
            raise PortError(_WANTED) from error
        if any(array.dtype.kind != "f" for array in arrays.values()):
            raise PortError(_WANTED)
        return arrays


Side = DescribedSide | FunctionSide

_WANTED = (
    "the function must give an array of outputs (T, B, size), or a tuple of it and a dict of the last "
    "states, (B, size) each: convert what it gives to arrays of NumPy"
)


def side_of(value: Any, name: str) -> Side:
    """What was given as a or b.

    Args:
        value: a module, what was ported, or a function.
        name: ``"a"`` or ``"b"``, for a message.

    Raises:
        PortError: it is none of them, or a module that cannot be described.
    """
    if isinstance(value, Ported):
        return DescribedSide(value.spec, value.parameters, value.source, value.notes)
    try:
        backend_name_of(value)
    except PortError as error:
        if not callable(value):
            raise PortError(f"{name}: {error}, or a function of arrays") from error
        return FunctionSide(value, _num_arguments(value, name))
    try:
        ported = port(value)
    except PortError as error:
        raise PortError(f"{name}: {error}. Or give a function of arrays that runs it") from error
    return DescribedSide(ported.spec, ported.parameters, ported.source, ported.notes)


def _num_arguments(function: Callable[..., Any], name: str) -> int:
    """How many of inputs, state and lengths a function takes by position."""
    try:
        arguments = signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = [each for each in arguments if each.kind in _POSITIONAL]
    needed = [each for each in positional if each.default is Parameter.empty]
    if not positional or len(needed) > 3:
        raise PortError(f"{name}: the function must take inputs, state and lengths, or the first of them")
    return max(len(needed), 1)


_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
