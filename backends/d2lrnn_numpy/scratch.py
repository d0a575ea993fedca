"""The scratch models: one layer each, starting from the book's N(0, σ²) weights and zero biases.

The formulas are in `d2lrnn_numpy.recurrence`: in this backend they are spelt out for every model.
"""

from __future__ import annotations

import numpy as np

from d2lrnn.contract.specs import Cell
from d2lrnn.contract.values import FloatArray
from d2lrnn_numpy.layer import Layer
from d2lrnn_numpy.stack import RecurrentStack


class RNNScratch(RecurrentStack):
    """A tanh RNN of one layer.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
        seed: decides the initial weights.

    Example:
        >>> outputs, state = RNNScratch(28, 32)(np.ones((5, 2, 28), np.float32))
        >>> outputs.shape, state[0].shape
        ((5, 2, 32), (1, 2, 32))
    """

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, seed: int = 0) -> None:
        super().__init__([_normal_layer("rnn", num_inputs, num_hiddens, sigma, seed)])


class StackedRNNScratch(RecurrentStack):
    """`num_layers` layers of a tanh RNN; the other arguments are those of `RNNScratch`."""

    def __init__(
        self, num_inputs: int, num_hiddens: int, num_layers: int, sigma: float = 0.01, seed: int = 0
    ) -> None:
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        super().__init__(
            [_normal_layer("rnn", size, num_hiddens, sigma, seed, l) for l, size in enumerate(sizes)]
        )


class GRUScratch(RecurrentStack):
    """A GRU of one layer that resets before the matrix product, or after it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
        reset_after: where the reset gate is applied; the book's GRU applies it before.
        seed: decides the initial weights.
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        sigma: float = 0.01,
        *,
        reset_after: bool = False,
        seed: int = 0,
    ) -> None:
        layer = _normal_layer("gru", num_inputs, num_hiddens, sigma, seed, reset_after=reset_after)
        super().__init__([layer])


class LSTMScratch(RecurrentStack):
    """An LSTM of one layer; the arguments are those of `RNNScratch`. Its state is ``(h, c)``."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, seed: int = 0) -> None:
        super().__init__([_normal_layer("lstm", num_inputs, num_hiddens, sigma, seed)])


def _normal_layer(
    cell: Cell, num_inputs: int, h: int, sigma: float, seed: int, index: int = 0, *, reset_after: bool = False
) -> Layer:
    random = np.random.default_rng([seed, index])
    width = {"rnn": h, "gru": 3 * h, "lstm": 4 * h}[cell]
    weights: dict[str, FloatArray] = {
        "w_x": random.normal(0, sigma, (num_inputs, width)).astype(np.float32),
        "w_h": random.normal(0, sigma, (h, width)).astype(np.float32),
        "b": np.zeros(width, np.float32),
    }
    if reset_after:
        weights["b_hn"] = np.zeros(h, np.float32)
    return Layer(cell, weights)
