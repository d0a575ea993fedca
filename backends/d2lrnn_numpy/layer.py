"""One recurrent layer: the input projection, the recurrence, and the gradients of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.cells import Cell
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn_numpy.buffers import Buffers
from d2lrnn_numpy.formulas import LayerState
from d2lrnn_numpy.recurrence import find_recurrence

#: Vocabularies up to this size sum embedding gradients by a one-hot product, larger ones by sorting: at 28
#: tokens the product is four times as fast, at 10,000 sorting is 14 times as fast.
_ONE_HOT_LIMIT = 256


class Layer:
    """A recurrent layer in canonical parameters, with forward and backward passes.

    Attributes:
        cell: the kind of recurrence.
        weights: ``w_x`` (in, G·h), ``w_h`` (h, G·h), ``b`` (G·h,), and what else the cell has. Changing an
            array in place trains the layer.
    """

    def __init__(self, cell: Cell, weights: dict[str, FloatArray]) -> None:
        self.cell = cell
        self.weights = weights
        self._recurrence = find_recurrence(cell.name, reset_after=cell.reset_bias in weights)
        self._buffers = Buffers()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle has no scratch memory and nothing of the last call."""
        return type(self), (self.cell, self.weights)

    @property
    def num_hiddens(self) -> int:
        """The number of hidden units, h."""
        return len(self.weights["w_h"])

    def initial_state(self, batch_size: int) -> LayerState:
        """Zeros (B, h), one for each state of the cell."""
        shape, dtype = (batch_size, self.num_hiddens), self.weights["w_h"].dtype
        return tuple(np.zeros(shape, dtype) for _ in self.cell.states)

    def forward(
        self, inputs: npt.NDArray[Any], state: LayerState | None = None
    ) -> tuple[FloatArray, LayerState]:
        """Runs the layer over all steps.

        Args:
            inputs: real vectors (T, B, in), or token indices (T, B): a one-hot vector times w_x is a row.
            state: each part (B, h); None is zeros. It is not changed.

        Returns:
            Outputs (T, B, h), valid until the next forward pass, and the final state.
        """
        w_x, b = self.weights["w_x"], self.weights["b"]
        num_steps, batch = inputs.shape[:2]
        projected = self._buffers.get("projected", (num_steps, batch, len(b)), w_x.dtype)
        if inputs.ndim == 2:
            np.take(w_x + b, inputs, axis=0, out=projected, mode="clip")
        else:
            np.matmul(inputs.reshape(-1, len(w_x)), w_x, out=projected.reshape(-1, len(b)))
            projected += b
        self._inputs = inputs
        return self._recurrence.forward(projected, self.weights, state or self.initial_state(batch))

    def backward(
        self, d_outputs: FloatArray, *, want_inputs: bool
    ) -> tuple[FloatArray | None, dict[str, FloatArray]]:
        """Gradients of the last forward pass.

        Args:
            d_outputs: the gradient at the outputs (T, B, h).
            want_inputs: whether the gradient at the inputs is needed: the first layer's is not.

        Returns:
            The gradient at the inputs (T, B, in) or None, and the gradients of `weights` by name.
        """
        d_projected, gradients = self._recurrence.backward(d_outputs)
        flat = d_projected.reshape(-1, d_projected.shape[-1])
        w_x, inputs = self.weights["w_x"], self._inputs
        if inputs.ndim == 2:
            gradients["w_x"] = sum_rows_by_token(inputs.reshape(-1), flat, len(w_x))
            gradients["b"] = gradients["w_x"].sum(axis=0)  # every row belongs to one token
        else:
            gradients["w_x"] = inputs.reshape(-1, len(w_x)).T @ flat
            gradients["b"] = np.ones(len(flat), flat.dtype) @ flat
        if not want_inputs:
            return None, gradients
        d_inputs = self._buffers.get("d_inputs", (*inputs.shape[:2], len(w_x)), flat.dtype)
        np.matmul(flat, w_x.T, out=d_inputs.reshape(-1, len(w_x)))
        return d_inputs, gradients


def sum_rows_by_token(tokens: IntArray, rows: FloatArray, vocab_size: int) -> FloatArray:
    """The sum of all rows that belong to a token: the gradient of ``w[tokens]`` with respect to w.

    Args:
        tokens: (N,) indices in [0, vocab_size).
        rows: (N, m).
        vocab_size: V.

    Returns:
        (V, m).
    """
    if vocab_size <= _ONE_HOT_LIMIT:
        one_hot = (tokens[:, None] == np.arange(vocab_size, dtype=tokens.dtype)).astype(rows.dtype)
        product: FloatArray = one_hot.T @ rows
        return product
    order = np.argsort(tokens, kind="stable")
    present, starts = np.unique(tokens[order], return_index=True)
    sums = np.zeros((vocab_size, rows.shape[1]), rows.dtype)
    sums[present] = np.add.reduceat(rows[order], starts, axis=0)
    return sums
