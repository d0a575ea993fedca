"""Gradients: dense, and clipped by their global norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from d2lrnn_tensorflow.recurrence import Tensor


def clip_scale(norm: Tensor, theta: float) -> Tensor:
    """The factor for gradients of this norm: `d2lrnn.contract.clipping.clip_scale`.

    Example:
        >>> clip_scale(tf.constant([4.0, 0.5]), 1.0).numpy()
        array([0.25, 1.  ], dtype=float32)
    """
    largest = tf.convert_to_tensor(theta, norm.dtype)  # tf.cast would go through float32
    return largest / tf.maximum(norm, largest)


def clipped(gradients: Sequence[Any], theta: float) -> list[Tensor]:
    """The gradients times `clip_scale`, so that their global norm is at most theta.

    Args:
        gradients: dense or sparse.
        theta: the largest norm.
    """
    gradients = dense(gradients)
    scale = clip_scale(tf.linalg.global_norm(gradients), theta)
    return [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]


def dense(gradients: Sequence[Any]) -> list[Tensor]:
    """The gradients as dense tensors; a look-up's is sparse."""
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
