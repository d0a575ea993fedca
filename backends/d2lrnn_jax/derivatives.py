"""The backward passes by hand, one for each formula of `d2lrnn_jax.scratch` that is faster with it.

Each is optional: without it JAX differentiates the formula, and a test compares the two. The
formulas are in `d2lrnn.contract.cells`. dA is the gradient of the loss at A, σ' = σ (1 - σ) and
tanh' = 1 - tanh².
"""

from __future__ import annotations

import jax
from jax import numpy as jnp

from d2lrnn_jax.activations import by_gate, once
from d2lrnn_jax.recurrence import Arrays, Derivative, Weights, product_over_time, times_transposed


def rnn_keep(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """The derivative of tanh."""
    (H,) = after
    return (1 - H * H,)


def rnn_step_back(
    weights: Weights, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """dH_{t-1} = d_hidden w_hᵀ."""
    (dH,), (slope,) = d_state, kept
    d_hidden = dH * slope
    return (times_transposed(d_hidden, weights["w_h"]),), (d_hidden,)


def rnn_gradients(H_previous: jax.Array, kept: Arrays, results: Arrays) -> tuple[Weights, jax.Array]:
    """Also for an LSTM: the gradient at H w_h is that at X, as they are added."""
    (d_hidden,) = results
    return {"w_h": product_over_time(H_previous, d_hidden)}, d_hidden


def gru_keep(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """R, Z, N side by side; and R ∘ H (reset before the product) or H w_h[n] + b_hn (after it)."""
    RZ, N, other = activations
    return _beside(RZ, N), other


def gru_step_back(
    weights: Weights, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """For a GRU that resets before the product; with b_hn in the weights, for one that resets after it.

    - dN = dH ∘ (1 - Z) ∘ (1 - N²);  d_reset = dN w_h[n]ᵀ
    - dR = d_reset ∘ H ∘ R (1 - R);  dZ = dH ∘ (H - N) ∘ Z (1 - Z)
    - dH_{t-1} = dH ∘ Z + d_reset ∘ R + [dR, dZ] w_h[rz]ᵀ
    """
    if "b_hn" in weights:
        return _gru_reset_after_step_back(weights, d_state, H_previous, kept)
    w_h, (dH,), (gates, _) = weights["w_h"], d_state, kept
    R, Z, N = jnp.split(gates, 3, axis=-1)
    h = dH.shape[-1]
    dN = once(dH * (1 - Z) * (1 - N * N))
    d_reset = times_transposed(dN, w_h[:, 2 * h :])
    dRZ = _beside(d_reset * H_previous * R * (1 - R), dH * (H_previous - N) * Z * (1 - Z))
    dH = dH * Z + d_reset * R + times_transposed(dRZ, w_h[:, : 2 * h])
    return (dH,), (_beside(dRZ, dN),)


def _gru_reset_after_step_back(
    weights: Weights, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """With inner = H w_h[n] + b_hn.

    - dN = dH ∘ (1 - Z) ∘ (1 - N²);  d_inner = dN ∘ R
    - dR = dN ∘ inner ∘ R (1 - R);  dZ = dH ∘ (H - N) ∘ Z (1 - Z)
    - dH_{t-1} = dH ∘ Z + [dR, dZ, d_inner] w_hᵀ
    """
    (dH,), (gates, inner) = d_state, kept
    R, Z, N = jnp.split(gates, 3, axis=-1)
    dN = once(dH * (1 - Z) * (1 - N * N))
    d_hidden = _beside(dN * inner * R * (1 - R), dH * (H_previous - N) * Z * (1 - Z), dN * R)
    return (dH * Z + times_transposed(d_hidden, weights["w_h"]),), (d_hidden, dN)


def gru_gradients(H_previous: jax.Array, kept: Arrays, results: Arrays) -> tuple[Weights, jax.Array]:
    """Reset before the product, w_h[n] multiplies R ∘ H; after it, H, and b_hn has a gradient."""
    h = H_previous.shape[-1]
    if len(results) == 2:
        d_hidden, dN = results
        gradients = {
            "w_h": product_over_time(H_previous, d_hidden),
            "b_hn": d_hidden[..., 2 * h :].sum(axis=(0, 1)),
        }
        return gradients, _beside(d_hidden[..., : 2 * h], dN)
    (d_hidden,), (_, reset) = results, kept
    d_w_rz = product_over_time(H_previous, d_hidden[..., : 2 * h])
    d_w_n = product_over_time(reset, d_hidden[..., 2 * h :])
    return {"w_h": _beside(d_w_rz, d_w_n)}, d_hidden


def lstm_keep(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """The factors of the backward pass: of dC (o gate: dH) at the gates; of dH at C'; F."""
    (_, C), (gates, tanh_C) = before, activations
    I, F, G, O = jnp.split(gates, 4, axis=-1)
    slope = _beside(G, C, I, tanh_C) * _lstm_gate_slopes(gates)
    return slope, O * (1 - tanh_C * tanh_C), F


def _lstm_gate_slopes(gates: jax.Array) -> jax.Array:
    """σ' or tanh' of each gate, from the values of `d2lrnn_jax.activations.lstm_gates`."""
    constant, linear = by_gate([0, 0, 1, 0], like=gates), by_gate([1, 1, 0, 1], like=gates)
    return constant + gates * (linear - gates)


def lstm_step_back(
    weights: Weights, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """dH_{t-1} = [dI, dF, dG, dO] w_hᵀ;  dC_{t-1} = dC ∘ F."""
    (dH, dC), (slope, slope_cell, F) = d_state, kept
    dC = dC + dH * slope_cell
    d_hidden = _beside(dC, dC, dC, dH) * slope
    return (times_transposed(d_hidden, weights["w_h"]), dC * F), (d_hidden,)


def _beside(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, axis=-1)


# benchmarks/tricks: jax, backward pass by hand
RNN = Derivative(rnn_keep, rnn_step_back, rnn_gradients, in_place=True)
GRU = Derivative(gru_keep, gru_step_back, gru_gradients)
LSTM = Derivative(lstm_keep, lstm_step_back, rnn_gradients, in_place=True)
