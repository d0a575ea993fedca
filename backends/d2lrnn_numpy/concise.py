"""The concise models: any number of layers, dropout between them, as in the frameworks' layers.

They start from values uniform in ±1/sqrt(h). The GRU is the form of cuDNN: reset after the matrix product.
"""

from __future__ import annotations

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn.contract.values import FloatArray
from d2lrnn_numpy.layer import Layer
from d2lrnn_numpy.stack import RecurrentStack


class RNN(RecurrentStack):
    """A tanh RNN.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.
        seed: decides the initial weights.

    Example:
        >>> outputs, (h,) = RNN(28, 32, num_layers=2)(np.ones((5, 3, 28), np.float32))
        >>> outputs.shape, h.shape
        ((5, 3, 32), (2, 3, 32))
    """

    _cell = cells.RNN

    def __init__(
        self, num_inputs: int, num_hiddens: int, num_layers: int = 1, dropout: float = 0, seed: int = 0
    ) -> None:
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        layers = [_uniform_layer(self._cell, size, num_hiddens, seed, l) for l, size in enumerate(sizes)]
        super().__init__(layers, dropout)


class ReluRNN(RNN):
    """A ReLU RNN; the arguments are those of `RNN`."""

    _cell = cells.RELU_RNN


class GRU(RNN):
    """A gated recurrent unit; the arguments are those of `RNN`."""

    _cell = cells.GRU


class LSTM(RNN):
    """Long short-term memory; the arguments are those of `RNN`. Its state is ``(h, c)``."""

    _cell = cells.LSTM


def _uniform_layer(cell: Cell, num_inputs: int, h: int, seed: int, index: int) -> Layer:
    random = np.random.default_rng([seed, index])
    bound = h**-0.5
    shapes = cell.shapes(num_inputs, h, reset_after=True)
    weights: dict[str, FloatArray] = {
        name: random.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()
    }
    return Layer(cell, weights)
