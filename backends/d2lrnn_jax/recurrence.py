"""Running a recurrence over time, with a backward pass by hand.

JAX can differentiate `jax.lax.scan` by itself, and `plain_scan` leaves it to. But then every step adds its
share of a weight's gradient to an array of the weight's size, and more intermediate values are kept than are
needed. `scan_recurrence` keeps the activations, collects the gradients at the pre-activations, and makes each
weight's gradient one matrix product after the backward scan.

The formulas themselves are in `d2lrnn_jax.scratch`; here are their derivatives. T = time steps, B = batch
size, h = hidden units; dA is the gradient of the loss at A.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
from jax import lax
from jax import numpy as jnp

Arrays: TypeAlias = tuple[jax.Array, ...]


class Cell(NamedTuple):
    """One time step and its derivative.

    Attributes:
        step: ``(weights, state, X) -> (state, saved)``, where X (B, n) is the projected input and the first
            part of a state, H (B, h), is the output; `saved` are the activations for `step_back`.
        step_back: ``(weights, d_state, H_previous, H, saved) -> (d_state_previous, dX, others)``, where
            others are further gradients that the weights' are made of.
        weight_gradients: ``(H_previous, saved, dX, others) -> d_weights``, all steps at once: (T, B, …).
    """

    step: Callable[[Arrays, Arrays, jax.Array], tuple[Arrays, Arrays]]
    step_back: Callable[[Arrays, Arrays, jax.Array, jax.Array, Arrays], tuple[Arrays, jax.Array, Arrays]]
    weight_gradients: Callable[[jax.Array, Arrays, jax.Array, Arrays], Arrays]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan_recurrence(
    cell: Cell, weights: Arrays, state: Arrays, inputs: jax.Array
) -> tuple[jax.Array, Arrays]:
    """Runs a cell over time.

    Args:
        cell: the step; its functions are module-level ones, so that what they compile to is found again.
        weights: what depends on the step before is multiplied by.
        state: the parts of the initial state, each (B, h).
        inputs: projected inputs (T, B, n); see `project`.

    Returns:
        The outputs (T, B, h) and the final state.
    """
    return plain_scan(cell, weights, state, inputs)


def plain_scan(cell: Cell, weights: Arrays, state: Arrays, inputs: jax.Array) -> tuple[jax.Array, Arrays]:
    """What `scan_recurrence` computes, differentiated by JAX."""

    def body(state: Arrays, X: jax.Array) -> tuple[Arrays, jax.Array]:
        state, _ = cell.step(weights, state, X)
        return state, state[0]

    state, outputs = lax.scan(body, state, inputs)
    return outputs, state


def _forward(cell, weights, state, inputs):  # type: ignore[no-untyped-def]
    def body(state, X):  # type: ignore[no-untyped-def]
        state, saved = cell.step(weights, state, X)
        return state, (state[0], saved)

    final, (outputs, saved) = lax.scan(body, state, inputs)
    return (outputs, final), (weights, state[0], outputs, saved)


def _backward(cell, residuals, d_results):  # type: ignore[no-untyped-def]
    weights, H_0, outputs, saved = residuals
    d_outputs, d_final = d_results
    H_previous = jnp.concatenate([H_0[None], outputs[:-1]])

    def body(d_state, values):  # type: ignore[no-untyped-def]
        d_output, H_before, H, kept = values
        d_state = (d_state[0] + d_output, *d_state[1:])
        d_state, dX, others = cell.step_back(weights, d_state, H_before, H, kept)
        return d_state, (dX, others)

    d_state, (dX, others) = lax.scan(body, d_final, (d_outputs, H_previous, outputs, saved), reverse=True)
    return cell.weight_gradients(H_previous, saved, dX, others), d_state, dX


scan_recurrence.defvjp(_forward, _backward)


def product_over_time(left: jax.Array, right: jax.Array) -> jax.Array:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n)."""
    return jnp.einsum("tbi,tbj->ij", left, right)


def rnn_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, H: jax.Array, saved: Arrays
) -> tuple[Arrays, jax.Array, Arrays]:
    """The derivative of the tanh RNN: tanh' = 1 - tanh²."""
    (W_hh,), (dH,) = weights, d_state
    dX = dH * (1 - H * H)
    return (dX @ W_hh.T,), dX, ()


def rnn_weight_gradients(H_previous: jax.Array, saved: Arrays, dX: jax.Array, others: Arrays) -> Arrays:
    """Also an LSTM's: the recurrent product has the gradient of what it is added to."""
    return (product_over_time(H_previous, dX),)


def gru_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, H: jax.Array, saved: Arrays
) -> tuple[Arrays, jax.Array, Arrays]:
    """The derivative of the GRU that resets before the product; σ' = σ (1 - σ)."""
    (W_hh,), (dH,), (R, Z, N, _) = weights, d_state, saved
    h = H.shape[-1]
    dN = dH * (1 - Z) * (1 - N * N)
    d_reset = dN @ W_hh[:, 2 * h :].T
    dR = d_reset * H_previous * R * (1 - R)
    dZ = dH * (H_previous - N) * Z * (1 - Z)
    dRZ = jnp.concatenate([dR, dZ], axis=-1)
    d_previous = dH * Z + d_reset * R + dRZ @ W_hh[:, : 2 * h].T
    return (d_previous,), jnp.concatenate([dRZ, dN], axis=-1), ()


def gru_weight_gradients(H_previous: jax.Array, saved: Arrays, dX: jax.Array, others: Arrays) -> Arrays:
    """W_hn multiplies the reset state."""
    (_, _, _, reset), h = saved, H_previous.shape[-1]
    d_W_hrz = product_over_time(H_previous, dX[..., : 2 * h])
    d_W_hn = product_over_time(reset, dX[..., 2 * h :])
    return (jnp.concatenate([d_W_hrz, d_W_hn], axis=-1),)


def gru_reset_after_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, H: jax.Array, saved: Arrays
) -> tuple[Arrays, jax.Array, Arrays]:
    """The derivative of the GRU that resets after the product; d_inner is the gradient at H W_hn + b_hn."""
    (W_hh, _), (dH,), (R, Z, N, inner) = weights, d_state, saved
    dN = dH * (1 - Z) * (1 - N * N)
    dR = dN * inner * R * (1 - R)
    dZ = dH * (H_previous - N) * Z * (1 - Z)
    d_inner = dN * R
    d_previous = dH * Z + jnp.concatenate([dR, dZ, d_inner], axis=-1) @ W_hh.T
    return (d_previous,), jnp.concatenate([dR, dZ, dN], axis=-1), (d_inner,)


def gru_reset_after_weight_gradients(
    H_previous: jax.Array, saved: Arrays, dX: jax.Array, others: Arrays
) -> Arrays:
    """W_hn's product is inside the reset, with b_hn."""
    (d_inner,), h = others, H_previous.shape[-1]
    d_W_hrz = product_over_time(H_previous, dX[..., : 2 * h])
    d_W_hn = product_over_time(H_previous, d_inner)
    return jnp.concatenate([d_W_hrz, d_W_hn], axis=-1), d_inner.sum(axis=(0, 1))


def lstm_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, H: jax.Array, saved: Arrays
) -> tuple[Arrays, jax.Array, Arrays]:
    """The derivative of the LSTM."""
    (W_hh,), (dH, dC), (I, F, G, O, C_previous, tanh_C) = weights, d_state, saved
    dC = dC + dH * O * (1 - tanh_C * tanh_C)
    dI = dC * G * I * (1 - I)
    dF = dC * C_previous * F * (1 - F)
    dG = dC * I * (1 - G * G)
    dO = dH * tanh_C * O * (1 - O)
    dX = jnp.concatenate([dI, dF, dG, dO], axis=-1)
    return (dX @ W_hh.T, dC * F), dX, ()


def project(inputs: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
    """All inputs times W, at once for all steps, plus b.

    Args:
        inputs: real vectors (T, B, in), or token indices (T, B): a one-hot vector times W is a row of it.
        W: (in, n).
        b: (n,).

    Returns:
        (T, B, n).
    """
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return jnp.take(W, inputs, axis=0, mode="clip") + b
    return inputs @ W + b
