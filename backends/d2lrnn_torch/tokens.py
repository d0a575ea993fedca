"""Token indices in place of one-hot vectors.

A one-hot vector times a matrix is a row of it. Layers that look the row up need no one-hot vectors, which at
a vocabulary of words would be larger than everything else. A chapter's own layers take vectors only, and so
does a subclass that overrides `forward`: therefore the method is marked, not the class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from d2lrnn.errors import KindError

_Forward = TypeVar("_Forward", bound=Callable[..., object])

#: The largest vocabulary whose identity matrix is cached: one of characters.
_SMALL = 256

#: Columns up to which the gradient of rows is summed by ``index_add_``.
_NARROW = 64


def check_tensor(inputs: object) -> None:
    """Raises a KindError for a NumPy array, of which PyTorch's own error would not say what to do."""
    if isinstance(inputs, np.ndarray):
        raise KindError(
            "the inputs are a NumPy array, and a model takes tensors: torch.from_numpy(inputs) makes one"
        )


def takes_tokens(forward: _Forward) -> _Forward:
    """Marks a `forward` that takes token indices (T, B) as well as vectors (T, B, num_inputs)."""
    forward.takes_tokens = True  # type: ignore[attr-defined]  # a mark on a function
    return forward


def can_take_tokens(rnn: nn.Module) -> bool:
    """Whether the layers' `forward` is one that `takes_tokens`."""
    return getattr(type(rnn).forward, "takes_tokens", False)


def look_up(tokens: Tensor, rows: Tensor) -> Tensor:
    """``rows[tokens]``: indices (T, B) and rows (V, n) to (T, B, n).

    Its gradient adds up in the same order every time. On a CPU that of narrow rows is by ``index_add_``,
    which is faster than `embedding`'s; on a GPU it would add up in another order every time.
    """
    narrow = rows.is_cpu and rows.shape[1] <= _NARROW
    return _Rows.apply(tokens, rows) if narrow else embedding(tokens, rows)


# benchmarks/tricks: torch, rows of tokens
class _Rows(Function):
    """`look_up`, whose gradient at row v is the sum of the gradients where the token is v."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, rows: Tensor) -> Tensor:
        """(T, B) and (V, n) to (T, B, n)."""
        indices = tokens.flatten().long()
        ctx.save_for_backward(indices)
        ctx.num_rows = len(rows)
        return rows.index_select(0, indices).unflatten(0, tokens.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[None, Tensor]:
        """(T, B, n) to (V, n)."""
        (indices,) = ctx.saved_tensors
        return None, d.new_zeros(ctx.num_rows, d.shape[-1]).index_add_(0, indices, d.flatten(0, 1))


def vectors(inputs: Tensor, size: int, like: Tensor) -> Tensor:
    """One-hot vectors (…, size) of tokens (…), in the precision of `like`; vectors as they are."""
    if inputs.is_floating_point():
        return inputs
    if (inputs.dim() == 1 or inputs.shape[0] == 1) and size <= _SMALL:
        return torch.embedding(_identity(size, like.dtype, like.device), inputs)
    hot = like.new_zeros((*inputs.shape, size))
    return hot.scatter_(-1, inputs.long().unsqueeze(-1), 1)


# benchmarks/tricks: torch, rows of an identity that is kept
# One call instead of four, which matters in a single step.
@lru_cache(maxsize=8)
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # A caller may be in inference mode, and a tensor made there cannot take part in training.
    with torch.inference_mode(False):
        return torch.eye(size, dtype=dtype, device=device)
