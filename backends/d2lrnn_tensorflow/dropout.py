"""Dropout by given masks, or by Keras' own generator where there are none."""

from __future__ import annotations

import keras

from d2lrnn_tensorflow.recurrence import Tensor


def drop(
    dropout: keras.layers.Dropout, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None
) -> Tensor:
    """The inputs times a mask; without one, Keras' dropout layer applied to them.

    Args:
        dropout: the layer.
        inputs: of any shape.
        mask: of the same shape; its entries are 0 or 1 / (1 - p) (`d2lrnn.contract.dropout`).
        training: whether Keras' layer drops anything; None takes it from the Keras call around this one.

    Example:
        >>> import tensorflow as tf
        >>> drop(keras.layers.Dropout(0.5), tf.ones(3), tf.constant([2.0, 0.0, 2.0])).numpy()
        array([2., 0., 2.], dtype=float32)
        >>> drop(keras.layers.Dropout(0.5), tf.ones(3)).numpy()
        array([1., 1., 1.], dtype=float32)
    """
    if mask is not None:
        return inputs * mask
    if not dropout.rate:
        return inputs
    # Keras fills in `training` from the outer call only if it is left out, not if it is None.
    return dropout(inputs) if training is None else dropout(inputs, training=training)
