"""Dropout by masks that the core has drawn, or by Keras where it has not."""

from __future__ import annotations

import keras

from d2lrnn_tensorflow.recurrence import Tensor


def drop(
    dropout: keras.layers.Dropout, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None
) -> Tensor:
    """The inputs times a mask; without one, what Keras' layer makes of them.

    Args:
        dropout: the layer.
        inputs: of any shape.
        mask: of the same shape; its entries are 0 or 1 / (1 - p) (`d2lrnn.contract.dropout`).
        training: whether Keras' layer drops anything; None is what Keras knows of the call around this one.

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
    # Keras takes a None that is passed as it is, and only fills in arguments that are left out.
    return dropout(inputs) if training is None else dropout(inputs, training=training)
