"""The book's tensor helpers: JAX's own functions where they do what the chapters expect."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.book.methods import method

__all__ = [
    "abs", "arange", "argmax", "astype", "batch_matmul", "concat", "cos", "cosh", "exp", "expand_dims",
    "eye", "float32", "int32", "int64", "linspace", "log", "matmul", "meshgrid", "nn_Module", "numpy",
    "one_hot", "ones", "ones_like", "reduce_mean", "reduce_sum", "repeat", "reshape", "sigmoid", "sin",
    "sinh", "size", "stack", "swapaxes", "tanh", "tensor", "to", "transpose", "zeros", "zeros_like",
]  # fmt: skip

nn_Module = nn.Module  # noqa: N816

float32, int32, int64 = jnp.float32, jnp.int32, jnp.int64

ones, ones_like, zeros, zeros_like = jnp.ones, jnp.ones_like, jnp.zeros, jnp.zeros_like
arange, linspace, eye, meshgrid = jnp.arange, jnp.linspace, jnp.eye, jnp.meshgrid
sin, sinh, cos, cosh, tanh = jnp.sin, jnp.sinh, jnp.cos, jnp.cosh, jnp.tanh
exp, log, abs, sigmoid = jnp.exp, jnp.log, jnp.abs, jax.nn.sigmoid  # noqa: A001
matmul, batch_matmul, concat, stack = jnp.matmul, jnp.matmul, jnp.concatenate, jnp.stack

reshape, argmax, astype, to = method("reshape"), method("argmax"), method("astype"), jax.device_put
reduce_sum, reduce_mean = method("sum"), method("mean")
transpose, swapaxes = jnp.transpose, method("swapaxes")
expand_dims, repeat = jnp.expand_dims, method("repeat")
tensor, size, one_hot = jnp.array, jnp.size, jax.nn.one_hot


def numpy(a: jax.Array) -> np.ndarray[Any, np.dtype[Any]]:
    """The array as NumPy's, read-only; it may share the memory."""
    return np.asarray(a)
