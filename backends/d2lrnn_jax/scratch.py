"""Recurrent layers from scratch: the parameters, the formulas, and `scan_recurrence` to run them over time.

The gates of a layer lie side by side on the last axis of its parameters, G of them: ``W_xh (in, G·h)``,
``W_hh (h, G·h)``, ``b_h (G·h,)``. Every layer takes inputs (T, B, in), or token indices (T, B) for one-hot
vectors, projects all of them at once, and leaves to the recurrence what depends on the step before. ``σ`` is
the logistic function and ``∘`` the element-wise product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn_jax.inputs import stacked, takes_tokens
from d2lrnn_jax.recurrence import (
    Arrays,
    Cell,
    gru_gradients,
    gru_keep,
    gru_reset_after_gradients,
    gru_reset_after_step_back,
    gru_step_back,
    lstm_gates,
    lstm_keep,
    lstm_step_back,
    once,
    project,
    rnn_gradients,
    rnn_keep,
    rnn_step_back,
    scan_recurrence,
    sigmoid,
)


def rnn_step(weights: Arrays, state: Arrays, X: jax.Array) -> tuple[Arrays, Arrays]:
    """H' = tanh(X + H W_hh), where X = inputs W_xh + b_h."""
    (W_hh,), (H,) = weights, state
    return (once(jnp.tanh(X + H @ W_hh)),), ()


def gru_step(weights: Arrays, state: Arrays, X: jax.Array) -> tuple[Arrays, Arrays]:
    """The GRU of the book and of Cho et al. (2014), which resets before the matrix product.

    - R, Z = σ(X_rz + H W_hrz)
    - N = tanh(X_n + (R ∘ H) W_hn)
    - H' = Z ∘ H + (1 - Z) ∘ N
    """
    (W_hh,), (H,) = weights, state
    h = H.shape[-1]
    RZ = once(sigmoid(X[:, : 2 * h] + H @ W_hh[:, : 2 * h]))
    R, Z = jnp.split(RZ, 2, axis=-1)
    reset = R * H
    N = once(jnp.tanh(X[:, 2 * h :] + reset @ W_hh[:, 2 * h :]))
    return (Z * H + (1 - Z) * N,), (RZ, N, reset)


def gru_reset_after_step(weights: Arrays, state: Arrays, X: jax.Array) -> tuple[Arrays, Arrays]:
    """The GRU of cuDNN and flax, which resets after the matrix product.

    As `gru_step`, but N = tanh(X_n + R ∘ (H W_hn + b_hn)).
    """
    (W_hh, b_hn), (H,) = weights, state
    h = H.shape[-1]
    product = H @ W_hh
    RZ = once(sigmoid(X[:, : 2 * h] + product[:, : 2 * h]))
    R, Z = jnp.split(RZ, 2, axis=-1)
    inner = product[:, 2 * h :] + b_hn
    N = once(jnp.tanh(X[:, 2 * h :] + R * inner))
    return (Z * H + (1 - Z) * N,), (RZ, N, inner)


def lstm_step(weights: Arrays, state: Arrays, X: jax.Array) -> tuple[Arrays, Arrays]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    - I, F, O = σ(X_ifo + H W_hifo), G = tanh(X_g + H W_hg)
    - C' = F ∘ C + I ∘ G
    - H' = O ∘ tanh(C')
    """
    (W_hh,), (H, C) = weights, state
    gates = once(lstm_gates(X + H @ W_hh))
    I, F, G, O = jnp.split(gates, 4, axis=-1)
    C_next = F * C + I * G
    tanh_C = jnp.tanh(C_next)
    return (O * tanh_C, C_next), (gates, tanh_C)


RNN_CELL = Cell(rnn_step, rnn_keep, 1, rnn_step_back, rnn_gradients)
GRU_CELL = Cell(gru_step, gru_keep, 0, gru_step_back, gru_gradients)
GRU_RESET_AFTER_CELL = Cell(
    gru_reset_after_step, gru_keep, 0, gru_reset_after_step_back, gru_reset_after_gradients
)
LSTM_CELL = Cell(lstm_step, lstm_keep, 1, lstm_step_back, rnn_gradients)


class RNNScratch(nn.Module):
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

    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01

    num_gates: ClassVar[int] = 1

    def setup(self) -> None:
        """Weights from N(0, σ²), biases zero."""
        width = self.num_gates * self.num_hiddens
        self.W_xh = self.param("W_xh", nn.initializers.normal(self.sigma), (self.num_inputs, width))
        self.W_hh = self.param("W_hh", nn.initializers.normal(self.sigma), (self.num_hiddens, width))
        self.b_h = self.param("b_h", nn.initializers.zeros, (width,))

    def initial_state(self, batch_size: int) -> Any:
        """Zeros (B, h); an LSTM's are ``(H, C)``."""
        return jnp.zeros((batch_size, self.num_hiddens), self.W_hh.dtype)

    @takes_tokens
    def __call__(self, inputs: jax.Array, state: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B); also T arrays in a row.
            state: (B, h); None is zeros.

        Returns:
            Outputs (T, B, h) and the final state (B, h).
        """
        inputs = stacked(inputs)
        H = self.initial_state(inputs.shape[1]) if state is None else state
        X = project(inputs, self.W_xh, self.b_h)
        outputs, (H,) = scan_recurrence(RNN_CELL, (self.W_hh,), (H,), X)
        return outputs, H


class GRUScratch(RNNScratch):
    """A gated recurrent unit; gates r, z, n. The formulas: `gru_step`, `gru_reset_after_step`.

    Attributes:
        reset_after: where the reset gate is applied. The book applies it before the matrix product; after it,
            as concise layers do, there is one more bias, ``b_hn (h,)``.
    """

    reset_after: bool = False

    num_gates: ClassVar[int] = 3

    def setup(self) -> None:
        """As `RNNScratch`, and b_hn where the reset comes after."""
        super().setup()
        if self.reset_after:
            self.b_hn = self.param("b_hn", nn.initializers.zeros, (self.num_hiddens,))

    @takes_tokens
    def __call__(self, inputs: jax.Array, state: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `RNNScratch.__call__`."""
        inputs = stacked(inputs)
        H = self.initial_state(inputs.shape[1]) if state is None else state
        X = project(inputs, self.W_xh, self.b_h)
        if self.reset_after:
            outputs, (H,) = scan_recurrence(GRU_RESET_AFTER_CELL, (self.W_hh, self.b_hn), (H,), X)
        else:
            outputs, (H,) = scan_recurrence(GRU_CELL, (self.W_hh,), (H,), X)
        return outputs, H


class LSTMScratch(RNNScratch):
    """Long short-term memory; gates i, f, g, o. The formulas: `lstm_step`."""

    num_gates: ClassVar[int] = 4

    def initial_state(self, batch_size: int) -> Arrays:
        """Zeros ``(H, C)``, each (B, h)."""
        zeros = super().initial_state(batch_size)
        return zeros, zeros

    @takes_tokens
    def __call__(self, inputs: jax.Array, state: Arrays | None = None) -> tuple[jax.Array, Arrays]:
        """See `RNNScratch.__call__`; the state is ``(H, C)``, each (B, h)."""
        inputs = stacked(inputs)
        H_C = self.initial_state(inputs.shape[1]) if state is None else tuple(state)
        X = project(inputs, self.W_xh, self.b_h)
        return scan_recurrence(LSTM_CELL, (self.W_hh,), H_C, X)


class StackedRNNScratch(nn.Module):
    """Layers from scratch on top of each other.

    Attributes:
        num_inputs: size of the input vectors.
        num_hiddens: h of every layer.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: what makes a layer of ``(num_inputs, num_hiddens, sigma)``: `RNNScratch`, `GRUScratch`, ….

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

    def setup(self) -> None:
        """The layers; in a list that flax registers."""
        sizes = [self.num_inputs] + [self.num_hiddens] * (self.num_layers - 1)
        self.rnns = [self.layer(size, self.num_hiddens, self.sigma) for size in sizes]

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The zero states of the layers."""
        return tuple(rnn.initial_state(batch_size) for rnn in self.rnns)

    @takes_tokens
    def __call__(
        self, inputs: jax.Array, state: tuple[Any, ...] | None = None
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B).
            state: the layers' states, in a tuple or a list; None is zeros. A list is not changed.

        Returns:
            The outputs of the last layer (T, B, h), and the final states of all layers.
        """
        inputs = stacked(inputs)
        states = self.initial_state(inputs.shape[1]) if state is None else state
        final = []
        for rnn, layer_state in zip(self.rnns, states, strict=True):
            inputs, layer_state = rnn(inputs, layer_state)
            final.append(layer_state)
        return inputs, tuple(final)
