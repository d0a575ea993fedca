"""Running a recurrence over time, with a backward pass by hand.

JAX can differentiate `jax.lax.scan` by itself, and `plain_scan` leaves it to. But then every step adds its
share of a weight's gradient to an array of the weight's size, and more intermediate values are kept than are
needed. `scan_recurrence` keeps slopes, collects the gradients at the pre-activations, and makes each weight's
gradient one matrix product after the backward scan.

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
        step: ``(weights, state, X) -> (state, activations)``, where X (B, n) is the projected input and the
            first part of a state, H (B, h), is the output; `activations` are what `slopes` is made of.
        slopes: ``(state_previous, state, activations) -> slopes``: what `step_back` multiplies gradients by,
            and other arrays that it or `gradients` needs. Known on the way forward, when all that they
            are made of is at hand: the way back only multiplies.
        step_back: ``(weights, d_state, slopes) -> (d_state_previous, d_hidden, others)``, where
            d_hidden is the gradient at what the state was multiplied into, and others are further ones.
        gradients: ``(H_previous, slopes, d_hidden, others) -> (d_weights, dX)``, all steps at once:
            (T, B, …).
    """

    step: Callable[[Arrays, Arrays, jax.Array], tuple[Arrays, Arrays]]
    slopes: Callable[[Arrays, Arrays, Arrays], Arrays]
    step_back: Callable[[Arrays, Arrays, Arrays], tuple[Arrays, jax.Array, Arrays]]
    gradients: Callable[[jax.Array, Arrays, jax.Array, Arrays], tuple[Arrays, jax.Array]]


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
    def body(before, X):  # type: ignore[no-untyped-def]
        after, activations = cell.step(weights, before, X)
        return after, (after[0], cell.slopes(before, after, activations))

    final, (outputs, slopes) = lax.scan(body, state, inputs)
    return (outputs, final), (weights, state[0], outputs, slopes)


def _backward(cell, residuals, d_results):  # type: ignore[no-untyped-def]
    weights, H_0, outputs, slopes = residuals
    d_outputs, d_final = d_results

    def body(d_state, values):  # type: ignore[no-untyped-def]
        d_output, slopes_here = values
        d_state = (d_state[0] + d_output, *d_state[1:])
        d_state, d_hidden, others = cell.step_back(weights, d_state, slopes_here)
        return d_state, (d_hidden, others)

    d_state, (d_hidden, others) = lax.scan(body, d_final, (d_outputs, slopes), reverse=True)
    H_previous = jnp.concatenate([H_0[None], outputs[:-1]])
    d_weights, dX = cell.gradients(H_previous, slopes, d_hidden, others)
    return d_weights, d_state, dX


scan_recurrence.defvjp(_forward, _backward)


def times_transposed(d: jax.Array, W: jax.Array) -> jax.Array:
    """The product ``d @ W.T``: (B, n), (m, n) -> (B, m).

    XLA lays the right factor out anew at every step: W, where it is the larger one, is the left factor.
    """
    if len(W) <= len(d):
        return d @ W.T
    swapped = lax.dot_general(W, d, (((1,), (1,)), ((), ())))
    # Else XLA would swap them back.
    return lax.optimization_barrier(swapped).T


def product_over_time(left: jax.Array, right: jax.Array) -> jax.Array:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n)."""
    return _rows(left).T @ _rows(right)


def _rows(x: jax.Array) -> jax.Array:
    """(T, B, n) -> (T·B, n): XLA takes longer for a product that sums over two axes of its operands."""
    return x.reshape(-1, x.shape[-1])


def _beside(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, axis=-1)


def rnn_slopes(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """Tanh' = 1 - tanh²."""
    (H,) = after
    return (1 - H * H,)


def rnn_step_back(weights: Arrays, d_state: Arrays, slopes: Arrays) -> tuple[Arrays, jax.Array, Arrays]:
    """dH_{t-1} = d_hidden W_hhᵀ."""
    (W_hh,), (dH,), (slope,) = weights, d_state, slopes
    d_hidden = dH * slope
    return (times_transposed(d_hidden, W_hh),), d_hidden, ()


def rnn_gradients(
    H_previous: jax.Array, slopes: Arrays, d_hidden: jax.Array, others: Arrays
) -> tuple[Arrays, jax.Array]:
    """Also an LSTM's: the recurrent product has the gradient of what it is added to."""
    return (product_over_time(H_previous, d_hidden),), d_hidden


def gru_slopes(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """Of the GRU that resets before the product; σ' = σ (1 - σ). What is reset is needed for W_hn."""
    (H,), (R, Z, N, reset) = before, activations
    return H * R * (1 - R), (H - N) * Z * (1 - Z), (1 - Z) * (1 - N * N), R, Z, reset


def gru_step_back(weights: Arrays, d_state: Arrays, slopes: Arrays) -> tuple[Arrays, jax.Array, Arrays]:
    """d_reset = dN W_hnᵀ;  dH_{t-1} = dH ∘ Z + d_reset ∘ R + [dR, dZ] W_hrzᵀ."""
    (W_hh,), (dH,), (slope_r, slope_z, slope_n, R, Z, _) = weights, d_state, slopes
    h = dH.shape[-1]
    dN = dH * slope_n
    d_reset = times_transposed(dN, W_hh[:, 2 * h :])
    dRZ = _beside(d_reset * slope_r, dH * slope_z)
    return (dH * Z + d_reset * R + times_transposed(dRZ, W_hh[:, : 2 * h]),), dRZ, (dN,)


def gru_gradients(
    H_previous: jax.Array, slopes: Arrays, d_hidden: jax.Array, others: Arrays
) -> tuple[Arrays, jax.Array]:
    """W_hn multiplies the reset state."""
    (dN,), reset = others, slopes[-1]
    d_W = _beside(product_over_time(H_previous, d_hidden), product_over_time(reset, dN))
    return (d_W,), _beside(d_hidden, dN)


def gru_reset_after_slopes(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """Of the GRU that resets after the product: of r, z and inner = H W_hn + b_hn, side by side; of n; Z."""
    (H,), (R, Z, N, inner) = before, activations
    slope_n = (1 - Z) * (1 - N * N)
    return _beside(slope_n * inner * R * (1 - R), (H - N) * Z * (1 - Z), slope_n * R), slope_n, Z


def gru_reset_after_step_back(
    weights: Arrays, d_state: Arrays, slopes: Arrays
) -> tuple[Arrays, jax.Array, Arrays]:
    """dH_{t-1} = dH ∘ Z + [dR, dZ, d_inner] W_hhᵀ."""
    (W_hh, _), (dH,), (slope, slope_n, Z) = weights, d_state, slopes
    d_hidden = _beside(dH, dH, dH) * slope
    return (dH * Z + times_transposed(d_hidden, W_hh),), d_hidden, (dH * slope_n,)


def gru_reset_after_gradients(
    H_previous: jax.Array, slopes: Arrays, d_hidden: jax.Array, others: Arrays
) -> tuple[Arrays, jax.Array]:
    """W_hn's product is inside the reset, with b_hn; the projected input is outside."""
    (dN,), h = others, H_previous.shape[-1]
    d_b_hn = d_hidden[..., 2 * h :].sum(axis=(0, 1))
    return (product_over_time(H_previous, d_hidden), d_b_hn), _beside(d_hidden[..., : 2 * h], dN)


def lstm_slopes(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """Of the gates i, f, g and o, side by side; of tanh(C'), and F."""
    (_, C), (I, F, G, O, tanh_C) = before, activations
    gates = G * I * (1 - I), C * F * (1 - F), I * (1 - G * G), tanh_C * O * (1 - O)
    return _beside(*gates), O * (1 - tanh_C * tanh_C), F


def lstm_step_back(weights: Arrays, d_state: Arrays, slopes: Arrays) -> tuple[Arrays, jax.Array, Arrays]:
    """dH_{t-1} = [dI, dF, dG, dO] W_hhᵀ;  dC_{t-1} = dC ∘ F."""
    (W_hh,), (dH, dC), (slope, slope_cell, F) = weights, d_state, slopes
    dC = dC + dH * slope_cell
    d_hidden = _beside(dC, dC, dC, dH) * slope
    return (times_transposed(d_hidden, W_hh), dC * F), d_hidden, ()


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
        if inputs.size < len(W):
            return jnp.take(W, inputs, axis=0, mode="clip") + b
        # Fewer rows than tokens: add the bias to the rows, forward and backward.
        return jnp.take(W + b, inputs, axis=0, mode="clip")
    return (_rows(inputs) @ W + b).reshape(*inputs.shape[:-1], -1)
