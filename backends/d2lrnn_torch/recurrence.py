"""The recurrences of one layer with a backward pass through time by hand.

All inputs of a layer are projected at once, outside the recurrence (`project`); what is here starts from
``projected = x @ w_x + b`` of shape (T, B, G·h) and adds what depends on the step before. Autograd's own
graph of such a loop accumulates the weight gradient step by step. A `torch.autograd.Function` here walks the
steps in reverse once (Werbos 1990, "Backpropagation through time"), with everything that does not depend on
the step after computed for all steps beforehand, and makes the weight gradient one product after the loop.

`unroll` is the plain version: the formulas are the `step` methods in `d2lrnn_torch.scratch`, and
tests/backends/test_torch_backend.py holds each Function to them.

T = time steps, B = batch size, h = hidden units, G = gates; ``σ`` is the logistic function and ``∘`` the
element-wise product. Gate order: GRU r, z, n; LSTM i, f, g, o. The Functions cannot be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding


def project(inputs: Tensor, w_x: Tensor, b: Tensor) -> Tensor:
    """``inputs @ w_x + b`` for all steps at once.

    Args:
        inputs: real vectors (T, B, in), or token indices (T, B): a one-hot vector times w_x is a row of it.
        w_x: (in, G·h).
        b: (G·h,).

    Returns:
        (T, B, G·h).
    """
    if inputs.is_floating_point():
        return torch.addmm(b, inputs.flatten(0, 1), w_x).unflatten(0, inputs.shape[:2])
    if inputs.numel() < len(w_x):
        return embedding(inputs, w_x) + b
    # Fewer rows than tokens: add the bias to the rows, forward and backward.
    return embedding(inputs, (w_x + b).contiguous())


def unroll(step: Callable[[Tensor, Any], Any], projected: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The plain recurrence: ``state = step(projected[t], state)`` for every t.

    Args:
        step: from the projected inputs (B, G·h) and a state to the next state.
        projected: (T, B, G·h).
        state: H (B, h), or (H, C).

    Returns:
        H of all steps (T, B, h), and the final state.
    """
    outputs = []
    for X in projected.unbind():
        state = step(X, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs), state


class TanhRecurrence(Function):
    """H_t = tanh(projected_t + H_{t-1} w_h).

    Example:
        >>> outputs = TanhRecurrence.apply(projected, H_0, w_h)  # (T, B, h)
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, H_0: Tensor, w_h: Tensor) -> Tensor:
        """See the class; `H_0` (B, h), `w_h` (h, h)."""
        states = _states(H_0, len(projected))
        H, *later = states.unbind()
        for X, H_next in zip(projected.unbind(), later, strict=True):
            H = torch.addmm(X, H, w_h, out=H_next).tanh_()
        ctx.save_for_backward(states, w_h)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With tanh' = 1 - tanh²; the loop keeps dH, the gradient at the state that leaves step t."""
        states, w_h = ctx.saved_tensors
        slopes = _one_minus_square(states[1:])
        d_projected = torch.empty_like(slopes)
        w_h_transposed = w_h.t()
        dH, *earlier = _incoming(d_outputs)
        for slope, d_outer, d in zip(
            reversed(slopes.unbind()), earlier, reversed(d_projected.unbind()), strict=True
        ):
            torch.mul(dH, slope, out=d)
            dH = torch.addmm(d_outer, d, w_h_transposed)
        return d_projected, dH, _sum_over_time(states[:-1], d_projected)


class GRURecurrence(Function):
    """The gated recurrent unit (Cho et al. 2014) that resets after the matrix product, the form of cuDNN.

    - R, Z = σ(projected_rz + H w_h[rz])
    - N = tanh(projected_n + R ∘ (H w_h[n] + b_hn))
    - H' = Z ∘ H + (1 - Z) ∘ N

    Example:
        >>> outputs = GRURecurrence.apply(projected, H_0, w_h, b_hn)  # (T, B, h)
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, H_0: Tensor, w_h: Tensor, b_hn: Tensor) -> Tensor:
        """See the class; `H_0` (B, h), `w_h` (h, 3·h), `b_hn` (h,)."""
        num_steps, (batch, h) = len(projected), H_0.shape
        states = _states(H_0, num_steps)
        RZ = projected.new_empty(num_steps, batch, 2 * h)
        inner = projected.new_empty(num_steps, batch, h)  # what the reset gate multiplies
        N = torch.empty_like(inner)
        w_hrz, w_hn = w_h[:, : 2 * h], w_h[:, 2 * h :]
        X_rz, X_n = projected[..., : 2 * h].unbind(), projected[..., 2 * h :].unbind()
        R, Z = RZ[..., :h].unbind(), RZ[..., h:].unbind()
        steps, RZ_t, inner_t, N_t = states.unbind(), RZ.unbind(), inner.unbind(), N.unbind()
        for t in range(num_steps):
            torch.addmm(X_rz[t], steps[t], w_hrz, out=RZ_t[t]).sigmoid_()
            torch.addmm(b_hn, steps[t], w_hn, out=inner_t[t])
            torch.addcmul(X_n[t], R[t], inner_t[t], out=N_t[t]).tanh_()
            torch.lerp(N_t[t], steps[t], Z[t], out=steps[t + 1])
        ctx.save_for_backward(states, RZ, inner, N, w_h)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """With dH the gradient at H', all that the product H w_h receives is dH times a known factor.

        - d_z = dH ∘ (H - N) ∘ Z (1 - Z)
        - d_n = dH ∘ (1 - Z) ∘ (1 - N²)
        - d_r = d_n ∘ inner ∘ R (1 - R);  d_inner = d_n ∘ R
        - dH_{t-1} = dH ∘ Z + [d_r, d_z, d_inner] w_hᵀ
        """
        states, RZ, inner, N, w_h = ctx.saved_tensors
        num_steps, batch, h = N.shape
        R, Z = RZ.chunk(2, dim=-1)
        to_n = _one_minus_square(N).mul_(1 - Z)
        factors = N.new_empty(num_steps, batch, 3, h)
        slopes = RZ * (1 - RZ)
        torch.mul(slopes[..., :h], inner, out=factors[:, :, 0]).mul_(to_n)
        torch.mul(slopes[..., h:], states[:-1] - N, out=factors[:, :, 1])
        torch.mul(to_n, R, out=factors[:, :, 2])
        d_hidden = torch.empty_like(factors)
        dHs = torch.empty_like(N)
        factors_t, d_t, Z_t, dH_t = factors.unbind(), d_hidden.unbind(), Z.unbind(), dHs.unbind()
        w_h_transposed = w_h.t()
        dH, *earlier = _incoming(d_outputs)
        for t, d_outer in zip(reversed(range(num_steps)), earlier, strict=True):
            dH_t[t].copy_(dH)
            torch.mul(dH.unsqueeze(1), factors_t[t], out=d_t[t])
            dH = torch.addcmul(d_outer, dH, Z_t[t]).addmm_(d_t[t].flatten(1), w_h_transposed)
        d_w_h = _sum_over_time(states[:-1], d_hidden.flatten(2))
        d_b_hn = d_hidden[:, :, 2].sum(dim=(0, 1))
        d_projected = d_hidden  # now that d_inner is summed, d_n takes its place
        torch.mul(dHs, to_n, out=d_projected[:, :, 2])
        return d_projected.flatten(2), dH, d_w_h, d_b_hn


class GRUBeforeRecurrence(Function):
    """The gated recurrent unit that resets before the matrix product, the book's.

    - R, Z = σ(projected_rz + H w_h[rz])
    - N = tanh(projected_n + (R ∘ H) w_h[n])
    - H' = Z ∘ H + (1 - Z) ∘ N

    Example:
        >>> outputs = GRUBeforeRecurrence.apply(projected, H_0, w_h)  # (T, B, h)
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, H_0: Tensor, w_h: Tensor) -> Tensor:
        """See the class; `H_0` (B, h), `w_h` (h, 3·h)."""
        num_steps, (batch, h) = len(projected), H_0.shape
        states = _states(H_0, num_steps)
        RZ = projected.new_empty(num_steps, batch, 2 * h)
        kept = projected.new_empty(num_steps, batch, h)  # what the reset gate leaves of the state
        N = torch.empty_like(kept)
        w_hrz, w_hn = w_h[:, : 2 * h], w_h[:, 2 * h :]
        X_rz, X_n = projected[..., : 2 * h].unbind(), projected[..., 2 * h :].unbind()
        R, Z = RZ[..., :h].unbind(), RZ[..., h:].unbind()
        steps, RZ_t, kept_t, N_t = states.unbind(), RZ.unbind(), kept.unbind(), N.unbind()
        for t in range(num_steps):
            torch.addmm(X_rz[t], steps[t], w_hrz, out=RZ_t[t]).sigmoid_()
            torch.mul(R[t], steps[t], out=kept_t[t])
            torch.addmm(X_n[t], kept_t[t], w_hn, out=N_t[t]).tanh_()
            torch.lerp(N_t[t], steps[t], Z[t], out=steps[t + 1])
        ctx.save_for_backward(states, RZ, kept, N, w_h)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With dH the gradient at H'.

        - d_z = dH ∘ (H - N) ∘ Z (1 - Z)
        - d_n = dH ∘ (1 - Z) ∘ (1 - N²);  d_kept = d_n w_h[n]ᵀ
        - d_r = d_kept ∘ H ∘ R (1 - R)
        - dH_{t-1} = dH ∘ Z + d_kept ∘ R + [d_r, d_z] w_h[rz]ᵀ
        """
        states, RZ, kept, N, w_h = ctx.saved_tensors
        num_steps, batch, h = N.shape
        R, Z = (part.unbind() for part in RZ.chunk(2, dim=-1))
        slopes = RZ * (1 - RZ)
        to_r = slopes[..., :h].mul_(states[:-1]).unbind()
        to_z = slopes[..., h:].mul_(states[:-1] - N).unbind()
        to_n = _one_minus_square(N).mul_(1 - RZ[..., h:]).unbind()
        d_projected = N.new_empty(num_steps, batch, 3 * h)
        d_rz, d_n = d_projected[..., : 2 * h].unbind(), d_projected[..., 2 * h :].unbind()
        d_r, d_z = d_projected[..., :h].unbind(), d_projected[..., h : 2 * h].unbind()
        w_hrz_transposed, w_hn_transposed = w_h[:, : 2 * h].t(), w_h[:, 2 * h :].t()
        dH, *earlier = _incoming(d_outputs)
        for t, d_outer in zip(reversed(range(num_steps)), earlier, strict=True):
            torch.mul(dH, to_z[t], out=d_z[t])
            torch.mul(dH, to_n[t], out=d_n[t])
            d_kept = d_n[t] @ w_hn_transposed
            torch.mul(d_kept, to_r[t], out=d_r[t])
            dH = torch.addcmul(d_outer, dH, Z[t]).addcmul_(d_kept, R[t]).addmm_(d_rz[t], w_hrz_transposed)
        d_w_h = torch.cat(
            [
                _sum_over_time(states[:-1], d_projected[..., : 2 * h]),
                _sum_over_time(kept, d_projected[..., 2 * h :]),
            ],
            dim=1,
        )
        return d_projected, dH, d_w_h


class LSTMRecurrence(Function):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    - I, F, O = σ(projected_ifo + H w_h[ifo]);  G = tanh(projected_g + H w_h[g])
    - C' = F ∘ C + I ∘ G
    - H' = O ∘ tanh(C')

    Example:
        >>> outputs, C = LSTMRecurrence.apply(projected, H_0, C_0, w_h)  # (T, B, h), (B, h)
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, H_0: Tensor, C_0: Tensor, w_h: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See the class; `H_0` and `C_0` (B, h), `w_h` (h, 4·h)."""
        num_steps, (batch, h) = len(projected), H_0.shape
        states, cells = _states(H_0, num_steps), _states(C_0, num_steps)
        gates = torch.empty_like(projected)
        tanh_cells = projected.new_empty(num_steps, batch, h)
        I, F, G, O = (part.unbind() for part in gates.chunk(4, dim=-1))
        IF = gates[..., : 2 * h].unbind()
        steps, cells_t, gates_t, tanh_t = (x.unbind() for x in (states, cells, gates, tanh_cells))
        for t, X in enumerate(projected.unbind()):
            torch.addmm(X, steps[t], w_h, out=gates_t[t])
            IF[t].sigmoid_()
            G[t].tanh_()
            O[t].sigmoid_()
            torch.mul(F[t], cells_t[t], out=cells_t[t + 1]).addcmul_(I[t], G[t])
            torch.tanh(cells_t[t + 1], out=tanh_t[t])
            torch.mul(O[t], tanh_t[t], out=steps[t + 1])
        ctx.save_for_backward(states, cells, gates, tanh_cells, w_h)
        ctx.set_materialize_grads(False)
        return states[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_outputs: Tensor | None, d_C: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """With dH and dC the gradients at H' and at C' that come from later steps.

        - d_o = dH ∘ tanh(C') ∘ O (1 - O);  dC += dH ∘ O ∘ (1 - tanh²(C'))
        - d_i = dC ∘ G ∘ I (1 - I);  d_f = dC ∘ C ∘ F (1 - F);  d_g = dC ∘ I ∘ (1 - G²)
        - dH_{t-1} = [d_i, d_f, d_g, d_o] w_hᵀ;  dC_{t-1} = dC ∘ F
        """
        states, cells, gates, tanh_cells, w_h = ctx.saved_tensors
        num_steps, batch, h = tanh_cells.shape
        if d_outputs is None:
            d_outputs = torch.zeros_like(tanh_cells)
        I, F, G, O = gates.chunk(4, dim=-1)
        factors = gates.new_empty(num_steps, batch, 4, h)
        torch.mul(I, 1 - I, out=factors[:, :, 0]).mul_(G)
        torch.mul(F, 1 - F, out=factors[:, :, 1]).mul_(cells[:-1])
        torch.mul(I, _one_minus_square(G), out=factors[:, :, 2])
        torch.mul(O, 1 - O, out=factors[:, :, 3]).mul_(tanh_cells)
        to_cell = _one_minus_square(tanh_cells).mul_(O).unbind()
        to_ifg, to_o, F_t = factors[:, :, :3].unbind(), factors[:, :, 3].unbind(), F.unbind()
        d_projected = torch.empty_like(gates)
        d_t = d_projected.unbind()
        d_blocks = d_projected.unflatten(2, (4, h))
        d_ifg, d_o = d_blocks[:, :, :3].unbind(), d_blocks[:, :, 3].unbind()
        w_h_transposed = w_h.t()
        dC = torch.zeros_like(cells[0]) if d_C is None else d_C.clone()
        dH, *earlier = _incoming(d_outputs)
        for t, d_outer in zip(reversed(range(num_steps)), earlier, strict=True):
            dC.addcmul_(dH, to_cell[t])
            torch.mul(dC.unsqueeze(1), to_ifg[t], out=d_ifg[t])
            torch.mul(dH, to_o[t], out=d_o[t])
            dC *= F_t[t]
            dH = torch.addmm(d_outer, d_t[t], w_h_transposed)
        return d_projected, dH, dC, _sum_over_time(states[:-1], d_projected)


def _states(initial: Tensor, num_steps: int) -> Tensor:
    """Room for the states of all steps, the initial one first: states before them are ``[:-1]``, no copy."""
    states = initial.new_empty(num_steps + 1, *initial.shape)
    states[0] = initial
    return states


def _incoming(d_outputs: Tensor) -> list[Tensor]:
    """The outer gradients from the last step to the first, and zeros for what comes before the first."""
    return [*reversed(d_outputs.unbind()), torch.zeros_like(d_outputs[0])]


def _one_minus_square(x: Tensor) -> Tensor:
    """1 - x²: what tanh' is at its value x."""
    return (x * x).neg_().add_(1)


def _sum_over_time(left: Tensor, right: Tensor) -> Tensor:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n)."""
    return left.flatten(0, 1).t() @ right.flatten(0, 1)
