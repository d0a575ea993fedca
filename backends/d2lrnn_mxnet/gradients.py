"""Clipping by the global norm, and the book's SGD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import mxnet as mx
from mxnet import np

from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


# benchmarks/tricks: mxnet, the global norm by products
def global_norm(gradients: Iterable[Array]) -> Array:
    """The Euclidean norm of all gradients taken as one vector, on their device."""
    flat = (gradient.reshape(-1) for gradient in gradients)
    # Not sums of squares: MXNet's reductions are slower than its products.
    return np.sqrt(sum(np.dot(part, part) for part in flat))


def clip_scale(norm: Array, theta: float) -> Array:
    """`d2lrnn.contract.clipping.clip_scale` on the device: a comparison in Python would wait for it."""
    return theta / np.maximum(norm, theta)


@mx.util.use_np
def clip(params: Iterable[Array], theta: float) -> None:
    """Multiplies all gradients by `clip_scale`, so that their global norm is at most theta.

    Args:
        params: the owners of the gradients; those without a gradient are skipped.
        theta: the largest norm.
    """
    gradients = [param.grad for param in params if param.grad is not None]
    scale = clip_scale(global_norm(gradients), theta)
    for gradient in gradients:
        gradient *= scale


@mx.util.use_np
def sgd(params: Iterable[Array], lr: float, batch_size: int) -> None:
    """A step of stochastic gradient descent on gradients that are sums over a batch."""
    for param in params:
        param -= lr / batch_size * param.grad


@use_np
class SGD:
    """Stochastic gradient descent on arrays with gradients; like a ``gluon.Trainer`` it has ``step``.

    Args:
        params: the arrays.
        lr: the learning rate.
    """

    def __init__(self, params: Sequence[Array], lr: float) -> None:
        self.params, self.lr = params, lr

    def step(self, batch_size: int) -> None:
        """Takes a step; the gradients are divided by the batch size."""
        sgd(self.params, self.lr, batch_size)
