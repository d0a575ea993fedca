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

from d2lrnn_jax.recurrence import Arrays, project, scan_recurrence


def rnn_step(weights: Arrays, state: Arrays, X: Arrays) -> tuple[Arrays, Arrays]:
    """H' = tanh(X W_xh + b_h + H W_hh)."""
    (W_hh,), (H,), (X_h,) = weights, state, X
    return (jnp.tanh(H @ W_hh + X_h),), (H,)


def gru_step(weights: Arrays, state: Arrays, X: Arrays) -> tuple[Arrays, Arrays]:
    """The GRU of the book and of Cho et al. (2014), which resets before the matrix product.

    - R, Z = σ(X W_xrz + b_rz + H W_hrz)
    - N = tanh(X W_xn + b_n + (R ∘ H) W_hn)
    - H' = Z ∘ H + (1 - Z) ∘ N
    """
    (W_hrz, W_hn), (H,), (X_rz, X_n) = weights, state, X
    R, Z = jnp.split(jax.nn.sigmoid(H @ W_hrz + X_rz), 2, axis=-1)
    reset = R * H
    N = jnp.tanh(reset @ W_hn + X_n)
    return (Z * H + (1 - Z) * N,), (H, reset)


def gru_reset_after_step(weights: Arrays, state: Arrays, X: Arrays) -> tuple[Arrays, Arrays]:
    """The GRU of cuDNN and flax, which resets after the matrix product.

    As `gru_step`, but N = tanh(X W_xn + b_n + R ∘ (H W_hn + b_hn)).
    """
    (W_hrz, W_hn), (H,), (X_rz, b_hn, X_n) = weights, state, X
    R, Z = jnp.split(jax.nn.sigmoid(H @ W_hrz + X_rz), 2, axis=-1)
    N = jnp.tanh(X_n + R * (H @ W_hn + b_hn))
    return (Z * H + (1 - Z) * N,), (H, H)


def lstm_step(weights: Arrays, state: Arrays, X: Arrays) -> tuple[Arrays, Arrays]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    - I, F, O = σ(X W_x + b + H W_h), G = tanh(X W_xg + b_g + H W_hg)
    - C' = F ∘ C + I ∘ G
    - H' = O ∘ tanh(C')
    """
    (W_hh,), (H, C), (X_ifgo,) = weights, state, X
    I, F, G, O = jnp.split(H @ W_hh + X_ifgo, 4, axis=-1)
    C = jax.nn.sigmoid(F) * C + jax.nn.sigmoid(I) * jnp.tanh(G)
    return (jax.nn.sigmoid(O) * jnp.tanh(C), C), (H,)


def run_rnn(inputs: jax.Array, state: Arrays, W_xh: jax.Array, W_hh: jax.Array, b_h: jax.Array) -> Any:
    """A tanh layer over all steps: outputs (T, B, h) and the final ``(H,)``."""
    return scan_recurrence(rnn_step, (W_hh,), state, (project(inputs, W_xh, b_h),))


def run_gru(
    inputs: jax.Array,
    state: Arrays,
    W_xh: jax.Array,
    W_hh: jax.Array,
    b_h: jax.Array,
    b_hn: jax.Array | None = None,
) -> Any:
    """A GRU layer over all steps: outputs (T, B, h) and the final ``(H,)``. With `b_hn` it resets after."""
    h = W_hh.shape[0]
    X = project(inputs, W_xh, b_h)
    weights, X_rz, X_n = (W_hh[:, : 2 * h], W_hh[:, 2 * h :]), X[..., : 2 * h], X[..., 2 * h :]
    if b_hn is None:
        return scan_recurrence(gru_step, weights, state, (X_rz, X_n))
    # At every step anew, because its gradients are what the weights' are made of.
    b_hn = jnp.broadcast_to(b_hn, X_n.shape)
    return scan_recurrence(gru_reset_after_step, weights, state, (X_rz, b_hn, X_n))


def run_lstm(inputs: jax.Array, state: Arrays, W_xh: jax.Array, W_hh: jax.Array, b_h: jax.Array) -> Any:
    """An LSTM layer over all steps: outputs (T, B, h) and the final ``(H, C)``."""
    return scan_recurrence(lstm_step, (W_hh,), state, (project(inputs, W_xh, b_h),))


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

    takes_tokens: ClassVar[bool] = True
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

    def __call__(self, inputs: jax.Array, state: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B).
            state: (B, h); None is zeros.

        Returns:
            Outputs (T, B, h) and the final state (B, h).
        """
        H = self.initial_state(inputs.shape[1]) if state is None else state
        outputs, (H,) = run_rnn(inputs, (H,), self.W_xh, self.W_hh, self.b_h)
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
        zeros = nn.initializers.zeros
        self.b_hn = self.param("b_hn", zeros, (self.num_hiddens,)) if self.reset_after else None

    def __call__(self, inputs: jax.Array, state: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `RNNScratch.__call__`."""
        H = self.initial_state(inputs.shape[1]) if state is None else state
        outputs, (H,) = run_gru(inputs, (H,), self.W_xh, self.W_hh, self.b_h, self.b_hn)
        return outputs, H


class LSTMScratch(RNNScratch):
    """Long short-term memory; gates i, f, g, o. The formulas: `lstm_step`."""

    num_gates: ClassVar[int] = 4

    def initial_state(self, batch_size: int) -> Arrays:
        """Zeros ``(H, C)``, each (B, h)."""
        zeros = super().initial_state(batch_size)
        return zeros, zeros

    def __call__(self, inputs: jax.Array, state: Arrays | None = None) -> tuple[jax.Array, Arrays]:
        """See `RNNScratch.__call__`; the state is ``(H, C)``, each (B, h)."""
        H_C = self.initial_state(inputs.shape[1]) if state is None else tuple(state)
        return run_lstm(inputs, H_C, self.W_xh, self.W_hh, self.b_h)


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

    takes_tokens: ClassVar[bool] = True

    def setup(self) -> None:
        """The layers; in a list that flax registers."""
        sizes = [self.num_inputs] + [self.num_hiddens] * (self.num_layers - 1)
        self.rnns = [self.layer(size, self.num_hiddens, self.sigma) for size in sizes]

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The zero states of the layers."""
        return tuple(rnn.initial_state(batch_size) for rnn in self.rnns)

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
        states = self.initial_state(inputs.shape[1]) if state is None else state
        final = []
        for rnn, layer_state in zip(self.rnns, states, strict=True):
            inputs, layer_state = rnn(inputs, layer_state)
            final.append(layer_state)
        return inputs, tuple(final)
