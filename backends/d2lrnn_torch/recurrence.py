"""The recurrences of one layer with a backward pass through time by hand.

All inputs of a layer are projected at once, outside the recurrence (`d2lrnn_torch.layer.project`); what is
here starts from ``projected = x @ w_x + b`` of shape (T, B, G·h) and adds what depends on the step before.
Autograd's own graph of such a loop accumulates the weight gradient step by step. A `torch.autograd.Function`
here walks the steps in reverse once (Werbos 1990, "Backpropagation through time") and computes the weight
gradient after the loop, as one product (`d2lrnn_torch.products`). Every gradient at a pre-activation is dH
(or dC) times a factor that does not depend on later steps; the factor is multiplied in place, as fresh memory
of this size costs page faults.

`d2lrnn_torch.layer.unroll` is the plain version: the formulas are the `step` methods in
`d2lrnn_torch.scratch`, and tests/backends/test_torch_backend.py compares each Function with them.

T = time steps, B = batch size, h = hidden units, G = gates; ``σ`` is the logistic function and ``∘`` the
element-wise product. Gate order: GRU r, z, n; LSTM i, f, g, o. The Functions cannot be differentiated twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from d2lrnn_torch.activations import tanh, tanh_
from d2lrnn_torch.products import plus, times, weight_gradient

#: What autograd calls for `torch.tanh`: of a gradient and the value of tanh.
_TANH_BACKWARD = torch.ops.aten.tanh_backward.grad_input


# benchmarks/tricks: torch, backward pass by hand
class TanhRecurrence(Function):
    """H_t = tanh(projected_t + H_{t-1} w_h).

    Example:
        >>> projected, H_0, w_h = map(torch.ones, [(5, 2, 3), (2, 3), (3, 3)])
        >>> TanhRecurrence.apply(projected, H_0, w_h).shape  # (T, B, h)
        torch.Size([5, 2, 3])
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, H_0: Tensor, w_h: Tensor) -> Tensor:
        """See the class; `H_0` (B, h), `w_h` (h, h)."""
        states = _states(H_0, len(projected))
        H, *later = states.unbind()
        for X, H_next in zip(projected.unbind(), later, strict=True):
            H = tanh_(plus(X, H, w_h, out=H_next))
        ctx.save_for_backward(states, w_h)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With tanh' = 1 - tanh²; the loop keeps dH, the gradient at the state that leaves step t."""
        states, w_h = ctx.saved_tensors
        d_projected = torch.empty_like(d_outputs)
        w_h_transposed = w_h.t()
        dH, *earlier = _incoming(d_outputs)
        backwards = (reversed(x.unbind()) for x in (states[1:], d_projected))
        for H, d, d_outer in zip(*backwards, earlier, strict=True):
            _TANH_BACKWARD(dH, H, grad_input=d)  # d = dH ∘ (1 - H ∘ H)
            dH = plus(d_outer, d, w_h_transposed)
        return d_projected, dH, _sum_over_time(states[:-1], d_projected)


# benchmarks/tricks: torch, backward pass by hand
class GRURecurrence(Function):
    """The gated recurrent unit (Cho et al. 2014) that resets after the matrix product, the form of cuDNN.

    - R, Z = σ(projected_rz + H w_h[rz])
    - N = tanh(projected_n + R ∘ (H w_h[n] + b_hn))
    - H' = Z ∘ H + (1 - Z) ∘ N

    Example:
        >>> projected, H_0, w_h, b_hn = map(torch.ones, [(5, 2, 9), (2, 3), (3, 9), (3,)])
        >>> GRURecurrence.apply(projected, H_0, w_h, b_hn).shape  # (T, B, h)
        torch.Size([5, 2, 3])
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, H_0: Tensor, w_h: Tensor, b_hn: Tensor) -> Tensor:
        """See the class; `H_0` (B, h), `w_h` (h, 3·h), `b_hn` (h,)."""
        num_steps, (batch, h) = len(projected), H_0.shape
        states = _states(H_0, num_steps)
        RZ = projected.new_empty(num_steps, batch, 2 * h)
        inner = projected.new_empty(num_steps, batch, h)  # what the reset gate multiplies
        N = torch.empty_like(inner)
        X_rz, X_n = projected[..., : 2 * h].unbind(), projected[..., 2 * h :].unbind()
        R, Z = RZ[..., :h].unbind(), RZ[..., h:].unbind()
        steps, RZ_t, inner_t, N_t = states.unbind(), RZ.unbind(), inner.unbind(), N.unbind()
        for t in range(num_steps):
            product = times(steps[t], w_h)
            torch.add(X_rz[t], product[:, : 2 * h], out=RZ_t[t]).sigmoid_()
            torch.add(b_hn, product[:, 2 * h :], out=inner_t[t])
            tanh_(torch.addcmul(X_n[t], R[t], inner_t[t], out=N_t[t]))
            torch.lerp(N_t[t], steps[t], Z[t], out=steps[t + 1])
        ctx.save_for_backward(states, RZ, inner, N, w_h)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """With dH the gradient at H', the gradient at the product H w_h is dH times a known factor.

        - d_z = dH ∘ (H - N) ∘ Z (1 - Z)
        - d_n = dH ∘ (1 - Z) ∘ (1 - N²)
        - d_r = d_n ∘ inner ∘ R (1 - R);  d_inner = d_n ∘ R
        - dH_{t-1} = dH ∘ Z + [d_r, d_z, d_inner] w_hᵀ
        """
        states, RZ, inner, N, w_h = ctx.saved_tensors
        num_steps, batch, h = N.shape
        R, Z = RZ.chunk(2, dim=-1)
        d_n = _one_minus_square(N)
        d_n.addcmul_(d_n, Z, value=-1)
        d_hidden = N.new_empty(num_steps, batch, 3 * h)
        d_r, d_z, d_inner = d_hidden.chunk(3, dim=-1)
        _slope(RZ, out=d_hidden[..., : 2 * h])
        d_r.mul_(inner).mul_(d_n)
        d_z.mul_(states[:-1] - N)
        torch.mul(d_n, R, out=d_inner)
        d_t, d_blocks, dn_t, Z_t = (x.unbind() for x in (d_hidden, d_hidden.unflatten(2, (3, h)), d_n, Z))
        w_h_transposed = w_h.t()
        dH, *earlier = _incoming(d_outputs)
        for t, d_outer in zip(reversed(range(num_steps)), earlier, strict=True):
            d_blocks[t].mul_(dH.unsqueeze(1))
            dn_t[t].mul_(dH)
            dH = plus(torch.addcmul(d_outer, dH, Z_t[t]), d_t[t], w_h_transposed)
        d_w_h, d_b_hn = _sum_over_time(states[:-1], d_hidden), d_inner.sum(dim=(0, 1))
        d_inner.copy_(d_n)  # its sums are computed: now the gradient at `projected`
        return d_hidden, dH, d_w_h, d_b_hn


# benchmarks/tricks: torch, backward pass by hand
class GRUBeforeRecurrence(Function):
    """The gated recurrent unit that resets before the matrix product, the book's.

    - R, Z = σ(projected_rz + H w_rz)
    - N = tanh(projected_n + (R ∘ H) w_n)
    - H' = Z ∘ H + (1 - Z) ∘ N

    Example:
        >>> projected_rz, projected_n, H_0 = map(torch.ones, [(5, 2, 6), (5, 2, 3), (2, 3)])
        >>> w_rz, w_n = map(torch.ones, [(3, 6), (3, 3)])
        >>> GRUBeforeRecurrence.apply(projected_rz, projected_n, H_0, w_rz, w_n).shape  # (T, B, h)
        torch.Size([5, 2, 3])
    """

    @staticmethod
    def forward(
        ctx: Any, projected_rz: Tensor, projected_n: Tensor, H_0: Tensor, w_rz: Tensor, w_n: Tensor
    ) -> Tensor:
        """See the class; (T, B, 2·h), (T, B, h), `H_0` (B, h), `w_rz` (h, 2·h), `w_n` (h, h)."""
        num_steps, h = len(projected_n), H_0.shape[1]
        states = _states(H_0, num_steps)
        RZ, N = torch.empty_like(projected_rz), torch.empty_like(projected_n)
        kept = torch.empty_like(projected_n)  # what the reset gate leaves of the state
        w_rz, w_n = w_rz.contiguous(), w_n.contiguous()
        R, Z = RZ[..., :h].unbind(), RZ[..., h:].unbind()
        steps, kept_t, RZ_t, N_t = states.unbind(), kept.unbind(), RZ.unbind(), N.unbind()
        for t, (X_rz, X_n) in enumerate(zip(projected_rz.unbind(), projected_n.unbind(), strict=True)):
            plus(X_rz, steps[t], w_rz, out=RZ_t[t]).sigmoid_()
            torch.mul(R[t], steps[t], out=kept_t[t])
            tanh_(plus(X_n, kept_t[t], w_n, out=N_t[t]))
            torch.lerp(N_t[t], steps[t], Z[t], out=steps[t + 1])
        ctx.save_for_backward(states, RZ, kept, N, w_rz, w_n)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """With dH the gradient at H'.

        - d_z = dH ∘ (H - N) ∘ Z (1 - Z)
        - d_n = dH ∘ (1 - Z) ∘ (1 - N²);  d_kept = d_n w_nᵀ
        - d_r = d_kept ∘ H ∘ R (1 - R)
        - dH_{t-1} = dH ∘ Z + d_kept ∘ R + [d_r, d_z] w_rzᵀ
        """
        states, RZ, kept, N, w_rz, w_n = ctx.saved_tensors
        R, Z = RZ.chunk(2, dim=-1)
        d_rz = _slope(RZ, out=torch.empty_like(RZ))
        d_r, d_z = d_rz.chunk(2, dim=-1)
        d_r.mul_(states[:-1])
        d_z.mul_(states[:-1] - N)
        d_n = _one_minus_square(N)
        d_n.addcmul_(d_n, Z, value=-1)
        R_t, Z_t, drz_t, dr_t, dz_t, dn_t = (x.unbind() for x in (R, Z, d_rz, d_r, d_z, d_n))
        w_rz_transposed, w_n_transposed = w_rz.t(), w_n.t()
        dH, *earlier = _incoming(d_outputs)
        for t, d_outer in zip(reversed(range(len(N))), earlier, strict=True):
            dz_t[t].mul_(dH)
            d_kept = times(dn_t[t].mul_(dH), w_n_transposed)
            dr_t[t].mul_(d_kept)
            dH = torch.addcmul(d_outer, dH, Z_t[t]).addcmul_(d_kept, R_t[t])
            dH = plus(dH, drz_t[t], w_rz_transposed)
        d_weights = _sum_over_time(states[:-1], d_rz), _sum_over_time(kept, d_n)
        return d_rz, d_n, dH, *d_weights


# benchmarks/tricks: torch, backward pass by hand
class LSTMRecurrence(Function):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    - I, F, O = σ(projected_ifo + H w_h[ifo]);  G = tanh(projected_g + H w_h[g])
    - C' = F ∘ C + I ∘ G
    - H' = O ∘ tanh(C')

    Example:
        >>> projected, H_0, C_0, w_h = map(torch.ones, [(5, 2, 12), (2, 3), (2, 3), (3, 12)])
        >>> outputs, C = LSTMRecurrence.apply(projected, H_0, C_0, w_h)
        >>> outputs.shape, C.shape
        (torch.Size([5, 2, 3]), torch.Size([2, 3]))
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, H_0: Tensor, C_0: Tensor, w_h: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; `H_0` and `C_0` (B, h), `w_h` (h, 4·h)."""
        num_steps, (batch, h) = len(projected), H_0.shape
        states, cells = _states(H_0, num_steps), _states(C_0, num_steps)
        gates = torch.empty_like(projected)
        tanh_cells = projected.new_empty(num_steps, batch, h)
        I, F, G, O = (part.unbind() for part in gates.chunk(4, dim=-1))
        IF = gates[..., : 2 * h].unbind()
        steps, cells_t, gates_t, tanh_t = (x.unbind() for x in (states, cells, gates, tanh_cells))
        for t, X in enumerate(projected.unbind()):
            plus(X, steps[t], w_h, out=gates_t[t])
            IF[t].sigmoid_()
            tanh_(G[t])
            O[t].sigmoid_()
            torch.mul(F[t], cells_t[t], out=cells_t[t + 1]).addcmul_(I[t], G[t])
            tanh(cells_t[t + 1], out=tanh_t[t])
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
        num_steps, _, h = tanh_cells.shape
        if d_outputs is None:
            d_outputs = torch.zeros_like(tanh_cells)
        d_projected = torch.empty_like(gates)
        I, F, G, O = (part.unbind() for part in gates.chunk(4, dim=-1))
        d_i, d_f, d_g, d_o = (part.unbind() for part in d_projected.chunk(4, dim=-1))
        d_ifg = d_projected[..., : 3 * h].unflatten(2, (3, h)).unbind()
        gates_t, d_t, cells_t, tanh_t = (x.unbind() for x in (gates, d_projected, cells, tanh_cells))
        w_h_transposed = w_h.t()
        dC = torch.zeros_like(cells[0]) if d_C is None else d_C.clone()
        to_cell = torch.empty_like(dC)
        dH, *earlier = _incoming(d_outputs)
        # Step by step, while the gates are in the cache: slower for all steps at once.
        for t, d_outer in zip(reversed(range(num_steps)), earlier, strict=True):
            dC.addcmul_(dH, _one_minus_square(tanh_t[t], out=to_cell).mul_(O[t]))
            _slope(gates_t[t], out=d_t[t])
            _one_minus_square(G[t], out=d_g[t]).mul_(I[t])
            d_i[t].mul_(G[t])
            d_f[t].mul_(cells_t[t])
            d_o[t].mul_(tanh_t[t]).mul_(dH)
            d_ifg[t].mul_(dC.unsqueeze(1))
            dC *= F[t]
            dH = plus(d_outer, d_t[t], w_h_transposed)
        return d_projected, dH, dC, _sum_over_time(states[:-1], d_projected)


def _states(initial: Tensor, num_steps: int) -> Tensor:
    """Memory for the states of all steps, the initial one first: those before each step are ``[:-1]``."""
    states = initial.new_empty(num_steps + 1, *initial.shape)
    states[0] = initial
    return states


def _incoming(d_outputs: Tensor) -> list[Tensor]:
    """The outer gradients from the last step to the first, and zeros for what comes before the first."""
    return [*reversed(d_outputs.unbind()), torch.zeros_like(d_outputs[0])]


def _one_minus_square(x: Tensor, out: Tensor | None = None) -> Tensor:
    """1 - x²: the slope of tanh where its value is x, into `out` where it is given."""
    return torch.addcmul(x.new_ones(()), x, x, value=-1, out=out)


def _slope(x: Tensor, out: Tensor) -> Tensor:
    """The slope of σ where its value is x, x (1 - x), into `out`."""
    return torch.addcmul(x, x, x, value=-1, out=out)


def _sum_over_time(left: Tensor, right: Tensor) -> Tensor:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n), the gradient of a weight."""
    return weight_gradient(left.flatten(0, 1), right.flatten(0, 1))
