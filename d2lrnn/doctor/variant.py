"""A stack and how it is used, which no description says: what the doctor changes until two sides agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.ports import reference
from d2lrnn.ports.description import StackSpec, prefix_of
from d2lrnn.ports.layout import part_of, with_biases
from d2lrnn.ports.proof import Case


@dataclass(frozen=True)
class Use:
    """How a stack is used, where that is not as it is meant; as it is meant by default.

    Attributes:
        swapped_axes: the sequences are read as (B, T, n), and are (T, B, n).
        fed_input: the layers behind the first are fed the inputs of the stack.
        turned: the layers whose directions read the other way.
        order_of_reading: the layers whose outputs of what reads backward stand in the order of reading.
        backward_first: the layers whose outputs of the direction backward stand before the others.
        state_ignored: the first state is zeros, whatever is given.
        padding_ignored: padded steps are read like others.
        states_exchanged: an LSTM's h is taken for c, and c for h, in the first and the last state.
        gives_cell: an LSTM's outputs are c.
    """

    swapped_axes: bool = False
    fed_input: bool = False
    turned: tuple[int, ...] = ()
    order_of_reading: tuple[int, ...] = ()
    backward_first: tuple[int, ...] = ()
    state_ignored: bool = False
    padding_ignored: bool = False
    states_exchanged: bool = False
    gives_cell: bool = False


@dataclass(frozen=True)
class Variant:
    """A stack with two biases a gate, and how it is used.

    Attributes:
        spec: all of its layers have biases ``"two"``.
        parameters: of it, in float64.
        use: as it is meant, or not.
    """

    spec: StackSpec
    parameters: Parameters
    use: Use = Use()

    def changed(self, parameters: Mapping[str, FloatArray]) -> Variant:
        """The same with other values of some parameters."""
        return replace(self, parameters={**self.parameters, **parameters})


def variant_of(spec: StackSpec, parameters: Parameters) -> Variant:
    """A described stack, whose missing biases are zeros."""
    layers = tuple(replace(layer, biases="two") for layer in spec.layers)
    return Variant(replace(spec, layers=layers), _with_biases(spec, parameters, "two"))


def read_as(variant: Variant, spec: StackSpec) -> Variant:
    """The same function, its layers that read in one direction named by that of another description."""
    layers, parameters, use = list(variant.spec.layers), dict(variant.parameters), variant.use
    for l, (layer, of) in enumerate(zip(layers, spec.layers, strict=True)):
        if layer.directions == of.directions:
            continue
        before, after = (prefix_of(l, each.directions[0]) for each in (layer, of))
        for name in layer.shapes():
            parameters[after + name] = parameters.pop(before + name)
        if layer.flipped:
            use = replace(use, order_of_reading=(*use.order_of_reading, l))
        use = replace(use, turned=(*use.turned, l))
        layers[l] = replace(layer, directions=of.directions, flipped=False)
    return Variant(replace(variant.spec, layers=tuple(layers)), parameters, use)


def _with_biases(spec: StackSpec, parameters: Parameters, biases: Any) -> dict[str, FloatArray]:
    changed: dict[str, FloatArray] = {}
    for prefix, layer, _ in spec.parts():
        own = {
            name: array.astype(np.float64)
            for name, array in part_of(parameters, prefix, list(layer.shapes())).items()
        }
        changed |= {prefix + name: array for name, array in with_biases(layer, own, biases).items()}
    return changed


def run(variant: Variant, case: Case, num_layers: int | None = None) -> dict[str, FloatArray]:
    """The outputs and states of a stack as it is used.

    Args:
        variant: the stack.
        case: what it is given.
        num_layers: how many layers are computed; None is all. Of fewer there are no outputs.
    """
    use, layers = variant.use, variant.spec.layers[:num_layers]
    inputs: FloatArray = case.inputs.astype(np.float64)
    if use.swapped_axes:
        inputs = inputs.swapaxes(0, 1)
    X = inputs
    shapes = variant.spec.state_shapes(X.shape[1])
    given = {} if use.state_ignored or case.state is None else _exchanged(use, case.state)
    states: dict[str, FloatArray] = {name: np.zeros(shape) for name, shape in shapes.items()} | given
    lengths = None if use.padding_ignored else case.lengths
    final: dict[str, FloatArray] = {}
    for l, layer in enumerate(layers):
        outputs = []
        for direction in layer.directions:
            prefix = prefix_of(l, direction)
            backward = (direction == "backward") != (l in use.turned)
            names = [prefix + name for name in layer.kind.states]
            H, after = reference.run_direction(
                layer,
                part_of(variant.parameters, prefix, list(layer.shapes())),
                inputs if use.fed_input else X,
                tuple(states[name].astype(np.float64) for name in names),
                lengths,
                backward,
                variant.spec.padding,
                int(use.gives_cell),
            )
            outputs.append(H[::-1] if backward and l in use.order_of_reading else H)
            final |= dict(zip(names, after, strict=True))
        X = reference.merged(layer, outputs[::-1] if l in use.backward_first else outputs)
    final = _exchanged(use, final)
    if len(layers) < len(variant.spec.layers):
        return final
    return {"outputs": X.swapaxes(0, 1) if use.swapped_axes else X, **final}


def _exchanged(use: Use, states: Parameters) -> dict[str, FloatArray]:
    """The states, h in the place of c and c in that of h where they are exchanged."""
    if not use.states_exchanged:
        return dict(states)
    return {name: states[name[:-1] + ("c" if name.endswith("h") else "h")] for name in states}
