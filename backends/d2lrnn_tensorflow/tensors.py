"""The book's tensor helpers: TensorFlow's own functions where they do what the chapters expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn_tensorflow.recurrence import Tensor

__all__ = [
    "abs", "arange", "argmax", "astype", "batch_matmul", "concat", "cos", "cosh", "exp", "expand_dims",
    "eye", "float32", "int32", "int64", "linspace", "log", "matmul", "meshgrid", "nn_Module", "normal",
    "numpy", "ones", "ones_like", "rand", "randn", "reduce_mean", "reduce_sum", "repeat", "reshape",
    "sigmoid", "sin", "sinh", "size", "stack", "tanh", "tensor", "transpose", "zeros", "zeros_like",
]  # fmt: skip

nn_Module = keras.Model  # noqa: N816

float32, int32, int64 = tf.float32, tf.int32, tf.int64

ones, ones_like, zeros, zeros_like = tf.ones, tf.ones_like, tf.zeros, tf.zeros_like
arange, linspace, eye, meshgrid = tf.range, tf.linspace, tf.eye, tf.meshgrid
normal, rand = tf.random.normal, tf.random.uniform
sin, sinh, cos, cosh, tanh = tf.sin, tf.sinh, tf.cos, tf.cosh, tf.tanh
exp, log, abs, sigmoid = tf.exp, tf.math.log, tf.abs, tf.sigmoid  # noqa: A001
matmul, batch_matmul, concat = tf.matmul, tf.matmul, tf.concat

reshape, argmax, astype = tf.reshape, tf.argmax, tf.cast
reduce_sum, reduce_mean = tf.reduce_sum, tf.reduce_mean
transpose, expand_dims, repeat = tf.transpose, tf.expand_dims, tf.repeat


def randn(*shape: int) -> Tensor:
    """Random numbers from N(0, 1)."""
    return tf.random.normal(shape)


def tensor(data: Any, dtype: Any = None, **options: Any) -> Tensor:
    """`tf.constant`, which is slow for a list of arrays: they are stacked first.

    Example:
        >>> tensor([np.arange(2), np.arange(2)]).shape
        TensorShape([2, 2])
    """
    if isinstance(data, (list, tuple)) and len(data) > 0 and isinstance(data[0], np.ndarray):
        data = np.stack(data)
    return tf.constant(data, dtype, **options)


def stack(tensors: Sequence[Tensor] | Tensor, axis: int = 0) -> Tensor:
    """`tf.stack`; the rows of a tensor are such a sequence too, as the outputs of d2lrnn's layers are.

    Example:
        >>> stack(tf.ones((5, 2, 3)), 1).shape
        TensorShape([2, 5, 3])
    """
    if tf.is_tensor(tensors):  # a symbolic tensor cannot be iterated over
        return tf.experimental.numpy.moveaxis(tensors, 0, axis)
    return tf.stack(list(tensors), axis)


def size(a: Tensor) -> int:
    """How many entries it has."""
    return int(tf.size(a))


def numpy(a: Tensor) -> Any:
    """The tensor as NumPy."""
    return a.numpy()
