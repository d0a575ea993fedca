"""The activation functions of the cells' formulas, each by the fastest operator for its use."""

from __future__ import annotations

import mxnet as mx
from mxnet import sym
from mxnet.ndarray import NDArray

from d2lrnn_mxnet.recurrence import Array


def sigmoid(x: Array) -> Array:
    """The logistic function σ(x) = 1 / (1 + exp(-x)), element by element."""
    return sym.npx.sigmoid(x) if _is_one_step(x) else _activation(x, "sigmoid")


def tanh(x: Array) -> Array:
    """The hyperbolic tangent, element by element."""
    return sym.np.tanh(x) if _is_one_step(x) else _activation(x, "tanh")


def relu(x: Array) -> Array:
    """max(0, x), element by element."""
    return sym.npx.relu(x) if _is_one_step(x) else _activation(x, "relu")


# benchmarks/tricks: mxnet, activations by NumPy's operators in a single step
def _is_one_step(x: Array) -> bool:
    """Whether `x` is part of a graph of `d2lrnn_mxnet.prediction`, which is made of NumPy's symbols.

    Its arrays are small: for these NumPy's operators start faster than oneDNN's.
    """
    return isinstance(x, sym.numpy._Symbol)


# benchmarks/tricks: mxnet, sigmoid, tanh and relu by oneDNN
def _activation(x: Array, kind: str) -> Array:
    # The operator that oneDNN accelerates: np.tanh takes two to three times as long.
    F = mx.nd if isinstance(x, NDArray) else mx.sym
    return F.Activation(x, act_type=kind)
