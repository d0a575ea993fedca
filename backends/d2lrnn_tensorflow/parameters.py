"""The canonical layout of parameters and states (`d2lrnn.contract.parameters`) and that of these models.

A scratch layer has the canonical layout. Keras' layers have it with two differences: the GRU's gates stand in
the order z, r, n, and its two biases in one array (2, 3h), of which the second row is ``[0, 0, b_hn]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters, StateArrays
from d2lrnn_tensorflow.language_model import RNNLM, RNNLMScratch


def trainable_variables(model: RNNLMScratch) -> list[keras.Variable]:
    """All variables that training moves, in the order of the layers, the head last."""
    layers = getattr(model.rnn, "rnns", [model.rnn])
    variables = [variable for layer in layers for variable in layer.trainable_variables]
    head = model.linear.trainable_variables if isinstance(model, RNNLM) else [model.W_hq, model.b_q]
    return variables + head


def to_native(spec: ModelSpec, parameters: Parameters) -> list[FloatArray]:
    """The values of `trainable_variables` from canonical parameters."""
    if not _is_keras_gru(spec):
        return list(parameters.values())
    values: list[FloatArray] = []
    for l in range(spec.num_layers):
        bias, b_hn = parameters[f"rnn.{l}.b"], parameters[f"rnn.{l}.b_hn"]
        second = np.concatenate([np.zeros(2 * spec.num_hiddens, bias.dtype), b_hn])
        values += [
            swap_first_gates(parameters[f"rnn.{l}.w_x"]),
            swap_first_gates(parameters[f"rnn.{l}.w_h"]),
            np.stack([swap_first_gates(bias), second]),
        ]
    return [*values, parameters["head.w"], parameters["head.b"]]


def to_canonical(spec: ModelSpec, values: Sequence[FloatArray]) -> dict[str, FloatArray]:
    """The inverse of `to_native`, for parameters and for their gradients alike: new arrays."""
    if _is_keras_gru(spec):
        unpacked: list[FloatArray] = []
        for l in range(spec.num_layers):
            kernel, recurrent, bias = values[3 * l : 3 * l + 3]
            b_hn = bias[1, 2 * spec.num_hiddens :]
            unpacked += [*map(swap_first_gates, (kernel, recurrent, bias[0])), b_hn]
        values = [*unpacked, *values[3 * spec.num_layers :]]
    named = zip(parameter_shapes(spec), values, strict=True)
    return {name: np.array(value, order="C") for name, value in named}


def _is_keras_gru(spec: ModelSpec) -> bool:
    return spec.cell == "gru" and spec.implementation == "concise"


def swap_first_gates(array: FloatArray) -> FloatArray:
    """r, z, n to z, r, n on the last axis, and back."""
    first, second, third = np.split(array, 3, axis=-1)
    return np.concatenate([second, first, third], axis=-1)


def state_from_arrays(spec: ModelSpec, arrays: StateArrays) -> Any:
    """The native state from ``(h,)`` or ``(h, c)``, each (L, B, h): a copy."""
    parts = [tf.constant(part, spec.dtype) for part in arrays]
    if spec.implementation == "concise":
        return tuple(parts) if spec.cell == "lstm" else parts[0]
    states = [tuple(part[l] for part in parts) for l in range(spec.num_layers)]
    native = tuple(state if spec.cell == "lstm" else state[0] for state in states)
    return native[0] if spec.num_layers == 1 else native


def state_to_arrays(spec: ModelSpec, state: Any) -> StateArrays:
    """The inverse of `state_from_arrays`: new arrays."""
    if spec.implementation == "concise":
        parts = state if spec.cell == "lstm" else (state,)
        return tuple(np.array(part) for part in parts)
    layers = (state,) if spec.num_layers == 1 else state
    if spec.cell != "lstm":
        layers = [(H,) for H in layers]
    return tuple(np.stack([np.asarray(part) for part in parts]) for parts in zip(*layers, strict=True))
