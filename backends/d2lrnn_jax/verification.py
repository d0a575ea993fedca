"""What `d2lrnn verify` asks of JAX itself: see `d2lrnn.verification.products`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.values import FloatArray
from d2lrnn_jax.devices import devices, native_device
from d2lrnn_jax.precision import precision


def products(device: str) -> dict[str, Callable[[FloatArray, FloatArray, bool, bool], FloatArray]]:
    """JAX's product of matrices, compiled, in the precision that is set.

    Args:
        device: the name of one of the devices.

    Example:
        >>> ones = np.ones((2, 2))
        >>> products("cpu")["jax.numpy.matmul"](ones, ones, False, False).tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    on = native_device(choose_device(device, devices()).name)

    def matmul(
        left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool
    ) -> FloatArray:
        with precision(left.dtype):
            one, other = jax.device_put((left, right), on)
            return np.asarray(_multiplied(one, other, transpose_left, transpose_right))

    return {"jax.numpy.matmul": matmul}


@partial(jax.jit, static_argnums=(2, 3))
def _multiplied(left: jax.Array, right: jax.Array, transpose_left: bool, transpose_right: bool) -> jax.Array:
    # The compiler makes a transposed factor a property of the product.
    return (left.T if transpose_left else left) @ (right.T if transpose_right else right)
