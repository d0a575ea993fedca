"""The canonical layout of parameters and states (`d2lrnn.contract.parameters`) and that of these models.

A scratch layer has the canonical layout. Keras' layers have it with two differences, both in the GRU: its
gates stand in the order z, r, n, and its two biases in one array (2, 3h), of which the second row is
``[0, 0, b_hn]``. An optimiser's slots have the layout of the variables that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters, StateArrays
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.layout import reordered
from d2lrnn_tensorflow.language_model import RNNLM, RNNLMScratch

#: The gates of Keras' layers in their order, by cell; of those with one gate there is no other order.
KERAS_GATES = {row.cell: row.gates for row in conventions("tensorflow")}


def trainable_variables(model: RNNLMScratch) -> list[keras.Variable]:
    """All trained variables, in canonical order: embedding, layers, head."""
    layers = getattr(model.rnn, "rnns", [model.rnn])
    variables = [variable for layer in layers for variable in layer.trainable_variables]
    embedding: list[keras.Variable] = []
    if model.embedding_size is not None:
        embedding = [model.embedding.embeddings if isinstance(model, RNNLM) else model.W_e]
    if model.tied:
        head = [model.b_q]
    else:
        head = model.linear.trainable_variables if isinstance(model, RNNLM) else [model.W_hq, model.b_q]
    return [*embedding, *variables, *head]


def to_native(spec: ModelSpec, parameters: Parameters) -> list[FloatArray]:
    """The values of `trainable_variables` from canonical parameters."""
    values = dict(parameters)
    if spec.implementation == "concise":
        for l in range(spec.num_layers):
            w_x, w_h, b = (f"rnn.{l}.{name}" for name in ("w_x", "w_h", "b"))
            values |= {name: to_keras_gates(spec.cell, values[name]) for name in (w_x, w_h, b)}
            if spec.reset_after:
                values[b] = with_reset_bias(values[b], values.pop(f"rnn.{l}.b_hn"))
    return list(values.values())


def to_canonical(spec: ModelSpec, values: Sequence[FloatArray]) -> dict[str, FloatArray]:
    """The inverse of `to_native`, for parameters, their gradients and their slots alike: new arrays."""
    names = list(parameter_shapes(spec))
    if spec.implementation == "concise":
        native = dict(zip([name for name in names if not name.endswith(".b_hn")], values, strict=True))
        for l in range(spec.num_layers):
            w_x, w_h, b = (f"rnn.{l}.{name}" for name in ("w_x", "w_h", "b"))
            if spec.reset_after:
                native[b], second = native[b]
                native[f"rnn.{l}.b_hn"] = second[2 * spec.num_hiddens :]
            native |= {name: from_keras_gates(spec.cell, native[name]) for name in (w_x, w_h, b)}
        values = [native[name] for name in names]
    return {name: np.array(value, order="C") for name, value in zip(names, values, strict=True)}


def to_keras_gates(cell: str, array: FloatArray) -> FloatArray:
    """The gates on the last axis from their canonical order to Keras'."""
    gates = find_cell(cell).gates
    return reordered(array, gates, KERAS_GATES.get(cell, gates))


def from_keras_gates(cell: str, array: FloatArray) -> FloatArray:
    """The inverse of `to_keras_gates`."""
    gates = find_cell(cell).gates
    return reordered(array, KERAS_GATES.get(cell, gates), gates)


def with_reset_bias(bias: FloatArray, b_hn: FloatArray) -> FloatArray:
    """The two biases (2, 3h) of Keras' GRU: the second is zero but in the last gate."""
    return np.stack([bias, np.concatenate([np.zeros(2 * len(b_hn), b_hn.dtype), b_hn])])


def state_from_arrays(spec: ModelSpec, arrays: StateArrays) -> Any:
    """The native state from one array (L, B, h) for each state of the cell: a copy."""
    return native_state(spec, [tf.constant(part, spec.dtype) for part in arrays])


def state_to_arrays(spec: ModelSpec, state: Any) -> StateArrays:
    """The inverse of `state_from_arrays`: new arrays."""
    return tuple(np.array(part) for part in state_parts(spec, state))


def native_state(spec: ModelSpec, parts: Sequence[Any]) -> Any:
    """The native state from one tensor (L, B, h) for each state of the cell."""
    if spec.implementation == "concise":
        return _alone_or_all(tuple(parts))
    states = tuple(_alone_or_all(tuple(part[l] for part in parts)) for l in range(spec.num_layers))
    return _alone_or_all(states)


def state_parts(spec: ModelSpec, state: Any) -> tuple[Any, ...]:
    """The inverse of `native_state`."""
    if spec.implementation == "concise":
        return tuple(_all(state, spec.num_states))
    layers = [_all(layer, spec.num_states) for layer in _all(state, spec.num_layers)]
    return tuple(tf.stack(parts) for parts in zip(*layers, strict=True))


def _alone_or_all(items: tuple[Any, ...]) -> Any:
    """The tuple, or its item if there is only one."""
    return items if len(items) > 1 else items[0]


def _all(items: Any, number: int) -> Any:
    """The inverse of `_alone_or_all`."""
    return items if number > 1 else (items,)
