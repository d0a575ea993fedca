"""The recurrences of one layer, forward and backward through time, by hand.

All inputs of a layer are projected at once, outside the recurrence (`d2lrnn_numpy.layer`); what is here
starts from ``projected = x @ w_x + b`` of shape (T, B, G·h) and adds what depends on the step before. The
backward pass walks the same steps in reverse (Werbos 1990, "Backpropagation through time") and leaves the
weight gradients out of its loop: it collects the gradients at the pre-activations and multiplies once at
the end. Arrays that are no longer needed are overwritten: the less memory a step touches, the more of it
stays in the cache.

T = time steps, B = batch size, h = hidden units, G = gates. ``σ`` is the logistic function and ``∘`` the
element-wise product. Every class keeps what `backward` needs of its last forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.values import FloatArray
from d2lrnn_numpy.activations import sigmoid
from d2lrnn_numpy.buffers import Buffers
from d2lrnn_numpy.formulas import Formula, LayerState, Weights, find_formula


class Recurrence(Protocol):
    """One layer's recurrence over inputs that are projected already."""

    def forward(
        self, projected: FloatArray, weights: Weights, state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """Outputs (T, B, h), in a buffer, and the final state, a copy. `projected` may be overwritten."""

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, Weights]:
        """From the gradient at the outputs to that at `projected`, and those of w_h (and b_hn).

        It can be called once for every forward pass.
        """


class StepRecurrence:
    """The recurrence of any cell: its formula step by step, forward and backward.

    Args:
        formula: the cell's.
    """

    def __init__(self, formula: Formula) -> None:
        self._formula = formula

    def forward(
        self, projected: FloatArray, weights: Weights, state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        self._weights, self._num_states = weights, len(state)
        self._kept: list[Any] = []
        outputs = []
        for X in projected:
            state, kept = self._formula.step(X, state, weights)
            self._kept.append(kept)
            outputs.append(state[0])
        return np.stack(outputs), tuple(part.copy() for part in state)

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, Weights]:
        """The gradient at a step's state comes from the next step; that at h also from the outputs."""
        d_projected: list[FloatArray] = []
        gradients: Weights = {}
        d_state: LayerState = (np.zeros_like(d_outputs[0]),) * self._num_states
        for kept, d_output in zip(reversed(self._kept), reversed(d_outputs), strict=True):
            d_X, d_state, d_weights = self._formula.backward(
                kept, (d_state[0] + d_output, *d_state[1:]), self._weights
            )
            d_projected.append(d_X)
            for name, value in d_weights.items():
                gradients[name] = gradients[name] + value if name in gradients else value
        return np.stack(d_projected[::-1]), gradients


class TanhRecurrence:
    """H_t = tanh(projected_t + H_{t-1} w_h)."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def forward(
        self, projected: FloatArray, weights: Weights, state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        w_h, (H,) = rows_apart(weights["w_h"], len(projected)), state
        states = _states(self._buffers, "states", H, len(projected))
        for t in range(len(projected)):
            H_next = np.matmul(H, w_h, out=states[t + 1])
            H_next += projected[t]
            H = np.tanh(H_next, out=H_next)
        self._tape = states, w_h
        return states[1:], (H.copy(),)

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, Weights]:
        """With tanh' = 1 - tanh²."""
        states, w_h = self._tape
        d_projected = self._buffers.get("d_projected", d_outputs.shape, states.dtype)
        dH = self._buffers.get("dH", states[0].shape, states.dtype)
        dH[:] = 0
        w_h_transposed = rows_apart(w_h.T, len(d_outputs))
        for t in reversed(range(len(d_outputs))):
            dH += d_outputs[t]
            d_t = np.multiply(states[t + 1], states[t + 1], out=d_projected[t])
            np.subtract(1, d_t, out=d_t)
            d_t *= dH
            np.matmul(d_t, w_h_transposed, out=dH)
        return d_projected, {"w_h": _product_over_time(states[:-1], d_projected)}


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
        self, projected: FloatArray, weights: Weights, state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        num_steps, batch, width = projected.shape
        h, dtype, buffer = width // 3, projected.dtype, self._buffers.get
        w_h, (H,) = weights["w_h"], state
        w_hrz, w_hn = (rows_apart(w, num_steps) for w in (w_h[:, : 2 * h], w_h[:, 2 * h :]))
        states = _states(self._buffers, "states", H, num_steps)
        RZ = buffer("RZ", (num_steps, batch, 2 * h), dtype)
        N = buffer("N", (num_steps, batch, h), dtype)
        # Reset after: H w_hn + b_hn, which R multiplies. Reset before: R ∘ H.
        inner = buffer("inner", (num_steps, batch, h), dtype)
        R_all, Z_all = _gates(RZ, 2)
        for t in range(num_steps):
            R, Z = R_all[t], Z_all[t]
            np.matmul(H, w_hrz, out=RZ[t])
            RZ[t] += projected[t, :, : 2 * h]
            sigmoid(RZ[t], out=RZ[t])
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
            H_next = np.subtract(H, N[t], out=states[t + 1])
            H_next *= Z
            H_next += N[t]
            H = H_next
        self._tape: tuple[Any, ...] = states, RZ, N, inner, w_hrz, w_hn
        return states[1:], (H.copy(),)

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, Weights]:
        """With σ' = σ (1 - σ); the loop keeps dH, the gradient at the state that leaves step t."""
        states, RZ, N, inner, w_hrz, w_hn = self._tape
        num_steps, batch, h = N.shape
        dtype, buffer = N.dtype, self._buffers.get
        d_projected = buffer("d_projected", (num_steps, batch, 3 * h), dtype)
        # Reset after: the gradient at H w_hn + b_hn. Reset before: that at projected_n.
        d_inner = buffer("d_inner", (num_steps, batch, h), dtype)
        d_rz, slope = (buffer(name, (batch, 2 * h), dtype) for name in ("d_rz", "slope"))
        dH, carried, part = (buffer(name, (batch, h), dtype) for name in ("dH", "carried", "part"))
        dH[:] = 0
        w_hrz_transposed, w_hn_transposed = (rows_apart(w.T, num_steps) for w in (w_hrz, w_hn))
        R_all, Z_all = _gates(RZ, 2)
        d_r, d_z = _gates(d_rz, 2)
        for t in reversed(range(num_steps)):
            R, Z, H_previous = R_all[t], Z_all[t], states[t]
            dH += d_outputs[t]
            d_n = d_projected[t, :, 2 * h :]
            np.multiply(dH, Z, out=carried)
            np.subtract(H_previous, N[t], out=part)
            np.multiply(dH, part, out=d_z)
            np.subtract(dH, carried, out=part)
            np.multiply(N[t], N[t], out=d_inner[t])
            np.subtract(1, d_inner[t], out=d_inner[t])
            d_inner[t] *= part
            d_n[:] = d_inner[t]
            if self._reset_after:
                np.multiply(d_n, inner[t], out=d_r)
                d_inner[t] *= R
                np.matmul(d_inner[t], w_hn_transposed, out=dH)
            else:
                np.matmul(d_inner[t], w_hn_transposed, out=dH)
                np.multiply(dH, H_previous, out=d_r)
                dH *= R
            d_rz *= np.subtract(1, RZ[t], out=slope)
            d_rz *= RZ[t]
            d_projected[t, :, : 2 * h] = d_rz
            dH += carried
            dH += np.matmul(d_rz, w_hrz_transposed, out=part)
        d_w_h = np.empty((h, 3 * h), dtype)
        before, d_w_hn = states[:-1], d_w_h[:, 2 * h :]
        _product_over_time(before, d_projected[:, :, : 2 * h], out=d_w_h[:, : 2 * h])
        if self._reset_after:
            _product_over_time(before, d_inner, out=d_w_hn)
            return d_projected, {"w_h": d_w_h, "b_hn": d_inner.sum(axis=(0, 1))}
        _product_over_time(inner, d_inner, out=d_w_hn)
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
        self, projected: FloatArray, weights: Weights, state: LayerState
    ) -> tuple[FloatArray, LayerState]:
        """See `Recurrence.forward`."""
        num_steps, batch, width = projected.shape
        h, dtype, buffer = width // 4, projected.dtype, self._buffers.get
        w_h, (H, C) = rows_apart(weights["w_h"], num_steps), state
        states, cells = (_states(self._buffers, name, x, num_steps) for name, x in (("H", H), ("C", C)))
        tanh_cells = buffer("tanh_cells", (num_steps, batch, h), dtype)
        product, written = buffer("product", (batch, width), dtype), buffer("written", (batch, h), dtype)
        gates = projected
        I, F, G, O = _gates(gates, 4)
        # One call of tanh for all gates, as σ(x) = (1 + tanh(x/2)) / 2.
        scale, shift = np.full(width, 0.5, dtype), np.full(width, 0.5, dtype)
        scale[2 * h : 3 * h], shift[2 * h : 3 * h] = 1, 0
        for t in range(num_steps):
            gate = gates[t]
            gate += np.matmul(H, w_h, out=product)
            gate *= scale
            np.tanh(gate, out=gate)
            gate *= scale
            gate += shift
            C = np.multiply(F[t], C, out=cells[t + 1])
            C += np.multiply(I[t], G[t], out=written)
            np.tanh(C, out=tanh_cells[t])
            H = np.multiply(O[t], tanh_cells[t], out=states[t + 1])
        self._tape: tuple[Any, ...] = states, gates, cells, tanh_cells, w_h
        return states[1:], (H.copy(), C.copy())

    def backward(self, d_outputs: FloatArray) -> tuple[FloatArray, Weights]:
        """The loop keeps dH and dC, the gradients at the state that leaves step t.

        - d_o = dH ∘ tanh(C') ∘ O (1 - O);  dC += dH ∘ O (1 - tanh²(C'))
        - d_i = dC ∘ G ∘ I (1 - I);  d_f = dC ∘ C ∘ F (1 - F);  d_g = dC ∘ I ∘ (1 - G²)
        - dH_{t-1} = [d_i, d_f, d_g, d_o] w_hᵀ;  dC_{t-1} = dC ∘ F
        """
        states, gates, cells, tanh_cells, w_h = self._tape
        num_steps, batch, h = tanh_cells.shape
        buffer = self._buffers.get
        d = buffer("d", (batch, 4 * h), gates.dtype)
        names = "dH", "dC", "earlier dC", "part"
        dH, dC, dC_earlier, part = (buffer(name, (batch, h), gates.dtype) for name in names)
        dH[:] = 0
        dC[:] = 0
        w_h_transposed = rows_apart(w_h.T, num_steps)
        I_all, F_all, G_all, O_all = _gates(gates, 4)
        d_i, d_f, d_g, d_o = _gates(d, 4)
        d_ifg, gates_ifg = (x[..., : 3 * h].reshape(*x.shape[:-1], 3, h) for x in (d, gates))
        for t in reversed(range(num_steps)):
            I, F, G, O = I_all[t], F_all[t], G_all[t], O_all[t]
            dH += d_outputs[t]
            np.multiply(states[t + 1], tanh_cells[t], out=part)
            np.subtract(O, part, out=part)  # O (1 - tanh²(C')), as H' = O ∘ tanh(C')
            part *= dH
            dC += part
            np.subtract(1, gates[t], out=d)
            d *= gates[t]
            np.multiply(G, G, out=part)
            np.subtract(1, part, out=d_g)
            d_i *= G
            d_f *= cells[t]
            d_g *= I
            d_o *= tanh_cells[t]
            np.multiply(dC, F, out=dC_earlier)
            # The values of the gates are no longer needed: their gradients overwrite them.
            np.multiply(d_ifg, dC[:, None], out=gates_ifg[t])
            np.multiply(d_o, dH, out=O)
            np.matmul(gates[t], w_h_transposed, out=dH)
            dC, dC_earlier = dC_earlier, dC
        return gates, {"w_h": _product_over_time(states[:-1], gates)}


#: Recurrences that are faster than `StepRecurrence`, by the name of the cell; the argument is a GRU's
#: `reset_after`.
FAST: dict[str, Callable[[bool], Recurrence]] = {
    cells.RNN.name: lambda reset_after: TanhRecurrence(),
    cells.GRU.name: GRURecurrence,
    cells.LSTM.name: lambda reset_after: LSTMRecurrence(),
}


def find_recurrence(cell: str, *, reset_after: bool) -> Recurrence:
    """The fastest recurrence of a cell.

    Raises:
        SpecError: the cell has no formula for this backend.
    """
    fast = FAST.get(cell)
    return fast(reset_after) if fast else StepRecurrence(find_formula(cell))


def _states(buffers: Buffers, name: str, initial: FloatArray, num_steps: int) -> FloatArray:
    """Room for the states of all steps (T + 1, B, h), `initial` first: the states before them are [:-1]."""
    states = buffers.get(name, (num_steps + 1, *initial.shape), initial.dtype)
    states[0] = initial
    return states


def rows_apart(w: FloatArray, num_products: int) -> FloatArray:
    """A copy of w whose rows have a gap between them; for a single product w itself.

    Addresses that are a power of two apart, as rows of 512 numbers are, share few sets of the cache, which
    makes products with them slower.
    """
    if num_products == 1:
        return w
    rows, columns = w.shape
    apart = np.empty((rows, columns + 16), w.dtype)[:, :columns]
    apart[:] = w
    return apart


def _gates(x: FloatArray, number: int) -> list[FloatArray]:
    """A view for each gate: (…, G·h) -> G views (…, h). `np.split` is slower."""
    h = x.shape[-1] // number
    return [x[..., start : start + h] for start in range(0, number * h, h)]


def _product_over_time(left: FloatArray, right: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n)."""
    left, right = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    product: FloatArray = np.matmul(left.T, right, out=out)
    return product
