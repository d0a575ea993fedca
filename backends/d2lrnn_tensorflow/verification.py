"""What `d2lrnn verify` asks of TensorFlow itself: see `d2lrnn.verification.products`."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.values import FloatArray
from d2lrnn_tensorflow.devices import devices, native_name


def products(device: str) -> dict[str, Callable[[FloatArray, FloatArray, bool, bool], FloatArray]]:
    """TensorFlow's product of matrices.

    Args:
        device: the name of one of the devices.

    Example:
        >>> import numpy as np
        >>> ones = np.ones((2, 2))
        >>> products("cpu")["tf.matmul"](ones, ones, False, False).tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    name = native_name(choose_device(device, devices()))

    def matmul(
        left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool
    ) -> FloatArray:
        with tf.device(name):
            product: FloatArray = tf.linalg.matmul(
                left, right, transpose_a=transpose_left, transpose_b=transpose_right
            ).numpy()
        return product

    return {"tf.matmul": matmul}
