"""The scratch models: one layer each, starting from the book's N(0, σ²) weights and zero biases.

The formulas are in `d2lrnn_numpy.formulas`: in this backend they are spelt out for every model.
"""

from __future__ import annotations

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
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
        super().__init__([_normal_layer(cells.RNN, num_inputs, num_hiddens, sigma, seed)])


class StackedRNNScratch(RecurrentStack):
    """`num_layers` layers of a tanh RNN; the other arguments are those of `RNNScratch`."""

    def __init__(
        self, num_inputs: int, num_hiddens: int, num_layers: int, sigma: float = 0.01, seed: int = 0
    ) -> None:
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        super().__init__(
            [_normal_layer(cells.RNN, size, num_hiddens, sigma, seed, l) for l, size in enumerate(sizes)]
        )


class GRUScratch(RecurrentStack):
    """A GRU of one layer that resets before the matrix product, or after it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
        reset_after: where the reset gate is applied; the book's GRU applies it before.
        seed: decides the initial weights.

    Example:
        >>> outputs, state = GRUScratch(28, 32, reset_after=True)(np.ones((5, 2, 28), np.float32))
        >>> outputs.shape, state[0].shape
        ((5, 2, 32), (1, 2, 32))
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
        layer = _normal_layer(cells.GRU, num_inputs, num_hiddens, sigma, seed, reset_after=reset_after)
        super().__init__([layer])


class MGUScratch(RecurrentStack):
    """A minimal gated unit of one layer (Zhou et al. 2016); the arguments are those of `RNNScratch`."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, seed: int = 0) -> None:
        super().__init__([_normal_layer(cells.MGU, num_inputs, num_hiddens, sigma, seed)])


class ReluRNNScratch(RecurrentStack):
    """A ReLU RNN of one layer; the arguments are those of `RNNScratch`."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, seed: int = 0) -> None:
        super().__init__([_normal_layer(cells.RELU_RNN, num_inputs, num_hiddens, sigma, seed)])


class LSTMScratch(RecurrentStack):
    """An LSTM of one layer; the arguments are those of `RNNScratch`. Its state is ``(h, c)``."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, seed: int = 0) -> None:
        super().__init__([_normal_layer(cells.LSTM, num_inputs, num_hiddens, sigma, seed)])


def _normal_layer(
    cell: Cell, num_inputs: int, h: int, sigma: float, seed: int, index: int = 0, *, reset_after: bool = False
) -> Layer:
    random = np.random.default_rng([seed, index])
    weights: dict[str, FloatArray] = {}
    for name, shape in cell.shapes(num_inputs, h, reset_after=reset_after).items():
        drawn = random.normal(0, sigma, shape) if len(shape) == 2 else np.zeros(shape)
        weights[name] = drawn.astype(np.float32)
    return Layer(cell, weights)
