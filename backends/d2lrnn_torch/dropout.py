"""Dropout by given masks, or by PyTorch's own generator where there are none."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor
from torch.nn import functional

_Outputs = TypeVar("_Outputs")


def dropped(X: _Outputs, mask: Tensor | None, rate: float, *, training: bool) -> _Outputs:
    """`X` times a mask of its shape; without one, PyTorch's dropout while training, and else `X` itself.

    Args:
        X: activations; what a chapter's layers return may be a list, as long as nothing is dropped.
        mask: entries 0 or 1 / (1 - rate) (`d2lrnn.contract.dropout`).
        rate: the probability with which PyTorch drops.
        training: whether it drops at all.
    """
    if mask is not None:
        return X * mask
    return functional.dropout(X, rate) if rate and training else X
