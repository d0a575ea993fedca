"""Running a recurrence over time, with a backward pass by hand.

JAX can differentiate `jax.lax.scan` by itself, and `plain_scan` leaves it to. But then every step adds its
share of a weight's gradient to an array of the weight's size, and more intermediate values are kept than are
needed. `scan_recurrence` keeps what its backward scan multiplies by, collects the gradients at the
pre-activations, and makes each weight's gradient one matrix product after that scan.

The formulas themselves are in `d2lrnn_jax.scratch`; here are their derivatives. T = time steps, B = batch
size, h = hidden units; dA is the gradient of the loss at A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import numpy.typing as npt
from jax import lax
from jax import numpy as jnp

Arrays: TypeAlias = tuple[jax.Array, ...]

#: What the way back needs of a layer: weights, H before the first step, outputs, and what steps have kept.
_Residuals: TypeAlias = tuple[Arrays, jax.Array, jax.Array, Arrays]


class Cell(NamedTuple):
    """One time step and its derivative.

    Attributes:
        step: ``(weights, state, X) -> (state, activations)``, where X (B, n) is the projected input and the
            first part of a state, H (B, h), is the output; `activations` are what `keep` chooses from.
        keep: ``(state_previous, state, activations) -> kept``: what `step_back` needs of a step, as far as
            possible what gradients are multiplied by, so that the way back only multiplies. The first of
            them has the shape of X, and takes its place in memory.
        num_spent: how many of these, from the first, make one result of `step_back` each, which takes their
            place: the first makes d_hidden.
        step_back: ``(weights, d_state, H_previous, kept) -> (d_state_previous, (d_hidden, …))``, where
            d_hidden is the gradient at what the state was multiplied into, and what follows is what else
            `gradients` needs.
        gradients: ``(H_previous, kept, (d_hidden, …)) -> (d_weights, dX)``, all steps at once, (T, B, …);
            of what was kept without what is spent.
    """

    step: Callable[[Arrays, Arrays, jax.Array], tuple[Arrays, Arrays]]
    keep: Callable[[Arrays, Arrays, Arrays], Arrays]
    num_spent: int
    step_back: Callable[[Arrays, Arrays, jax.Array, Arrays], tuple[Arrays, Arrays]]
    gradients: Callable[[jax.Array, Arrays, Arrays], tuple[Arrays, jax.Array]]


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


def _forward(
    cell: Cell, weights: Arrays, state: Arrays, inputs: jax.Array
) -> tuple[tuple[jax.Array, Arrays], _Residuals]:
    def body(before: Arrays, X: Arrays, _: Arrays) -> tuple[Arrays, Arrays]:
        after, activations = cell.step(weights, before, *X)
        return after, (*cell.keep(before, after, activations), after[0])

    final, (*kept, outputs) = scan_in_place(body, state, (inputs,), ())
    return (outputs, final), (weights, state[0], outputs, tuple(kept))


def _backward(
    cell: Cell, residuals: _Residuals, d_results: tuple[jax.Array, Arrays]
) -> tuple[Arrays, Arrays, jax.Array]:
    weights, H_0, outputs, kept = residuals
    d_outputs, d_final = d_results
    spent, kept = kept[: cell.num_spent], kept[cell.num_spent :]

    def body(d_state: Arrays, spent: Arrays, read: Arrays) -> tuple[Arrays, Arrays]:
        d_output, H_previous, *kept = read
        d_state = (d_state[0] + d_output, *d_state[1:])
        return cell.step_back(weights, d_state, H_previous, (*spent, *kept))

    H_previous = jnp.concatenate([H_0[None], outputs[:-1]])
    d_state, results = scan_in_place(body, d_final, spent, (d_outputs, H_previous, *kept), reverse=True)
    d_weights, dX = cell.gradients(H_previous, kept, results)
    return d_weights, d_state, dX


scan_recurrence.defvjp(_forward, _backward)


def scan_in_place(
    body: Callable[[Arrays, Arrays, Arrays], tuple[Arrays, Arrays]],
    carry: Arrays,
    spent: Arrays,
    read: Arrays,
    *,
    reverse: bool = False,
) -> tuple[Arrays, Arrays]:
    """`lax.scan`, some results of which are written over what the step was given.

    `lax.scan` has the memory for its results filled with zeros first, and XLA often copies these zeros once
    more: for an LSTM with a batch of 1024 a tenth of a training step.

    Args:
        body: ``(carry, spent, read) -> (carry, results)`` for one time step.
        carry: what goes from step to step.
        spent: arrays (T, …). The first results, as many as these are, have their shapes and take their place.
            Where two results are made of one of them, XLA copies the whole of it at every step.
        read: further arrays (T, …).
        reverse: whether to go from the last step to the first.

    Returns:
        The last carry, and the results of all steps (T, …).
    """

    def step(
        held: tuple[Arrays, Arrays], values: tuple[jax.Array, Arrays]
    ) -> tuple[tuple[Arrays, Arrays], Arrays]:
        (carry, arrays), (t, read_here) = held, values
        here = tuple(lax.dynamic_index_in_dim(array, t, keepdims=False) for array in arrays)
        carry, results = body(carry, here, read_here)
        in_place, others = results[: len(arrays)], results[len(arrays) :]
        arrays = tuple(
            lax.dynamic_update_index_in_dim(array, result, t, 0)
            for array, result in zip(arrays, in_place, strict=True)
        )
        return (carry, arrays), others

    times = jnp.arange(len((*spent, *read)[0]))
    (carry, arrays), others = lax.scan(step, (carry, spent), (times, read), reverse=reverse)
    return carry, (*arrays, *others)


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


def once(x: jax.Array) -> jax.Array:
    """`x`, which XLA computes once: it would compute anew for every array of a step that is made of it."""
    return lax.optimization_barrier(x)


def sigmoid(x: jax.Array) -> jax.Array:
    """σ(x) = ½ + ½ tanh(½ x): XLA takes a third of the time for it that it takes for ``jax.nn.sigmoid``."""
    return 0.5 + 0.5 * jnp.tanh(0.5 * x)


def rnn_keep(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """Tanh' = 1 - tanh²."""
    (H,) = after
    return (1 - H * H,)


def rnn_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """dH_{t-1} = d_hidden W_hhᵀ."""
    (W_hh,), (dH,), (slope,) = weights, d_state, kept
    d_hidden = dH * slope
    return (times_transposed(d_hidden, W_hh),), (d_hidden,)


def rnn_gradients(H_previous: jax.Array, kept: Arrays, results: Arrays) -> tuple[Arrays, jax.Array]:
    """Also an LSTM's: the recurrent product has the gradient of what it is added to."""
    (d_hidden,) = results
    return (product_over_time(H_previous, d_hidden),), d_hidden


def gru_keep(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """Of both GRUs: R, Z, N side by side, and what R is multiplied with or what comes of it."""
    RZ, N, other = activations
    return _beside(RZ, N), other


def gru_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """Of the GRU that resets before the product, with σ' = σ (1 - σ) and tanh' = 1 - tanh².

    - dN = dH ∘ (1 - Z) ∘ (1 - N²);  d_reset = dN W_hnᵀ
    - dR = d_reset ∘ H ∘ R (1 - R);  dZ = dH ∘ (H - N) ∘ Z (1 - Z)
    - dH_{t-1} = dH ∘ Z + d_reset ∘ R + [dR, dZ] W_hrzᵀ
    """
    (W_hh,), (dH,), (gates, _) = weights, d_state, kept
    R, Z, N = jnp.split(gates, 3, axis=-1)
    h = dH.shape[-1]
    dN = once(dH * (1 - Z) * (1 - N * N))
    d_reset = times_transposed(dN, W_hh[:, 2 * h :])
    dRZ = _beside(d_reset * H_previous * R * (1 - R), dH * (H_previous - N) * Z * (1 - Z))
    dH = dH * Z + d_reset * R + times_transposed(dRZ, W_hh[:, : 2 * h])
    return (dH,), (_beside(dRZ, dN),)


def gru_gradients(H_previous: jax.Array, kept: Arrays, results: Arrays) -> tuple[Arrays, jax.Array]:
    """W_hn multiplies the reset state."""
    (d_hidden,), (_, reset), h = results, kept, H_previous.shape[-1]
    d_W_rz = product_over_time(H_previous, d_hidden[..., : 2 * h])
    return (_beside(d_W_rz, product_over_time(reset, d_hidden[..., 2 * h :])),), d_hidden


def gru_reset_after_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """Of the GRU that resets after the product, with inner = H W_hn + b_hn.

    - dN = dH ∘ (1 - Z) ∘ (1 - N²);  d_inner = dN ∘ R
    - dR = dN ∘ inner ∘ R (1 - R);  dZ = dH ∘ (H - N) ∘ Z (1 - Z)
    - dH_{t-1} = dH ∘ Z + [dR, dZ, d_inner] W_hhᵀ
    """
    (W_hh, _), (dH,), (gates, inner) = weights, d_state, kept
    R, Z, N = jnp.split(gates, 3, axis=-1)
    dN = once(dH * (1 - Z) * (1 - N * N))
    d_hidden = _beside(dN * inner * R * (1 - R), dH * (H_previous - N) * Z * (1 - Z), dN * R)
    return (dH * Z + times_transposed(d_hidden, W_hh),), (d_hidden, dN)


def gru_reset_after_gradients(
    H_previous: jax.Array, kept: Arrays, results: Arrays
) -> tuple[Arrays, jax.Array]:
    """W_hn's product is inside the reset, with b_hn; the projected input is outside."""
    (d_hidden, dN), h = results, H_previous.shape[-1]
    d_b_hn = d_hidden[..., 2 * h :].sum(axis=(0, 1))
    return (product_over_time(H_previous, d_hidden), d_b_hn), _beside(d_hidden[..., : 2 * h], dN)


def lstm_gates(x: jax.Array) -> jax.Array:
    """[σ(x_i), σ(x_f), tanh(x_g), σ(x_o)] (B, 4·h), as one tanh of all; see `sigmoid`."""
    scale, shift = _by_gate([0.5, 0.5, 1, 0.5], like=x), _by_gate([0.5, 0.5, 0, 0.5], like=x)
    return shift + scale * jnp.tanh(scale * x)


def _by_gate(factors: Sequence[float], like: jax.Array) -> npt.NDArray[Any]:
    """A factor for every gate, h times each: (G·h,)."""
    return np.repeat(np.array(factors, like.dtype), like.shape[-1] // len(factors))


def lstm_keep(before: Arrays, after: Arrays, activations: Arrays) -> Arrays:
    """What dC, and for the o gate dH, is multiplied by: of the gates, side by side; of tanh(C'); F."""
    (_, C), (gates, tanh_C) = before, activations
    I, F, G, O = jnp.split(gates, 4, axis=-1)
    slope = _beside(G, C, I, tanh_C) * _lstm_gate_slopes(gates)
    return slope, O * (1 - tanh_C * tanh_C), F


def _lstm_gate_slopes(gates: jax.Array) -> jax.Array:
    """The slopes of `lstm_gates` where these are its values: σ (1 - σ), and 1 - tanh²."""
    constant, linear = _by_gate([0, 0, 1, 0], like=gates), _by_gate([1, 1, 0, 1], like=gates)
    return constant + gates * (linear - gates)


def lstm_step_back(
    weights: Arrays, d_state: Arrays, H_previous: jax.Array, kept: Arrays
) -> tuple[Arrays, Arrays]:
    """dH_{t-1} = [dI, dF, dG, dO] W_hhᵀ;  dC_{t-1} = dC ∘ F."""
    (W_hh,), (dH, dC), (slope, slope_cell, F) = weights, d_state, kept
    dC = dC + dH * slope_cell
    d_hidden = _beside(dC, dC, dC, dH) * slope
    return (times_transposed(d_hidden, W_hh), dC * F), (d_hidden,)


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
