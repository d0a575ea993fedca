"""The formula of one step of every cell, and its vector-Jacobian product.

This is all that a cell needs in this backend: `StepRecurrence` makes a layer of it. What is faster for some
of them is in `d2lrnn_numpy.recurrence`, and a test compares it with the formulas here. Their sources are in
`d2lrnn.contract.cells`.

B = batch size, h = hidden units, G = gates; X = x w_x + b (B, G·h) is a step's projected input.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.values import FloatArray
from d2lrnn_numpy.activations import sigmoid

#: The state of one layer: ``(h,)`` or ``(h, c)``, each (B, h).
LayerState = tuple[FloatArray, ...]

#: The weights of one layer by name, without w_x and b: ``w_h`` and what else the cell has.
Weights = dict[str, FloatArray]


class Formula(Protocol):
    """One step of a cell, and its vector-Jacobian product."""

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """The next state, and the values of this step that `backward` needs."""

    def backward(
        self, kept: Any, d_state: LayerState, weights: Weights
    ) -> tuple[FloatArray, LayerState, Weights]:
        """From the gradient at the next state to those at X, at the state before, and at the weights."""


class TanhRNN:
    """H' = tanh(X + H w_h)."""

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """See `Formula`."""
        (H,) = state
        H_next = np.tanh(X + H @ weights["w_h"])
        return (H_next,), (H, H_next)

    def backward(
        self, kept: Any, d_state: LayerState, weights: Weights
    ) -> tuple[FloatArray, LayerState, Weights]:
        """With tanh' = 1 - tanh²."""
        H, H_next = kept
        d = d_state[0] * (1 - H_next**2)
        return d, (d @ weights["w_h"].T,), {"w_h": H.T @ d}


class ReluRNN:
    """H' = max(0, X + H w_h)."""

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """See `Formula`."""
        (H,) = state
        H_next = np.maximum(X + H @ weights["w_h"], 0)
        return (H_next,), (H, H_next)

    def backward(
        self, kept: Any, d_state: LayerState, weights: Weights
    ) -> tuple[FloatArray, LayerState, Weights]:
        """With relu' = 1 where the state is above 0, else 0."""
        H, H_next = kept
        d = d_state[0] * (H_next > 0)
        return d, (d @ weights["w_h"].T,), {"w_h": H.T @ d}


class GRU:
    """R, Z = σ(X_rz + H w_h[rz]), a candidate N, and H' = Z ∘ H + (1 - Z) ∘ N.

    The candidate is tanh(X_n + R ∘ (H w_h[n] + b_hn)) where the weights have b_hn, the form that resets after
    the product, and else tanh(X_n + (R ∘ H) w_h[n]).
    """

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """See `Formula`."""
        (H,), h = state, state[0].shape[1]
        w_rz, w_n = weights["w_h"][:, : 2 * h], weights["w_h"][:, 2 * h :]
        RZ = sigmoid(X[:, : 2 * h] + H @ w_rz)
        R, Z = RZ[:, :h], RZ[:, h:]
        if "b_hn" in weights:
            inner = H @ w_n + weights["b_hn"]
            N = np.tanh(X[:, 2 * h :] + R * inner)
        else:
            inner = R * H
            N = np.tanh(X[:, 2 * h :] + inner @ w_n)
        return (Z * H + (1 - Z) * N,), (H, R, Z, N, inner)

    def backward(
        self, kept: Any, d_state: LayerState, weights: Weights
    ) -> tuple[FloatArray, LayerState, Weights]:
        """With σ' = σ (1 - σ); d_n is the gradient at the candidate's pre-activation."""
        H, R, Z, N, inner = kept
        (dH,), h = d_state, H.shape[1]
        w_rz, w_n = weights["w_h"][:, : 2 * h], weights["w_h"][:, 2 * h :]
        d_n = dH * (1 - Z) * (1 - N**2)
        d_z = dH * (H - N) * Z * (1 - Z)
        gradients: Weights = {}
        if "b_hn" in weights:
            d_inner = d_n * R
            d_r = d_n * inner * R * (1 - R)
            d_before = dH * Z + d_inner @ w_n.T
            d_w_n = H.T @ d_inner
            gradients["b_hn"] = d_inner.sum(axis=0)
        else:
            d_inner = d_n @ w_n.T
            d_r = d_inner * H * R * (1 - R)
            d_before = dH * Z + d_inner * R
            d_w_n = inner.T @ d_n
        d_rz = np.concatenate([d_r, d_z], axis=1)
        gradients["w_h"] = np.concatenate([H.T @ d_rz, d_w_n], axis=1)
        return np.concatenate([d_rz, d_n], axis=1), (d_before + d_rz @ w_rz.T,), gradients


class LSTM:
    """I, F, O = σ(X_ifo + H w_h[ifo]);  G = tanh(X_g + H w_h[g]);  C' = F ∘ C + I ∘ G;  H' = O ∘ tanh(C')."""

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """See `Formula`."""
        H, C = state
        i, f, g, o = np.split(X + H @ weights["w_h"], 4, axis=1)
        I, F, G, O = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        C_next = F * C + I * G
        tanh_C = np.tanh(C_next)
        return (O * tanh_C, C_next), (H, C, I, F, G, O, tanh_C)

    def backward(
        self, kept: Any, d_state: LayerState, weights: Weights
    ) -> tuple[FloatArray, LayerState, Weights]:
        """The gradient at C' comes from the next step and through H'."""
        H, C, I, F, G, O, tanh_C = kept
        dH, dC = d_state
        dC = dC + dH * O * (1 - tanh_C**2)
        d = np.concatenate(
            [dC * G * I * (1 - I), dC * C * F * (1 - F), dC * I * (1 - G**2), dH * tanh_C * O * (1 - O)],
            axis=1,
        )
        return d, (d @ weights["w_h"].T, dC * F), {"w_h": H.T @ d}


class MGU:
    """F = σ(X_f + H w_h[f]);  N = tanh(X_n + (F ∘ H) w_h[n]);  H' = (1 - F) ∘ H + F ∘ N."""

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """See `Formula`."""
        (H,), h = state, state[0].shape[1]
        w_f, w_n = weights["w_h"][:, :h], weights["w_h"][:, h:]
        F = sigmoid(X[:, :h] + H @ w_f)
        N = np.tanh(X[:, h:] + (F * H) @ w_n)
        return ((1 - F) * H + F * N,), (H, F, N)

    def backward(
        self, kept: Any, d_state: LayerState, weights: Weights
    ) -> tuple[FloatArray, LayerState, Weights]:
        """F has two gradients: from the new state, and through the candidate."""
        H, F, N = kept
        (dH,), h = d_state, H.shape[1]
        w_f, w_n = weights["w_h"][:, :h], weights["w_h"][:, h:]
        d_n = dH * F * (1 - N**2)
        d_kept = d_n @ w_n.T
        d_f = (dH * (N - H) + d_kept * H) * F * (1 - F)
        d_before = dH * (1 - F) + d_kept * F + d_f @ w_f.T
        d_w_h = np.concatenate([H.T @ d_f, (F * H).T @ d_n], axis=1)
        return np.concatenate([d_f, d_n], axis=1), (d_before,), {"w_h": d_w_h}


#: The library's own formulas by the name of their cell.
FORMULAS: dict[str, Formula] = {
    cells.RNN.name: TanhRNN(),
    cells.RELU_RNN.name: ReluRNN(),
    cells.GRU.name: GRU(),
    cells.LSTM.name: LSTM(),
    cells.MGU.name: MGU(),
}


def find_formula(cell: str) -> Formula:
    """The formula of a cell, the library's own or another package's.

    Raises:
        SpecError: there is none for this backend.
    """
    if cell in FORMULAS:
        return FORMULAS[cell]
    theirs: type[Formula] = cells.find_formula("numpy", cell)
    return theirs()
