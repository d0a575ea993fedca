"""The book's tensor helpers: MXNet's own functions where they do what the chapters expect.

The helpers defined here switch NumPy semantics on for themselves; MXNet's own need ``npx.set_np()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as onp
from mxnet import np, npx
from mxnet.gluon import nn

from d2lrnn.book.methods import method
from d2lrnn_mxnet.recurrence import Array

__all__ = [
    "abs", "arange", "argmax", "astype", "batch_matmul", "concat", "cos", "cosh", "exp", "expand_dims",
    "eye", "float32", "int32", "int64", "linspace", "log", "matmul", "meshgrid", "nn_Module", "normal",
    "numpy", "ones", "ones_like", "rand", "randn", "reduce_mean", "reduce_sum", "repeat", "reshape",
    "sigmoid", "sin", "sinh", "size", "stack", "swapaxes", "tanh", "tensor", "to", "transpose", "zeros",
    "zeros_like",
]  # fmt: skip

nn_Module = nn.Block  # noqa: N816

float32, int32, int64 = np.float32, np.int32, np.int64

ones, ones_like, zeros, zeros_like = np.ones, np.ones_like, np.zeros, np.zeros_like
arange, linspace, eye, meshgrid, tensor = np.arange, np.linspace, np.eye, np.meshgrid, np.array
normal, rand, randn = np.random.normal, np.random.rand, np.random.randn
sin, sinh, cos, cosh, tanh = np.sin, np.sinh, np.cos, np.cosh, np.tanh
exp, log, abs, sigmoid = np.exp, np.log, np.abs, npx.sigmoid  # noqa: A001
matmul, batch_matmul, concat, expand_dims = np.dot, npx.batch_dot, np.concatenate, np.expand_dims

reshape, argmax, astype, to = method("reshape"), method("argmax"), method("astype"), method("as_in_ctx")
reduce_sum, reduce_mean = method("sum"), method("mean")
swapaxes, repeat = method("swapaxes"), method("repeat")


@mx.util.use_np
def stack(arrays: Sequence[Array] | Array, axis: int = 0) -> Array:
    """``np.stack``; the rows of an array are such a sequence too, as the outputs of d2lrnn's layers are.

    Example:
        >>> stack(np.ones((5, 2, 3)), 1).shape
        (2, 5, 3)
    """
    return np.moveaxis(arrays, 0, axis) if isinstance(arrays, np.ndarray) else np.stack(list(arrays), axis)


@mx.util.use_np
def transpose(a: Array) -> Array:
    """The array with its axes in reverse order."""
    return a.T


def size(a: Array) -> int:
    """How many entries it has."""
    return int(a.size)


def numpy(a: Array) -> onp.ndarray[Any, onp.dtype[Any]]:
    """The array as NumPy."""
    return a.asnumpy()
