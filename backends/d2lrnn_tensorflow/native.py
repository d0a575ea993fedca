"""The weights of `keras.layers.SimpleRNN`, `GRU`, `LSTM` and `Dense`, and the canonical parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.parameters import check_parameters
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError
from d2lrnn_tensorflow.parameters import swap_first_gates


class NativeWeights(NamedTuple):
    """What ``get_weights()`` returns: of every recurrent layer, and of the output layer (`Dense`)."""

    rnn: list[list[FloatArray]]
    head: list[FloatArray]


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as plain Keras keeps them, for ``layer.set_weights``.

    Args:
        spec: the model. A GRU belongs into ``keras.layers.GRU(…, reset_after=spec.reset_after)``.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`.

    Example:
        >>> weights = to_native(spec, learner.export_parameters())  # doctest: +SKIP
        >>> layer = keras.layers.LSTM(spec.num_hiddens, return_sequences=True)  # doctest: +SKIP
        >>> layer.build((None, None, spec.vocab_size)); layer.set_weights(weights.rnn[0])  # doctest: +SKIP
    """
    values = check_parameters(spec, parameters)
    rnn = []
    for l in range(spec.num_layers):
        layer = [values[f"rnn.{l}.{name}"] for name in ("w_x", "w_h", "b")]
        if spec.cell == "gru":
            layer = [swap_first_gates(array) for array in layer]
        if spec.reset_after:
            b_hn = values[f"rnn.{l}.b_hn"]
            layer[2] = np.stack([layer[2], np.concatenate([np.zeros(2 * len(b_hn), b_hn.dtype), b_hn])])
        rnn.append([array.copy() for array in layer])
    return NativeWeights(rnn, [values["head.w"].copy(), values["head.b"].copy()])


def from_native(
    spec: ModelSpec, rnn: Sequence[Sequence[FloatArray]], head: Sequence[FloatArray]
) -> dict[str, FloatArray]:
    """The canonical parameters of plain Keras layers.

    A GRU with ``reset_after`` trains two biases; of its update and reset gates the sum is all that the
    outputs see, and it becomes the one bias. Layers without biases get zeros.

    Args:
        spec: the model that they are: its sizes and its cell.
        rnn: ``layer.get_weights()`` of every recurrent layer, the first one first.
        head: ``get_weights()`` of the output layer.

    Raises:
        ParameterError: an array is missing, too many, or of another shape.

    Example:
        >>> spec = ModelSpec(28, "lstm", "concise", 32)  # doctest: +SKIP
        >>> parameters = from_native(spec, [lstm.get_weights()], dense.get_weights())  # doctest: +SKIP
    """
    if len(rnn) != spec.num_layers:
        raise ParameterError(
            f"there are weights of {len(rnn)} recurrent layers: {spec} has {spec.num_layers}"
        )
    h, gates = spec.num_hiddens, spec.num_gates * spec.num_hiddens
    values: dict[str, FloatArray] = {}
    for l, weights in enumerate(rnn):
        shape = (2, gates) if spec.reset_after else (gates,)
        layer = _three(weights, shape, f"recurrent layer {l}")
        if spec.cell == "gru":
            layer = [swap_first_gates(array) for array in layer]
        w_x, w_h, bias = layer
        if spec.reset_after:
            first, second = bias
            values[f"rnn.{l}.b_hn"] = second[2 * h :]
            bias = np.concatenate([first[: 2 * h] + second[: 2 * h], first[2 * h :]])
        values |= {f"rnn.{l}.w_x": w_x, f"rnn.{l}.w_h": w_h, f"rnn.{l}.b": bias}
    if len(head) not in (1, 2):
        raise ParameterError(f"there are {len(head)} arrays of the output layer: kernel and bias are needed")
    values["head.w"] = head[0]
    values["head.b"] = head[1] if len(head) == 2 else np.zeros(spec.vocab_size, head[0].dtype)
    return check_parameters(spec, values)


def _three(weights: Sequence[FloatArray], bias_shape: tuple[int, ...], where: str) -> list[FloatArray]:
    """Kernel, recurrent kernel and bias; zeros for a bias that the layer does not have."""
    if len(weights) not in (2, 3):
        raise ParameterError(
            f"{where} has {len(weights)} arrays: kernel, recurrent kernel and bias are needed"
        )
    bias = weights[2] if len(weights) == 3 else np.zeros(bias_shape, weights[0].dtype)
    if bias.shape != bias_shape:
        raise ParameterError(
            f"the bias of {where} has shape {bias.shape}, and must have {bias_shape}: a GRU has two rows "
            "where it resets after the matrix product, and one where before"
        )
    return [weights[0], weights[1], bias]
