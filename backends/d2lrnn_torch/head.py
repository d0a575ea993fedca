"""The loss of the output layer, with its gradient, in one array of the size of the logits.

At a vocabulary of words the logits (T·B, V) are larger than all the rest. Logits, log-probabilities and their
gradient would be three such arrays; here the logits become the gradient where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from d2lrnn.contract.values import PADDING
from d2lrnn_torch.products import affine, plus, times, weight_gradient

#: The least vocabulary for which it is so: narrower rows are no burden, and PyTorch's own loss is as fast.
_WIDE = 256

#: Numbers of a block of rows: what a core's cache holds while the softmax goes over it a few times.
_BLOCK = 2**20


def summed_loss(H: Tensor, w: Tensor, b: Tensor, targets: Tensor) -> Tensor:
    """The sum of the cross-entropies, in nats, of logits ``o = H w + b``: Σ_n log Σ_j exp(o_nj) - o_ny.

    Args:
        H: (N, h).
        w: (h, V).
        b: (V,).
        targets: y (N,), int64; where they are padding the loss is 0.

    Returns:
        A tensor of shape ().

    Example:
        >>> summed_loss(torch.zeros(2, 3), torch.ones(3, 4), torch.zeros(4), torch.tensor([1, -1]))
        tensor(1.3863)
    """
    if w.shape[1] < _WIDE:
        logits = affine(H.unsqueeze(1), w, b).squeeze(1)
        return cross_entropy(logits, targets, ignore_index=PADDING, reduction="sum")
    if torch.is_grad_enabled():
        loss: Tensor = _SummedLoss.apply(H, w, b, targets)
        return loss
    losses = [
        _to_probabilities(plus(b, H[rows], w), targets[rows])[1] for rows in _blocks(len(H), w.shape[1])
    ]
    return torch.cat(losses).sum()


# benchmarks/tricks: torch, the head's loss in one array of logits
class _SummedLoss(Function):
    """`summed_loss`; its gradient at the logits is softmax(o) - one_hot(y), and 0 where y is padding."""

    @staticmethod
    def forward(ctx: Any, H: Tensor, w: Tensor, b: Tensor, targets: Tensor) -> Tensor:
        logits = plus(b, H, w)
        losses = torch.empty(len(H), dtype=H.dtype, device=H.device)
        for rows in _blocks(*logits.shape):
            y = targets[rows]
            probabilities, losses[rows] = _to_probabilities(logits[rows], y)
            there = y.ne(PADDING).to(H.dtype).unsqueeze(1)
            probabilities.mul_(there).scatter_add_(1, y.clamp(min=0).unsqueeze(1), -there)
        ctx.save_for_backward(H, w, logits)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        H, w, d_logits = ctx.saved_tensors
        d_H = times(d_logits, w.t()).mul_(d) if ctx.needs_input_grad[0] else None
        return d_H, weight_gradient(H, d_logits).mul_(d), d_logits.sum(dim=0).mul_(d), None


def _to_probabilities(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, V) made softmax(o) in place, and the losses (n,)."""
    logits -= logits.amax(dim=1, keepdim=True)
    picked = logits.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
    sums = logits.exp_().sum(dim=1)
    losses = (sums.log() - picked).masked_fill_(targets.eq(PADDING), 0)
    return logits.div_(sums.unsqueeze(1)), losses


def _blocks(num_rows: int, vocab_size: int) -> Iterator[slice]:
    size = max(1, _BLOCK // vocab_size)
    for start in range(0, num_rows, size):
        yield slice(start, start + size)
