"""The parameters of `gluon.rnn.RNN`, `GRU`, `LSTM`, `nn.Dense` and `nn.Embedding`, and the canonical ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from mxnet import gluon
from mxnet import np as mxnp

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.parameters import check_parameters, check_reset
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError

#: What Gluon calls a parameter of layer 1 in `collect_params`, ``gru0_l1_h2h_weight``, and in a file of
#: `save_parameters`, ``_unfused.1.h2h_weight``.
_LAYER_NAMES = (
    re.compile(r"(?:.*_)?l(\d+)_([ih]2h_(?:weight|bias))"),
    re.compile(r"(?:.*\.)?_unfused\.(\d+)\.([ih]2h_(?:weight|bias))"),
)
_HEAD_NAME = re.compile(r"(?:.*[_.])?(weight|bias)")


class NativeWeights(NamedTuple):
    """Arrays by Gluon's names without a block's prefix: ``l0_i2h_weight``, …; ``weight`` and ``bias``.

    Attributes:
        rnn: of the recurrent layer.
        head: of the output layer; if tied, its ``weight`` equals the embedding's.
        embedding: of ``nn.Embedding``; empty where there is none.
    """

    rnn: dict[str, Any]
    head: dict[str, Any]
    embedding: dict[str, Any]


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as the arrays of plain Gluon layers.

    Args:
        spec: the model; Gluon has no GRU that resets before the matrix product.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`, or Gluon has no such layer.

    Example:
        >>> from mxnet.util import np_array
        >>> spec = ModelSpec(28, "lstm", "concise")
        >>> weights = to_native(spec, initial_parameters(spec))
        >>> lstm = gluon.rnn.LSTM(spec.num_hiddens, input_size=spec.num_inputs)
        >>> with np_array(True):  # in a chapter npx.set_np()
        ...     lstm.initialize()
        ...     for name, value in weights.rnn.items():
        ...         getattr(lstm, name).set_data(value)
    """
    check_reset(spec, "Gluon")
    values, inner = check_parameters(spec, parameters), _bias_inside_reset(spec)
    rnn: dict[str, FloatArray] = {}
    for l in range(spec.num_layers):
        second = np.zeros_like(values[f"rnn.{l}.b"])
        if inner is not None:
            second[2 * spec.num_hiddens :] = values[f"rnn.{l}.{inner}"]
        rnn[f"l{l}_i2h_weight"] = values[f"rnn.{l}.w_x"].T
        rnn[f"l{l}_h2h_weight"] = values[f"rnn.{l}.w_h"].T
        rnn[f"l{l}_i2h_bias"] = values[f"rnn.{l}.b"]
        rnn[f"l{l}_h2h_bias"] = second
    embedding = {} if spec.embedding_size is None else {"weight": values["embedding.w"]}
    head = {
        "weight": values["embedding.w"] if spec.tied else values["head.w"].T,
        "bias": values["head.b"],
    }
    parts = rnn, head, embedding
    return NativeWeights(*({n: mxnp.array(v, dtype=v.dtype) for n, v in part.items()} for part in parts))


def from_native(
    spec: ModelSpec,
    rnn: Mapping[str, Any],
    head: Mapping[str, Any],
    embedding: Mapping[str, Any] | None = None,
) -> dict[str, FloatArray]:
    """The canonical parameters of plain Gluon layers.

    Gluon trains two biases a gate; their sum is all that the outputs see, and it becomes the one bias, but
    for a GRU's candidate, where the reset comes between the two.

    Args:
        spec: the model that they are: its sizes and its cell.
        rnn: ``layer.collect_params()`` of the recurrent layer, or arrays by those names, with a block's
            prefix or without, or what ``npx.load`` reads from a file of ``layer.save_parameters``.
        head: likewise of the output layer. The weight of a tied one is the embedding's, and may be left out.
        embedding: likewise of ``nn.Embedding``, where the model has one.

    Raises:
        ParameterError: an array is missing, unexpected, or of another shape.

    Example:
        >>> spec = ModelSpec(28, "gru", "concise", 32, num_layers=2)
        >>> layers = gluon.rnn.GRU(32, 2, input_size=28), gluon.nn.Dense(28, in_units=32)
        >>> for layer in layers:
        ...     layer.initialize()
        >>> from_native(spec, *(layer.collect_params() for layer in layers))["rnn.1.w_h"].shape
        (32, 96)
    """
    check_reset(spec, "Gluon")
    inner = _bias_inside_reset(spec)
    left, h = {_layer_name(name): array for name, array in _arrays(rnn).items()}, spec.num_hiddens
    values: dict[str, FloatArray] = {}
    for l in range(spec.num_layers):
        names = [f"l{l}_{part}" for part in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")]
        missing = [name for name in names if name not in left]
        if missing:
            raise ParameterError(f"the recurrent layers lack {missing[0]}")
        w_x, w_h, first, second = (left.pop(name) for name in names)
        if first.shape != (spec.num_gates * h,) or second.shape != first.shape:
            raise ParameterError(f"the biases of layer {l} have shapes {first.shape} and {second.shape}: "
                                 f"both must have {(spec.num_gates * h,)}")  # fmt: skip
        values |= {f"rnn.{l}.w_x": w_x.T, f"rnn.{l}.w_h": w_h.T}
        if inner is not None:
            values[f"rnn.{l}.b"] = np.concatenate([first[: 2 * h] + second[: 2 * h], first[2 * h :]])
            values[f"rnn.{l}.{inner}"] = second[2 * h :]
        else:
            values[f"rnn.{l}.b"] = first + second
    if left:
        raise ParameterError(f"the recurrent layers have {min(left)}, which {spec} does not have")
    if spec.embedding_size is not None:
        values["embedding.w"] = _layer_arrays(embedding or {}, "embedding")["weight"]
    own = _layer_arrays(head, "output layer", optional=spec.tied)
    if not spec.tied:
        values["head.w"] = own["weight"].T
    values["head.b"] = own.get("bias", np.zeros(spec.vocab_size, spec.dtype))
    return check_parameters(spec, values)


def _bias_inside_reset(spec: ModelSpec) -> str | None:
    return find_cell(spec.cell).reset_bias


def _layer_arrays(
    parameters: Mapping[str, Any], layer: str, *, optional: bool = False
) -> dict[str, FloatArray]:
    """``weight`` and, if it is there, ``bias``."""
    own = {_head_name(name): array for name, array in _arrays(parameters).items()}
    if "weight" not in own and not optional:
        raise ParameterError(f"the {layer} lacks weight")
    return own


def _arrays(parameters: Mapping[str, Any]) -> dict[str, FloatArray]:
    """NumPy copies of parameters, of MXNet's arrays or of NumPy's."""
    arrays: dict[str, FloatArray] = {}
    for name, value in parameters.items():
        array = value.data() if isinstance(value, gluon.Parameter) else value
        arrays[name] = array.asnumpy() if hasattr(array, "asnumpy") else np.array(array)
    return arrays


def _layer_name(name: str) -> str:
    for pattern in _LAYER_NAMES:
        if match := pattern.fullmatch(name):
            return f"l{match[1]}_{match[2]}"
    return name


def _head_name(name: str) -> str:
    match = _HEAD_NAME.fullmatch(name)
    return match[1] if match else name
