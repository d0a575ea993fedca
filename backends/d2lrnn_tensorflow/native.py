"""The weights of plain Keras layers, recurrent, `Dense` and `Embedding`, and the canonical parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.parameters import check_parameters
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError
from d2lrnn_tensorflow.parameters import from_keras_gates, to_keras_gates, with_reset_bias


class NativeWeights(NamedTuple):
    """What ``get_weights()`` returns.

    Attributes:
        rnn: of every recurrent layer, the first one first.
        head: of the output layer, `keras.layers.Dense`; where it is tied, its kernel is the embedding's
            transpose.
        embedding: of `keras.layers.Embedding`; empty where tokens are one-hot vectors.
    """

    rnn: list[list[FloatArray]]
    head: list[FloatArray]
    embedding: list[FloatArray] = []  # noqa: RUF012  # a default that nobody changes


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as the weights of plain Keras layers, for ``layer.set_weights``.

    Args:
        spec: the model. A GRU's weights fit ``keras.layers.GRU(…, reset_after=spec.reset_after)``.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`, or Keras has no layer of its cell.

    Example:
        >>> import keras
        >>> spec = ModelSpec(28, "lstm", "concise", num_hiddens=32)
        >>> weights = to_native(spec, initial_parameters(spec))
        >>> layer = keras.layers.LSTM(spec.num_hiddens, return_sequences=True)
        >>> layer.build((None, None, spec.vocab_size))
        >>> layer.set_weights(weights.rnn[0])
    """
    _check_layer(spec)
    values = check_parameters(spec, parameters)
    rnn = []
    for l in range(spec.num_layers):
        layer = [to_keras_gates(spec.cell, values[f"rnn.{l}.{name}"]) for name in ("w_x", "w_h", "b")]
        if spec.reset_after:
            layer[2] = with_reset_bias(layer[2], values[f"rnn.{l}.b_hn"])
        rnn.append([array.copy() for array in layer])
    embedding = [] if spec.embedding_size is None else [values["embedding.w"].copy()]
    kernel = values["embedding.w"].T if spec.tied else values["head.w"]
    return NativeWeights(rnn, [kernel.copy(), values["head.b"].copy()], embedding)


def from_native(
    spec: ModelSpec,
    rnn: Sequence[Sequence[FloatArray]],
    head: Sequence[FloatArray],
    embedding: Sequence[FloatArray] = (),
) -> dict[str, FloatArray]:
    """The canonical parameters of plain Keras layers.

    A GRU with ``reset_after`` trains two biases; of its update and reset gates the sum is all that the
    outputs see, and it becomes the one bias. Layers without biases get zeros.

    Args:
        spec: the model that they are: its sizes and its cell.
        rnn: ``layer.get_weights()`` of every recurrent layer, the first one first.
        head: ``get_weights()`` of the output layer.
        embedding: ``get_weights()`` of the embedding layer, where there is one.

    Raises:
        ParameterError: an array is missing, unexpected, or of another shape; a head that `spec` says is tied
            is not the embedding's transpose; or Keras has no layer of its cell.

    Example:
        >>> import keras
        >>> lstm, dense = keras.layers.LSTM(32), keras.layers.Dense(28)
        >>> lstm.build((None, None, 28)), dense.build((None, None, 32))
        (None, None)
        >>> spec = ModelSpec(28, "lstm", "concise", num_hiddens=32)
        >>> parameters = from_native(spec, [lstm.get_weights()], dense.get_weights())
        >>> parameters["rnn.0.w_h"].shape
        (32, 128)
    """
    _check_layer(spec)
    if len(rnn) != spec.num_layers:
        raise ParameterError(
            f"there are weights of {len(rnn)} recurrent layers: {spec} has {spec.num_layers}"
        )
    h, gates = spec.num_hiddens, spec.num_gates * spec.num_hiddens
    values: dict[str, FloatArray] = {}
    for l, weights in enumerate(rnn):
        shape = (2, gates) if spec.reset_after else (gates,)
        layer = _three(weights, shape, f"recurrent layer {l}")
        w_x, w_h, bias = (from_keras_gates(spec.cell, array) for array in layer)
        if spec.reset_after:
            first, second = bias
            values[f"rnn.{l}.b_hn"] = second[2 * h :]
            bias = np.concatenate([first[: 2 * h] + second[: 2 * h], first[2 * h :]])
        values |= {f"rnn.{l}.w_x": w_x, f"rnn.{l}.w_h": w_h, f"rnn.{l}.b": bias}
    if len(head) not in (1, 2):
        raise ParameterError(f"the output layer has {len(head)} arrays: expected its kernel and its bias")
    if len(embedding) != (spec.embedding_size is not None):
        expected = int(spec.embedding_size is not None)
        raise ParameterError(f"the embedding has {len(embedding)} arrays: expected {expected} for {spec}")
    if embedding:
        values["embedding.w"] = embedding[0]
    if not spec.tied:
        values["head.w"] = head[0]
    elif not np.array_equal(head[0], embedding[0].T):
        raise ParameterError("the head's kernel is not the embedding's transpose: this model is not tied")
    values["head.b"] = head[1] if len(head) == 2 else np.zeros(spec.vocab_size, head[0].dtype)
    return check_parameters(spec, values)


def _check_layer(spec: ModelSpec) -> None:
    if not find_cell(spec.cell).has_layer:
        raise ParameterError(f"Keras has no layer of the cell {spec.cell}: it has no native weights")


def _three(weights: Sequence[FloatArray], bias_shape: tuple[int, ...], where: str) -> list[FloatArray]:
    """Kernel, recurrent kernel and bias; zeros for a bias that the layer does not have."""
    if len(weights) not in (2, 3):
        raise ParameterError(f"{where} has {len(weights)} arrays: expected kernel, recurrent kernel and bias")
    bias = weights[2] if len(weights) == 3 else np.zeros(bias_shape, weights[0].dtype)
    if bias.shape != bias_shape:
        raise ParameterError(
            f"the bias of {where} has shape {bias.shape}, and must have {bias_shape}: that of a GRU has two "
            "rows if it resets after the matrix product, and one if before"
        )
    return [weights[0], weights[1], bias]
