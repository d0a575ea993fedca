"""Gradients: dense, and clipped by their global norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from d2lrnn_tensorflow.recurrence import Tensor


def clipped(gradients: Sequence[Any], theta: float) -> list[Tensor]:
    """The gradients times `d2lrnn.contract.clipping.clip_scale`: their common norm is at most theta then.

    Args:
        gradients: dense or sparse.
        theta: the largest norm.
    """
    gradients = dense(gradients)
    norm = tf.linalg.global_norm(gradients)
    theta = tf.cast(theta, norm.dtype)
    scale = theta / tf.maximum(norm, theta)
    return [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]


def dense(gradients: Sequence[Any]) -> list[Tensor]:
    """The gradients as tensors: that of a look-up is sparse."""
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
