"""Recurrent layers on top of each other: the base class of all models of this backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.cells import Cell
from d2lrnn.contract.values import FloatArray, StateArrays
from d2lrnn_numpy.layer import Layer


class RecurrentStack:
    """L recurrent layers, each fed with the outputs of the one below it.

    Attributes:
        layers: the layers, the lowest first.
        dropout: the rate between layers while training.
    """

    def __init__(self, layers: Sequence[Layer], dropout: float = 0.0) -> None:
        self.layers = list(layers)
        self.dropout = dropout

    @property
    def cell(self) -> Cell:
        """The kind of recurrence, the same in all layers."""
        return self.layers[0].cell

    @property
    def num_hiddens(self) -> int:
        """The number of hidden units, h."""
        return self.layers[0].num_hiddens

    def initial_state(self, batch_size: int) -> StateArrays:
        """Zeros (L, B, h), one for each state of the cell."""
        return _by_part([layer.initial_state(batch_size) for layer in self.layers])

    def __call__(
        self,
        inputs: npt.NDArray[Any],
        state: StateArrays | None = None,
        masks: FloatArray | None = None,
    ) -> tuple[FloatArray, StateArrays]:
        """Runs all layers over all steps.

        Args:
            inputs: real vectors (T, B, in), or token indices (T, B) for one-hot vectors.
            state: ``(h,)`` or ``(h, c)``, each (L, B, h); None is zeros. It is not changed.
            masks: dropout masks (L - 1, T, B, h) that multiply the outputs of all layers but the last; None
                drops nothing.

        Returns:
            The outputs of the last layer (T, B, h), valid until the next call, and the final state.
        """
        if state is None:
            state = self.initial_state(inputs.shape[1])
        self._masks = masks
        final = []
        outputs = inputs
        for l, layer in enumerate(self.layers):
            outputs, layer_state = layer.forward(outputs, tuple(part[l] for part in state))
            final.append(layer_state)
            if masks is not None and l < len(self.layers) - 1:
                outputs = outputs * masks[l]
        return outputs, _by_part(final)

    def backward(
        self, d_outputs: FloatArray, *, want_inputs: bool = False
    ) -> tuple[FloatArray | None, dict[str, FloatArray]]:
        """The gradients of the last call, from the gradient at its outputs (T, B, h).

        Returns:
            The gradient at its inputs (T, B, in) if `want_inputs`, else None, and those of the weights by
            canonical name.
        """
        gradients: dict[str, FloatArray] = {}
        d_above: FloatArray | None = d_outputs
        for l, layer in reversed(list(enumerate(self.layers))):
            assert d_above is not None
            if self._masks is not None and l < len(self.layers) - 1:
                d_above *= self._masks[l]
            d_above, own = layer.backward(d_above, want_inputs=l > 0 or want_inputs)
            gradients.update({f"rnn.{l}.{name}": value for name, value in own.items()})
        return d_above, gradients

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy or a pickle: no masks of the last call."""
        return {name: value for name, value in vars(self).items() if name != "_masks"}

    def parameters(self) -> dict[str, FloatArray]:
        """The weights of all layers by canonical name: the arrays themselves, not copies."""
        return {f"rnn.{l}.{k}": v for l, layer in enumerate(self.layers) for k, v in layer.weights.items()}


def _by_part(states: Sequence[tuple[FloatArray, ...]]) -> StateArrays:
    """States of L layers, ``(h, c)`` each, to h of all layers and c of all layers."""
    # Not by `np.stack`, whose checks take longer than a step of a small model.
    return tuple(np.array(parts) for parts in zip(*states, strict=True))
