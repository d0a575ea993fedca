"""The scratch layers: the formula of one step of every cell, and layers on top of each other.

A cell is a class with its formula in `step`; `d2lrnn_jax.layer` has the parameters and the loop over time.
JAX differentiates it, unless it is marked with a backward pass by hand (`d2lrnn_jax.derivatives`). The
sources of the formulas are in `d2lrnn.contract.cells`. ``σ`` is the logistic function and ``∘`` the
element-wise product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.contract import cells
from d2lrnn_jax import derivatives
from d2lrnn_jax.activations import lstm_gates, once, sigmoid
from d2lrnn_jax.dropout import drop
from d2lrnn_jax.inputs import stacked, takes_tokens
from d2lrnn_jax.layer import ScratchLayer
from d2lrnn_jax.recurrence import Arrays, Weights, differentiated_by


class RNNScratch(ScratchLayer):
    """A tanh RNN: H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h).

    Attributes:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.

    Example:
        >>> rnn = RNNScratch(num_inputs=16, num_hiddens=32)
        >>> (outputs, H), variables = rnn.init_with_output(jax.random.key(0), jnp.ones((100, 2, 16)))
        >>> outputs.shape, H.shape
        ((100, 2, 32), (2, 32))
    """

    cell = cells.RNN

    @staticmethod
    @differentiated_by(derivatives.RNN)
    def step(X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """H' = tanh(X + H w_h)."""
        (H,) = state
        return (jnp.tanh(X + H @ weights["w_h"]),), ()


class ReluRNNScratch(ScratchLayer):
    """A ReLU RNN: H_t = max(0, X_t W_xh + H_{t-1} W_hh + b_h). The attributes are those of `RNNScratch`."""

    cell = cells.RELU_RNN

    @staticmethod
    def step(X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """H' = max(0, X + H w_h)."""
        (H,) = state
        return (jax.nn.relu(X + H @ weights["w_h"]),), ()


class GRUScratch(ScratchLayer):
    """A gated recurrent unit; gates r, z, n.

    Attributes:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
        reset_after: where the reset gate is applied. The book applies it before the matrix product; after it,
            as concise layers do, there is one more bias, ``b_hn (h,)``.

    Example:
        >>> gru = GRUScratch(num_inputs=16, num_hiddens=32, reset_after=True)
        >>> (outputs, H), variables = gru.init_with_output(jax.random.key(0), jnp.ones((5, 2, 16)))
        >>> outputs.shape, sorted(variables["params"])
        ((5, 2, 32), ['W_hh', 'W_xh', 'b_h', 'b_hn'])
    """

    reset_after: bool = False

    cell = cells.GRU

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """With b_hn where the reset comes after the product."""
        return self.cell.shapes(self.num_inputs, self.num_hiddens, reset_after=self.reset_after)

    @staticmethod
    @differentiated_by(derivatives.GRU)
    def step(X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """The reset is before the product, or after it where the weights have b_hn.

        - R, Z = σ(X_rz + H w_h[rz])
        - N = tanh(X_n + (R ∘ H) w_h[n]), or tanh(X_n + R ∘ (H w_h[n] + b_hn))
        - H' = Z ∘ H + (1 - Z) ∘ N
        """
        (H,), w_h, h = state, weights["w_h"], state[0].shape[-1]
        X_rz, X_n = X[:, : 2 * h], X[:, 2 * h :]
        if "b_hn" in weights:
            product = H @ w_h
            RZ = once(sigmoid(X_rz + product[:, : 2 * h]))
            R, Z = jnp.split(RZ, 2, axis=-1)
            inner = product[:, 2 * h :] + weights["b_hn"]
            N = once(jnp.tanh(X_n + R * inner))
        else:
            RZ = once(sigmoid(X_rz + H @ w_h[:, : 2 * h]))
            R, Z = jnp.split(RZ, 2, axis=-1)
            inner = R * H
            N = once(jnp.tanh(X_n + inner @ w_h[:, 2 * h :]))
        return (Z * H + (1 - Z) * N,), (RZ, N, inner)


class MGUScratch(ScratchLayer):
    """A minimal gated unit; gates f, n. The attributes are those of `RNNScratch`."""

    cell = cells.MGU

    @staticmethod
    def step(X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """The forget gate is the reset gate as well.

        - F = σ(X_f + H w_h[f])
        - N = tanh(X_n + (F ∘ H) w_h[n])
        - H' = (1 - F) ∘ H + F ∘ N
        """
        (H,) = state
        (X_f, X_n), (w_f, w_n) = jnp.split(X, 2, axis=-1), jnp.split(weights["w_h"], 2, axis=-1)
        F = jax.nn.sigmoid(X_f + H @ w_f)
        N = jnp.tanh(X_n + (F * H) @ w_n)
        return ((1 - F) * H + F * N,), ()


class LSTMScratch(ScratchLayer):
    """Long short-term memory; gates i, f, g, o. Its state is ``(H, C)``.

    The attributes are those of `RNNScratch`.

    Example:
        >>> lstm = LSTMScratch(num_inputs=16, num_hiddens=32)
        >>> (outputs, (H, C)), variables = lstm.init_with_output(jax.random.key(0), jnp.ones((5, 2, 16)))
        >>> outputs.shape, C.shape
        ((5, 2, 32), (2, 32))
    """

    cell = cells.LSTM

    @staticmethod
    @differentiated_by(derivatives.LSTM)
    def step(X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """The gates are σ or tanh of X + H w_h.

        - I, F, O = σ(X_ifo + H w_h[ifo]);  G = tanh(X_g + H w_h[g])
        - C' = F ∘ C + I ∘ G
        - H' = O ∘ tanh(C')
        """
        H, C = state
        gates = lstm_gates(X + H @ weights["w_h"])
        I, F, G, O = jnp.split(gates, 4, axis=-1)
        C_next = F * C + I * G
        tanh_C = jnp.tanh(C_next)
        return (O * tanh_C, C_next), (gates, tanh_C)


#: The library's own layers, by the name of their cell.
LAYERS: dict[str, type[ScratchLayer]] = {
    layer.cell.name: layer for layer in (RNNScratch, ReluRNNScratch, GRUScratch, LSTMScratch, MGUScratch)
}


def find_layer(cell: str) -> type[ScratchLayer]:
    """The layer of a cell, the library's own or another package's.

    Raises:
        SpecError: there is none for JAX.

    Example:
        >>> find_layer("gru").__name__
        'GRUScratch'
    """
    if cell in LAYERS:
        return LAYERS[cell]
    theirs: type[ScratchLayer] = cells.find_formula("jax", cell)
    return theirs


@cache
def resetting_after(layer: type[ScratchLayer]) -> Callable[[int, int, float], ScratchLayer]:
    """Makes layers of this class that reset after the matrix product; the same object at every call.

    Example:
        >>> rnn = StackedRNNScratch(28, 32, num_layers=2, layer=resetting_after(GRUScratch))
    """
    return partial(layer, reset_after=True)


class StackedRNNScratch(nn.Module):
    """Scratch layers, each fed with the outputs of the one below it.

    Attributes:
        num_inputs: size of the input vectors.
        num_hiddens: h of every layer.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: makes a layer from ``(num_inputs, num_hiddens, sigma)``: `RNNScratch`, `GRUScratch`, ….
        dropout: the rate between layers (never after the last) while training.

    Example:
        >>> rnn = StackedRNNScratch(num_inputs=28, num_hiddens=32, num_layers=2, layer=GRUScratch)
        >>> (outputs, Hs), variables = rnn.init_with_output(jax.random.key(0), jnp.ones((5, 3, 28)))
        >>> outputs.shape, [H.shape for H in Hs]
        ((5, 3, 32), [(3, 32), (3, 32)])
    """

    num_inputs: int
    num_hiddens: int
    num_layers: int
    sigma: float = 0.01
    layer: Callable[[int, int, float], nn.Module] = RNNScratch
    dropout: float = 0.0

    def setup(self) -> None:
        """Makes the layers, in a list that flax registers."""
        sizes = [self.num_inputs] + [self.num_hiddens] * (self.num_layers - 1)
        self.rnns = [self.layer(size, self.num_hiddens, self.sigma) for size in sizes]
        self.drop = nn.Dropout(self.dropout)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The zero states of the layers."""
        return tuple(rnn.initial_state(batch_size) for rnn in self.rnns)

    @takes_tokens
    def __call__(
        self,
        inputs: jax.Array,
        state: tuple[Any, ...] | None = None,
        training: bool = False,
        masks: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B).
            state: the layers' states, in a tuple or a list; None is zeros. A list is not changed.
            training: whether `nn.Dropout` is on; it draws from the stream ``"dropout"``.
            masks: (L - 1, T, B, h), in place of `nn.Dropout`: they multiply the outputs of all layers but the
                last.

        Returns:
            The outputs of the last layer (T, B, h), and the final states of all layers.
        """
        outputs = stacked(inputs)
        states = self.initial_state(outputs.shape[1]) if state is None else state
        final = []
        for l, (rnn, layer_state) in enumerate(zip(self.rnns, states, strict=True)):
            if l > 0:
                outputs = drop(self.drop, outputs, None if masks is None else masks[l - 1], training)
            outputs, layer_state = rnn(outputs, layer_state)
            final.append(layer_state)
        return outputs, tuple(final)
