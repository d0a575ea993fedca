"""The concise models: flax's own recurrent cells, any number of layers, dropout between them.

Every layer is a flax cell, which makes, names and initialises the parameters. What `nn.RNN` would compute
with a cell is computed here with the inputs projected before the recurrence, the gates as one product and the
weight gradients after it (`d2lrnn_jax.recurrence`): at 512 hidden units in two thirds of the time, at 32 in
the same. The tests hold every layer to ``nn.RNN(cell)``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, ClassVar

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn_jax.inputs import stacked, takes_tokens
from d2lrnn_jax.parameters import gru_cell_weights, lstm_cell_weights, simple_cell_weights
from d2lrnn_jax.recurrence import Arrays, project, scan_recurrence
from d2lrnn_jax.scratch import GRU_RESET_AFTER_CELL, LSTM_CELL, RNN_CELL


class RNN(nn.Module):
    """A tanh RNN of `nn.SimpleCell` layers.

    Attributes:
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers (never after the last) while training.

    Example:
        >>> rnn = RNN(num_hiddens=32, num_layers=2, dropout=0.5)
        >>> X = jnp.ones((100, 4, 28))
        >>> variables = rnn.init(jax.random.key(0), X)
        >>> outputs, H = rnn.apply(variables, X, training=True, rngs={"dropout": jax.random.key(1)})
        >>> outputs.shape, H.shape
        ((100, 4, 32), (2, 4, 32))
    """

    num_hiddens: int
    num_layers: int = 1
    dropout: float = 0

    cell: ClassVar[type[nn.RNNCellBase]] = nn.SimpleCell

    def setup(self) -> None:
        """The cells, which make their parameters when they are first called."""
        self.cells = [self.cell(self.num_hiddens) for _ in range(self.num_layers)]
        self.drop = nn.Dropout(self.dropout)

    def initial_state(self, batch_size: int) -> Any:
        """Zeros (L, B, h); an LSTM's are ``(H, C)``."""
        dtype = jax.tree.leaves(self.variables["params"])[0].dtype
        return jnp.zeros((self.num_layers, batch_size, self.num_hiddens), dtype)

    @takes_tokens
    def __call__(
        self,
        inputs: jax.Array,
        state: Any = None,
        training: bool = False,
        masks: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Runs all layers over all steps.

        Args:
            inputs: (T, B, in), or token indices (T, B) for one-hot vectors; also T arrays in a row.
            state: (L, B, h), for an LSTM ``(H, C)``; None is zeros.
            training: whether `nn.Dropout` is on; it draws from the stream ``"dropout"``.
            masks: (L - 1, T, B, h), in place of `nn.Dropout`: they multiply the outputs of all layers but the
                last.

        Returns:
            The outputs of the last layer (T, B, h), and the final state.
        """
        inputs = stacked(inputs)
        if self.is_initializing():
            self._init_cells(inputs)
        if state is None:
            state = self.initial_state(inputs.shape[1])
        outputs, final = inputs, []
        for l, cell in enumerate(self.cells):
            if l > 0 and masks is not None:
                outputs = outputs * masks[l - 1]
            elif l > 0:
                outputs = self.drop(outputs, deterministic=not training)
            below = jax.tree.map(itemgetter(l), state)
            outputs, above = self._run_layer(cell.variables["params"], outputs, below)
            final.append(above)
        return outputs, jax.tree.map(lambda *layers: jnp.stack(layers), *final)

    def _init_cells(self, inputs: jax.Array) -> None:
        X = inputs[0]
        for cell in self.cells:
            _, X = cell(cell.initialize_carry(jax.random.key(0), X.shape), X)

    def _run_layer(self, cell: Any, inputs: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        w_x, w_h, b = simple_cell_weights(cell)
        outputs, (H,) = scan_recurrence(RNN_CELL, (w_h,), (state,), project(inputs, w_x, b))
        return outputs, H


class GRU(RNN):
    """Gated recurrent units of `nn.GRUCell` layers: reset after the matrix product. See `RNN`."""

    cell: ClassVar[type[nn.RNNCellBase]] = nn.GRUCell

    def _run_layer(self, cell: Any, inputs: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        w_x, w_h, b, b_hn = gru_cell_weights(cell)
        outputs, (H,) = scan_recurrence(GRU_RESET_AFTER_CELL, (w_h, b_hn), (state,), project(inputs, w_x, b))
        return outputs, H


class LSTM(RNN):
    """Long short-term memory of `nn.OptimizedLSTMCell` layers. Its state is ``(H, C)``. See `RNN`."""

    cell: ClassVar[type[nn.RNNCellBase]] = nn.OptimizedLSTMCell

    def initial_state(self, batch_size: int) -> Arrays:
        """Zeros ``(H, C)``, each (L, B, h)."""
        zeros = super().initial_state(batch_size)
        return zeros, zeros

    def _run_layer(self, cell: Any, inputs: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        w_x, w_h, b = lstm_cell_weights(cell)
        return scan_recurrence(LSTM_CELL, (w_h,), tuple(state), project(inputs, w_x, b))
