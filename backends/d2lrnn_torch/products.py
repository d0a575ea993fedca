"""Matrix products, by the faster of the two libraries that PyTorch brings.

On a CPU `torch.mm` is MKL's product, which is slower than oneDNN's on processors that are not Intel's. In
float32 PyTorch has oneDNN's as the operator behind its compiler's linear layers. It takes some microseconds
longer to call and has no gradient: `times` and `plus` are for the recurrences, whose gradients are by hand,
and `affine` has its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_HAS_ONEDNN = torch.backends.mkldnn.is_available()
#: oneDNN's ``left @ right.t() + bias``. PyTorch does not promise to keep it: without it all is `torch.mm`.
_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _HAS_ONEDNN else None

#: Multiplications below which the call costs more than it gains, and columns of `right` below which the copy
#: of a transposed `left` that oneDNN needs costs more than it gains.
_MANY, _WIDE = 2**20, 128


# benchmarks/tricks: torch, a product by oneDNN
def times(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` for matrices (m, k) and (k, n), outside of any graph."""
    return _by_onednn(left, right) if _pays(left, right) else torch.mm(left, right)


# benchmarks/tricks: torch, a product by oneDNN, and a sum
def plus(addend: Tensor, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """``addend + left @ right`` for (m, n) or (n,), (m, k) and (k, n), outside of any graph."""
    if not _pays(left, right):
        return torch.addmm(addend, left, right, out=out)
    if addend.dim() == 1 and out is None:
        return _by_onednn(left, right, addend)
    product = _by_onednn(left, right)
    return torch.add(addend, product, out=product if out is None else out)


# benchmarks/tricks: torch, a gradient whose narrower factor is laid out anew
def weight_gradient(X: Tensor, d: Tensor) -> Tensor:
    """``X.t() @ d`` for (k, m) and (k, n): the gradient of w in ``X @ w``, outside of any graph.

    oneDNN needs one of the two copied into another layout: the narrower one costs less.
    """
    return times(d.t(), X).t() if d.shape[1] < X.shape[1] else times(X.t(), d)


def affine(X: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """``X w + b`` over the last axis: (T, B, m), (m, n), (n,) -> (T, B, n)."""
    if len(X) == 1:  # a single step, where every call counts
        return torch.addmm(b, X[0], w).unsqueeze(0)
    rows = X.flatten(0, 1)
    result = _Affine.apply(rows, w, b) if torch.is_grad_enabled() else plus(b, rows, w)
    return result.unflatten(0, X.shape[:2])


# benchmarks/tricks: torch, the output layer by oneDNN
class _Affine(Function):
    """``X w + b`` for a matrix X: d_X = d wᵀ, d_w = Xᵀ d, and d_b is the sum of the rows of d."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(X, w)
        return plus(b, X, w)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        X, w = ctx.saved_tensors
        d_X = times(d, w.t()) if ctx.needs_input_grad[0] else None
        return d_X, weight_gradient(X, d), d.sum(dim=0)


def _by_onednn(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    if not (right.t().is_contiguous() or right.is_contiguous()):
        right = right.contiguous()  # for columns of a wider matrix oneDNN has no fast way
    return _LINEAR.default(left, right.t(), bias, "none", [], "")


def _pays(left: Tensor, right: Tensor) -> bool:
    return (
        _LINEAR is not None
        and left.dtype is torch.float32
        and left.is_cpu
        and left.numel() * right.shape[1] > _MANY
        and (right.shape[1] >= _WIDE or left.is_contiguous())
    )
