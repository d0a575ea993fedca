"""The states of the models in MXNet's form, and as NumPy: ``(h,)`` or ``(h, c)``, each (L, B, h).

A concise model's state is one array (L, B, h), a scratch layer's one (B, h), a stack's a list of its layers'
states. Where a cell has several states, an LSTM ``(H, C)``, there is a tuple in place of each array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mxnet import np as mxnp

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import StateArrays
from d2lrnn_mxnet.arrays import on_device


def zero_state(spec: ModelSpec, batch_size: int, context: Any) -> Any:
    """The state before the first token, zeros, on a device."""
    shape = spec.num_layers, batch_size, spec.num_hiddens
    return import_state(spec, (np.zeros(shape, spec.dtype),) * spec.num_states, context)


def import_state(spec: ModelSpec, arrays: StateArrays, context: Any) -> Any:
    """A model's own state, on a device, from NumPy."""
    if spec.implementation == "concise":
        return _unwrap([on_device(part, spec.dtype, context) for part in arrays])
    layers = [
        _unwrap([on_device(part[l], spec.dtype, context) for part in arrays]) for l in range(spec.num_layers)
    ]
    return layers if spec.num_layers > 1 else layers[0]


def export_state(spec: ModelSpec, state: Any) -> StateArrays:
    """The inverse of `import_state`."""
    state = whole(spec, state)
    if spec.implementation == "concise":
        return tuple(part.asnumpy() for part in _wrap(spec, state))
    layers = state if spec.num_layers > 1 else [state]
    by_layer = [[part.asnumpy() for part in _wrap(spec, layer)] for layer in layers]
    return tuple(np.stack(parts) for parts in zip(*by_layer, strict=True))


# benchmarks/tricks: mxnet, the state of a single step layer by layer
class Layers(tuple[Any, ...]):
    """A state split by layer: the arrays (B, h) of one layer after the other, for an LSTM H and C of each.

    Single steps take and return it: stacking and splitting a concise model's state at every step takes more
    than a third of the step.
    """


def by_layer(spec: ModelSpec, state: Any) -> Layers:
    """A state in either form, split by layer."""
    if isinstance(state, Layers):
        return state
    if spec.implementation == "concise":
        return Layers(part[l] for l in range(spec.num_layers) for part in _wrap(spec, state))
    layers = state if spec.num_layers > 1 else [state]
    return Layers(part for layer in layers for part in _wrap(spec, layer))


def whole(spec: ModelSpec, state: Any) -> Any:
    """The inverse of `by_layer`; a model's own state stays as it is."""
    if not isinstance(state, Layers):
        return state
    kinds = len(state) // spec.num_layers
    if spec.implementation == "concise":
        return _unwrap([mxnp.stack(state[kind::kinds]) for kind in range(kinds)])
    layers = [_unwrap(list(state[first : first + kinds])) for first in range(0, len(state), kinds)]
    return layers if spec.num_layers > 1 else layers[0]


def rows_of(spec: ModelSpec, state: Any, rows: slice) -> Any:
    """The state of a part of the batch."""
    return whole(spec, Layers(part[rows] for part in by_layer(spec, state)))


def join_rows(spec: ModelSpec, states: list[Any]) -> Any:
    """The inverse of `rows_of`, from the states of all parts in their order."""
    parts = zip(*(by_layer(spec, state) for state in states), strict=True)
    return whole(spec, Layers(mxnp.concatenate(part, axis=0) for part in parts))


def detached(state: Any) -> Any:
    """The state, detached."""
    return [detached(part) for part in state] if isinstance(state, list | tuple) else state.detach()


def _wrap(spec: ModelSpec, state: Any) -> Any:
    return state if spec.num_states > 1 else [state]


def _unwrap(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)
