"""The concise models: flax's own recurrent cells, any number of layers, dropout between them.

Every layer is a flax cell, which makes, names and initialises the parameters. What `nn.RNN` would compute
with a cell is computed here with the inputs projected before the recurrence, the gates as one product and the
weight gradients after it (`d2lrnn_jax.recurrence`). benchmarks/results/tricks.md compares their times: at 512
hidden units this is faster. The tests compare every layer with ``nn.RNN(cell)``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn_jax.dropout import drop
from d2lrnn_jax.inputs import stacked, takes_tokens
from d2lrnn_jax.layer import alone, as_parts
from d2lrnn_jax.parameters import cell_weights
from d2lrnn_jax.recurrence import Arrays, project, run_recurrence
from d2lrnn_jax.scratch import LAYERS


# benchmarks/tricks: jax, a concise layer that is not `nn.RNN`
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

    #: What the layers compute.
    cell: ClassVar[Cell] = cells.RNN
    #: Makes flax's cell from its size, h.
    flax_cell: ClassVar[Any] = nn.SimpleCell

    def setup(self) -> None:
        """The cells, which make their parameters when they are first called."""
        self.cells = [self.flax_cell(self.num_hiddens) for _ in range(self.num_layers)]
        self.drop = nn.Dropout(self.dropout)

    def initial_state(self, batch_size: int) -> Any:
        """Zeros (L, B, h); an LSTM's are ``(H, C)``."""
        dtype = jax.tree.leaves(self.variables["params"])[0].dtype
        zeros = jnp.zeros((self.num_layers, batch_size, self.num_hiddens), dtype)
        return alone((zeros,) * len(self.cell.states))

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
            inputs: (T, B, in), or token indices (T, B) for one-hot vectors; also a list of T arrays.
            state: (L, B, h), for an LSTM ``(H, C)``; None is zeros.
            training: whether `nn.Dropout` is on; it draws from the stream ``"dropout"``.
            masks: (L - 1, T, B, h), in place of `nn.Dropout`: they multiply the outputs of all layers but the
                last.

        Returns:
            The outputs of the last layer (T, B, h), and the final state.
        """
        outputs = stacked(inputs)
        if self.is_initializing():
            self._init_cells(outputs)
        parts = self._parts(self.initial_state(outputs.shape[1]) if state is None else state)
        final = []
        for l, cell in enumerate(self.cells):
            if l > 0:
                outputs = drop(self.drop, outputs, None if masks is None else masks[l - 1], training)
            weights = cell_weights(self.cell, cell.variables["params"])
            X = project(outputs, weights.pop("w_x"), weights.pop("b"))
            formula = LAYERS[self.cell.name].step
            outputs, above = run_recurrence(formula, weights, tuple(part[l] for part in parts), X)
            final.append(above)
        return outputs, alone(tuple(jnp.stack(layers) for layers in zip(*final, strict=True)))

    @nn.nowrap
    def _parts(self, state: Any) -> Arrays:
        """The parts of the state, each (L, B, h) or a list of L."""
        if len(self.cell.states) > 1 or not isinstance(state, list):
            return as_parts(state)
        return (state,)

    def _init_cells(self, inputs: jax.Array) -> None:
        X = inputs[0]
        for cell in self.cells:
            _, X = cell(cell.initialize_carry(jax.random.key(0), X.shape), X)


class ReluRNN(RNN):
    """A ReLU RNN of `nn.SimpleCell` layers. See `RNN`."""

    cell: ClassVar[Cell] = cells.RELU_RNN
    flax_cell: ClassVar[Any] = staticmethod(partial(nn.SimpleCell, activation_fn=nn.relu))


class GRU(RNN):
    """Gated recurrent units of `nn.GRUCell` layers: reset after the matrix product. See `RNN`."""

    cell: ClassVar[Cell] = cells.GRU
    flax_cell: ClassVar[Any] = nn.GRUCell


class LSTM(RNN):
    """Long short-term memory of `nn.OptimizedLSTMCell` layers. Its state is ``(H, C)``. See `RNN`."""

    cell: ClassVar[Cell] = cells.LSTM
    flax_cell: ClassVar[Any] = nn.OptimizedLSTMCell


#: The concise models, by the name of their cell.
#:
#: `nn.MGUCell` is none: it keeps f of the old state, where Zhou et al. keep 1 - f.
MODELS: dict[str, type[RNN]] = {model.cell.name: model for model in (RNN, ReluRNN, GRU, LSTM)}
