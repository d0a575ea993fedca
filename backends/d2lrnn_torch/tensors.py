"""The book's tensor helpers: PyTorch's own functions where they do what the chapters expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2lrnn.book.methods import method

__all__ = [
    "abs", "arange", "argmax", "astype", "batch_matmul", "concat", "cos", "cosh", "exp", "expand_dims",
    "eye", "float32", "int32", "int64", "linspace", "log", "matmul", "meshgrid", "nn_Module", "normal",
    "numpy", "one_hot", "ones", "ones_like", "rand", "randn", "reduce_mean", "reduce_sum", "repeat",
    "reshape", "sigmoid", "sin", "sinh", "size", "stack", "swapaxes", "tanh", "tensor", "to", "transpose",
    "zeros", "zeros_like",
]  # fmt: skip

nn_Module = nn.Module  # noqa: N816

float32, int32, int64 = torch.float32, torch.int32, torch.int64

ones, ones_like, zeros, zeros_like = torch.ones, torch.ones_like, torch.zeros, torch.zeros_like
arange, linspace, eye, meshgrid = torch.arange, torch.linspace, torch.eye, torch.meshgrid
normal, rand, randn = torch.normal, torch.rand, torch.randn
sin, sinh, cos, cosh, tanh = torch.sin, torch.sinh, torch.cos, torch.cosh, torch.tanh
exp, log, abs, sigmoid = torch.exp, torch.log, torch.abs, torch.sigmoid  # noqa: A001
matmul, batch_matmul, concat = torch.matmul, torch.bmm, torch.cat

reshape, argmax, astype, to = method("reshape"), method("argmax"), method("type"), method("to")
reduce_sum, reduce_mean = method("sum"), method("mean")
transpose, swapaxes = method("t"), method("swapaxes")
expand_dims, repeat = method("unsqueeze"), method("repeat")


def tensor(data: Any, **options: Any) -> Tensor:
    """`torch.tensor`, which is slow for a list of arrays: they are stacked first.

    Example:
        >>> tensor([np.arange(2), np.arange(2)]).shape
        torch.Size([2, 2])
    """
    if isinstance(data, (list, tuple)) and len(data) > 0 and isinstance(data[0], np.ndarray):
        data = np.stack(data)
    return torch.tensor(data, **options)


def stack(tensors: Sequence[Tensor] | Tensor, dim: int = 0) -> Tensor:
    """`torch.stack`; the rows of a tensor are such a sequence too, as the outputs of d2lrnn's layers are.

    Example:
        >>> stack(torch.ones(5, 2, 3), 1).shape
        torch.Size([2, 5, 3])
    """
    return tensors.movedim(0, dim) if isinstance(tensors, Tensor) else torch.stack(tuple(tensors), dim)


def size(a: Tensor) -> int:
    """How many entries it has."""
    return a.numel()


def numpy(a: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """The tensor as NumPy, without its graph."""
    return a.numpy(force=True)


def one_hot(indices: Tensor, num_classes: int = -1) -> Tensor:
    """One-hot vectors (…, V) of indices (…)."""
    return nn.functional.one_hot(indices.long(), num_classes)
