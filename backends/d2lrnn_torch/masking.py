"""Sequences of different lengths in one tensor: what is behind the end of each does not count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def sequence_mask(X: Tensor, valid_len: Tensor, value: float = 0) -> Tensor:
    """A copy of sequences in which each has `value` behind its end.

    Args:
        X: (B, T, …).
        valid_len: how long each of them is, (B,).
        value: what to put there.

    Example:
        >>> sequence_mask(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([1, 2]))
        tensor([[1, 0, 0],
                [4, 5, 0]])
    """
    behind = torch.arange(X.shape[1], device=X.device) >= valid_len.unsqueeze(1)
    return X.masked_fill(behind.reshape(*behind.shape, *[1] * (X.dim() - 2)), value)


def masked_softmax(X: Tensor, valid_lens: Tensor | None) -> Tensor:
    """The softmax over the last axis, in which what is behind the end of a sequence gets 0.

    Args:
        X: scores (B, Q, K) of Q queries for K keys.
        valid_lens: how many keys count: (B,), or (B, Q) where each query has its own number. None counts all.
            Where it is 0, every key gets 1/K.

    Example:
        >>> masked_softmax(torch.zeros(1, 2, 4), torch.tensor([2]))
        tensor([[[0.5000, 0.5000, 0.0000, 0.0000],
                 [0.5000, 0.5000, 0.0000, 0.0000]]])
    """
    if valid_lens is not None:
        of_queries = valid_lens.unsqueeze(1) if valid_lens.dim() == 1 else valid_lens
        behind = torch.arange(X.shape[-1], device=X.device) >= of_queries.unsqueeze(-1)
        # Not minus infinity: a sequence without keys would get NaN.
        X = X.masked_fill(behind, torch.finfo(X.dtype).min)
    return X.softmax(dim=-1)


class MaskedSoftmaxCELoss(nn.CrossEntropyLoss):
    """The cross-entropy of sequences, in which what is behind their ends counts as zero; first edition.

    Args:
        weight: as in `torch.nn.CrossEntropyLoss`.
        **options: likewise, but for ``reduction``.

    Example:
        >>> logits, labels = torch.zeros(2, 4, 10), torch.ones(2, 4, dtype=torch.long)
        >>> MaskedSoftmaxCELoss()(logits, labels, torch.tensor([4, 2]))
        tensor([2.3026, 1.1513])
    """

    def __init__(self, weight: Tensor | None = None, **options: Any) -> None:
        super().__init__(weight, reduction="none", **options)

    def forward(self, pred: Tensor, label: Tensor, valid_len: Tensor) -> Tensor:
        """The losses (B,) of the sequences: each a mean over all T steps, padding included.

        Args:
            pred: logits (B, T, V).
            label: classes (B, T).
            valid_len: how long each sequence is, (B,).
        """
        # PyTorch has the classes on the second axis.
        losses = super().forward(pred.transpose(1, 2), label.long())
        return sequence_mask(losses, valid_len).mean(dim=1)
