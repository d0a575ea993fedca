"""The recurrences of one layer, forward and backward through time, by hand.

All inputs of a layer are projected at once, outside the recurrence (`d2lrnn_numpy.layer`); what is here
starts from ``projected = x @ w_x + b`` of shape (T, B, G·h) and adds what depends on the step before. The
backward
pass walks the same steps in reverse (Werbos 1990, "Backpropagation through time") and leaves the weight
gradients out of its loop: it collects the gradients at the pre-activations and multiplies once at the end.

T = time steps, B = batch size, h = hidden units, G = gates. ``σ`` is the logistic function and ``∘`` the
element-wise product. Every class remembers its last forward pass; `backward` belongs to that.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from d2lrnn.adapter import FloatArray
from d2lrnn_numpy.buffers import Buffers

#: The state of one layer: ``(h,)`` or ``(h, c)``, each (B, h).
LayerState = tuple[FloatArray, ...]


class Recurrence(Protocol):
    """One layer's recurrence over inputs that are projected already."""

    def forward(
        self, projected: FloatArray, weights: dict[str, FloatArray], state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """Outputs (T, B, h), in a buffer, and the final state, a copy."""

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, dict[str, FloatArray]]:
        """From the gradient at the outputs to that at `projected`, and those of w_h (and b_hn)."""


class TanhRecurrence:
    """H_t = tanh(projected_t + H_{t-1} w_h)."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def forward(
        self, projected: FloatArray, weights: dict[str, FloatArray], state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        w_h, (H,) = weights["w_h"], state
        outputs = self._buffers.get("outputs", projected.shape, projected.dtype)
        for t in range(len(projected)):
            np.matmul(H, w_h, out=outputs[t])
            outputs[t] += projected[t]
            H = np.tanh(outputs[t], out=outputs[t])
        self._tape = outputs, state[0], w_h
        return outputs, (H.copy(),)

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Tanh' = 1 - tanh²."""
        outputs, H_0, w_h = self._tape
        d_projected = self._buffers.get("d_projected", outputs.shape, outputs.dtype)
        dH = self._buffers.get("dH", H_0.shape, outputs.dtype)
        dH[:] = 0
        w_h_transposed = np.ascontiguousarray(w_h.T)
        for t in reversed(range(len(outputs))):
            dH += d_outputs[t]
            d_t = np.multiply(outputs[t], outputs[t], out=d_projected[t])
            np.subtract(1, d_t, out=d_t)
            d_t *= dH
            np.matmul(d_t, w_h_transposed, out=dH)
        return d_projected, {"w_h": _product_with_previous(outputs, H_0, d_projected)}


class GRURecurrence:
    """The gated recurrent unit (Cho et al. 2014), in both of its forms.

    With w_h = [w_hr, w_hz, w_hn]:

    - R, Z = σ(projected_rz + H w_h[rz])
    - reset after the product: N = tanh(projected_n + R ∘ (H w_hn + b_hn))
    - reset before it: N = tanh(projected_n + (R ∘ H) w_hn)
    - H' = Z ∘ H + (1 - Z) ∘ N
    """

    def __init__(self, reset_after: bool) -> None:
        self._reset_after = reset_after
        self._buffers = Buffers()

    def forward(
        self, projected: FloatArray, weights: dict[str, FloatArray], state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        num_steps, batch, width = projected.shape
        h, dtype, buffer = width // 3, projected.dtype, self._buffers.get
        w_h, (H,) = weights["w_h"], state
        w_hrz, w_hn = np.ascontiguousarray(w_h[:, : 2 * h]), np.ascontiguousarray(w_h[:, 2 * h :])
        outputs = buffer("outputs", (num_steps, batch, h), dtype)
        RZ = buffer("RZ", (num_steps, batch, 2 * h), dtype)
        N = buffer("N", (num_steps, batch, h), dtype)
        # What the reset gate multiplies (reset after), or what it made of the state (reset before).
        inner = buffer("inner", (num_steps, batch, h), dtype)
        R_all, Z_all = _gates(RZ, 2)
        for t in range(num_steps):
            R, Z = R_all[t], Z_all[t]
            np.matmul(H, w_hrz, out=RZ[t])
            RZ[t] += projected[t, :, : 2 * h]
            _sigmoid(RZ[t])
            if self._reset_after:
                np.matmul(H, w_hn, out=inner[t])
                inner[t] += weights["b_hn"]
                np.multiply(R, inner[t], out=N[t])
            else:
                np.multiply(R, H, out=inner[t])
                np.matmul(inner[t], w_hn, out=N[t])
            N[t] += projected[t, :, 2 * h :]
            np.tanh(N[t], out=N[t])
            # Z ∘ H + (1 - Z) ∘ N = N + Z ∘ (H - N)
            H_next = np.subtract(H, N[t], out=outputs[t])
            H_next *= Z
            H_next += N[t]
            H = H_next
        self._tape: tuple[Any, ...] = outputs, RZ, N, inner, state[0], w_hrz, w_hn
        return outputs, (H.copy(),)

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, dict[str, FloatArray]]:
        """σ' = σ (1 - σ); the loop keeps dH, the gradient at the state that leaves step t."""
        outputs, RZ, N, inner, H_0, w_hrz, w_hn = self._tape
        num_steps, batch, h = outputs.shape
        dtype, buffer = outputs.dtype, self._buffers.get
        d_projected = buffer("d_projected", (num_steps, batch, 3 * h), dtype)
        # The gradient at H w_hn + b_hn, where the reset comes after; else at projected_n.
        d_inner = buffer("d_inner", (num_steps, batch, h), dtype)
        d_rz, dH, carried = (
            buffer("d_rz", (batch, 2 * h), dtype),
            buffer("dH", (batch, h), dtype),
            buffer("carried", (batch, h), dtype),
        )
        dH[:] = 0
        w_hrz_transposed, w_hn_transposed = np.ascontiguousarray(w_hrz.T), np.ascontiguousarray(w_hn.T)
        R_all, Z_all = _gates(RZ, 2)
        d_r, d_z = _gates(d_rz, 2)
        for t in reversed(range(num_steps)):
            R, Z = R_all[t], Z_all[t]
            H_previous = outputs[t - 1] if t else H_0
            dH += d_outputs[t]
            d_n = d_projected[t, :, 2 * h :]
            np.multiply(dH, Z, out=carried)
            np.multiply(dH, H_previous - N[t], out=d_z)
            d_n[:] = (dH - carried) * (1 - N[t] ** 2)
            if self._reset_after:
                np.multiply(d_n, R, out=d_inner[t])
                np.multiply(d_n, inner[t], out=d_r)
                np.matmul(d_inner[t], w_hn_transposed, out=dH)
            else:
                d_inner[t] = d_n
                np.matmul(d_inner[t], w_hn_transposed, out=dH)
                np.multiply(dH, H_previous, out=d_r)
                dH *= R
            d_rz *= RZ[t] * (1 - RZ[t])
            d_projected[t, :, : 2 * h] = d_rz
            dH += carried
            dH += d_rz @ w_hrz_transposed
        d_w_h = np.empty((h, 3 * h), dtype)
        d_w_h[:, : 2 * h] = _product_with_previous(outputs, H_0, d_projected[:, :, : 2 * h])
        if self._reset_after:
            d_w_h[:, 2 * h :] = _product_with_previous(outputs, H_0, d_inner)
            return d_projected, {"w_h": d_w_h, "b_hn": d_inner.sum(axis=(0, 1))}
        d_w_h[:, 2 * h :] = _product_over_time(inner, d_inner)
        return d_projected, {"w_h": d_w_h}


class LSTMRecurrence:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    - I, F, O = σ(projected_ifo + H w_h[ifo]);  G = tanh(projected_g + H w_h[g])
    - C' = F ∘ C + I ∘ G
    - H' = O ∘ tanh(C')
    """

    def __init__(self) -> None:
        self._buffers = Buffers()

    def forward(
        self, projected: FloatArray, weights: dict[str, FloatArray], state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        num_steps, batch, width = projected.shape
        h, dtype, buffer = width // 4, projected.dtype, self._buffers.get
        w_h, (H, C) = weights["w_h"], state
        gates = buffer("gates", projected.shape, dtype)
        outputs = buffer("outputs", (num_steps, batch, h), dtype)
        cells = buffer("cells", (num_steps, batch, h), dtype)
        tanh_cells = buffer("tanh_cells", (num_steps, batch, h), dtype)
        I, F, G, O = _gates(gates, 4)
        for t in range(num_steps):
            np.matmul(H, w_h, out=gates[t])
            gates[t] += projected[t]
            _sigmoid(gates[t, :, : 2 * h])
            np.tanh(G[t], out=G[t])
            _sigmoid(O[t])
            C = np.multiply(F[t], C, out=cells[t])
            C += I[t] * G[t]
            np.tanh(C, out=tanh_cells[t])
            H = np.multiply(O[t], tanh_cells[t], out=outputs[t])
        self._tape: tuple[Any, ...] = outputs, gates, cells, tanh_cells, state, w_h
        return outputs, (H.copy(), C.copy())

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, dict[str, FloatArray]]:
        """The loop keeps dH and dC, the gradients at the state that leaves step t."""
        outputs, gates, cells, tanh_cells, (H_0, C_0), w_h = self._tape
        num_steps, batch, h = outputs.shape
        dtype, buffer = outputs.dtype, self._buffers.get
        d_projected = buffer("d_projected", gates.shape, dtype)
        dH, dC = buffer("dH", (batch, h), dtype), buffer("dC", (batch, h), dtype)
        dH[:] = 0
        dC[:] = 0
        w_h_transposed = np.ascontiguousarray(w_h.T)
        by_gate = (_gates(x, 4) for x in (gates, d_projected))
        (I_all, F_all, G_all, O_all), (d_i, d_f, d_g, d_o) = by_gate
        for t in reversed(range(num_steps)):
            I, F, G, O = I_all[t], F_all[t], G_all[t], O_all[t]
            dH += d_outputs[t]
            dC += dH * O * (1 - tanh_cells[t] ** 2)
            np.multiply(dH * tanh_cells[t], O * (1 - O), out=d_o[t])
            np.multiply(dC * G, I * (1 - I), out=d_i[t])
            np.multiply(dC * (cells[t - 1] if t else C_0), F * (1 - F), out=d_f[t])
            np.multiply(dC * I, 1 - G**2, out=d_g[t])
            dC *= F
            np.matmul(d_projected[t], w_h_transposed, out=dH)
        return d_projected, {"w_h": _product_with_previous(outputs, H_0, d_projected)}


def _gates(x: FloatArray, number: int) -> list[FloatArray]:
    """What belongs to each gate: (…, G·h) -> G views (…, h). `np.split` takes several times as long."""
    h = x.shape[-1] // number
    return [x[..., start : start + h] for start in range(0, number * h, h)]


def _sigmoid(x: FloatArray) -> FloatArray:
    """σ(x) = (1 + tanh(x/2)) / 2, in place: exact at both ends, where exp would overflow."""
    x *= 0.5
    np.tanh(x, out=x)
    x *= 0.5
    x += 0.5
    return x


def _product_over_time(left: FloatArray, right: FloatArray) -> FloatArray:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n)."""
    product: FloatArray = left.reshape(-1, left.shape[-1]).T @ right.reshape(-1, right.shape[-1])
    return product


def _product_with_previous(outputs: FloatArray, H_0: FloatArray, right: FloatArray) -> FloatArray:
    """Σ_t H_{t-1}ᵀ right_t, where H_1, H_2, … are the outputs."""
    product = _product_over_time(outputs[:-1], right[1:])
    product += H_0.T @ right[0]
    return product
