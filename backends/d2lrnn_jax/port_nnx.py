"""Modules of flax.nnx for `d2lrnn.ports`: they hold their parameters themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import numpy as jnp

from d2lrnn.contract import cells
from d2lrnn.contract.values import DType, IntArray
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn_jax.port_layers import KEY, cell_options, class_of, layer_of

KIND = nnx


def layers_of(module: Any) -> list[Any]:
    """The layers of a module."""
    return list(module.layers) if type(module) is nnx.Sequential else [module]


def arrays_of(cell: Any) -> dict[str, Any]:
    """The parameters of a cell, as ``ir/kernel``; a layer in the place of one of its own has none."""
    found = {}
    for name, linear in vars(cell).items():
        if type(linear) is nnx.Linear:
            for part in ("kernel", "bias"):
                if isinstance(value := getattr(linear, part), nnx.Variable):
                    found[f"{name}/{part}"] = value[...]
    return found


def carry_of(cell: Any, shape: tuple[int, ...]) -> Any:
    """The initial state that a cell makes for inputs of a shape."""
    # Streams of the cell's own would go on: what is passed in stays as it is.
    return cell.initialize_carry(shape, nnx.Rngs(KEY))


def hidden_size(cell: Any) -> int:
    """The number of its units."""
    return int(cell.hidden_features)


def types_of(cell: Any) -> list[Any]:
    """What the attributes of it and of its parts say of types; None leaves it to the parameters."""
    parts = [cell, *(part for part in vars(cell).values() if type(part) is nnx.Linear)]
    return [kind for part in parts for kind in (part.param_dtype, part.dtype)]


def build(spec: StackSpec, rows: Sequence[Convention], arrays: Sequence[Mapping[str, Any]]) -> Any:
    """A module with the arrays of every direction of every layer; several layers are an `nnx.Sequential`."""
    left = iter(arrays)
    layers = []
    for layer, row in zip(spec.layers, rows, strict=True):
        own = [_cell(layer, row, spec.dtype, next(left)) for _ in layer.directions]
        layers.append(own[0] if spec.form == "cell" else layer_of(own, layer, KIND, spec.batch_first))
    return layers[0] if len(layers) == 1 else nnx.Sequential(*layers)


def _cell(layer: LayerSpec, row: Convention, dtype: DType, arrays: Mapping[str, Any]) -> Any:
    options = cell_options(layer, row, dtype) | {"rngs": nnx.Rngs(KEY)}
    if row.cell == cells.RNN.name:
        # This cell alone computes in float32 unless it is told otherwise.
        options["dtype"] = getattr(jnp, dtype)
    cell = class_of(row, KIND)(layer.input_size, layer.hidden_size, **options)
    for place, array in arrays.items():
        name, part = place.split("/")
        getattr(getattr(cell, name), part)[...] = array
    return cell


def doubled(layer: Any) -> Any:
    """A copy of a layer or cell in float64, with the same numbers."""
    twin = nnx.clone(layer)
    for _, part in nnx.iter_graph(twin):
        if isinstance(part, nnx.Module) and hasattr(part, "param_dtype"):
            part.param_dtype = jnp.float64
            if part.dtype is not None:
                part.dtype = jnp.float64
    params = nnx.state(twin, nnx.Param)
    nnx.update(twin, jax.tree.map(lambda array: array.astype("float64"), params))
    return twin


def call(layers: Sequence[Any], X: jax.Array, carries: Sequence[Any], lengths: IntArray | None) -> Any:
    """The outputs and the carries of layers, one behind the other; the layers stay as they are."""
    graphs, states = zip(*(nnx.split(layer) for layer in layers), strict=True)
    return _call(graphs, states, X, carries, lengths)


# Compiled once for all that is proved of a module: called as they are, layers are compiled at every call.
@partial(jax.jit, static_argnums=0)
def _call(graphs: tuple[Any, ...], states: Any, X: Any, carries: Any, lengths: Any) -> Any:
    after = []
    for graph, state, carry in zip(graphs, states, carries, strict=True):
        module = nnx.merge(graph, state)
        if isinstance(module, nnx.RNNCellBase):
            carry, X = module(carry, X)
        else:
            carry, X = module(X, initial_carry=carry, seq_lengths=lengths, return_carry=True)
        after.append(carry)
    return X, after
