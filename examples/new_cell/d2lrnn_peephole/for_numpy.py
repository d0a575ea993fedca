"""One step of a peephole LSTM in NumPy, and its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

import numpy as np
from d2lrnn_numpy.activations import sigmoid
from d2lrnn_numpy.formulas import LayerState, Weights

from d2lrnn.contract.values import FloatArray


class PeepholeLSTM:
    """See `d2lrnn_numpy.formulas.Formula` for the methods."""

    def step(self, X: FloatArray, state: LayerState, weights: Weights) -> tuple[LayerState, Any]:
        """The next ``(H, C)`` from projected inputs X (B, 4·h) and ``(H, C)``, each (B, h)."""
        H, C = state
        i, f, g, o = np.split(X + H @ weights["w_h"], 4, axis=1)
        I, F, G = sigmoid(i + weights["p_i"] * C), sigmoid(f + weights["p_f"] * C), np.tanh(g)
        C_next = F * C + I * G
        O, tanh_C = sigmoid(o + weights["p_o"] * C_next), np.tanh(C_next)
        return (O * tanh_C, C_next), (H, C, I, F, G, O, C_next, tanh_C)

    def backward(self, kept: Any, d_state: LayerState, weights: Weights) -> tuple[Any, LayerState, Weights]:
        """The gradient at C' comes from the next step, through H', and through the output gate."""
        H, C, I, F, G, O, C_next, tanh_C = kept
        dH, dC = d_state
        d_o = dH * tanh_C * O * (1 - O)
        dC = dC + dH * O * (1 - tanh_C**2) + d_o * weights["p_o"]
        d_i, d_f, d_g = dC * G * I * (1 - I), dC * C * F * (1 - F), dC * I * (1 - G**2)
        d = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
        dC_before = dC * F + d_i * weights["p_i"] + d_f * weights["p_f"]
        peepholes = {"p_i": (d_i * C).sum(0), "p_f": (d_f * C).sum(0), "p_o": (d_o * C_next).sum(0)}
        return d, (d @ weights["w_h"].T, dC_before), {"w_h": H.T @ d, **peepholes}
