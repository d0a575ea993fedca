"""What `d2lrnn verify` asks of MXNet itself: see `d2lrnn.verification.products`."""

from __future__ import annotations

from collections.abc import Callable

import mxnet as mx

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.values import FloatArray
from d2lrnn_mxnet.devices import available_devices, context_of


def products(device: str) -> dict[str, Callable[[FloatArray, FloatArray, bool, bool], FloatArray]]:
    """MXNet's two products of matrices: OpenBLAS's, and in float32 oneDNN's, which takes its right one lying.

    Args:
        device: the name of one of the devices.

    Example:
        >>> import numpy as np
        >>> ones = np.ones((2, 2))
        >>> products("cpu")["dot"](ones, ones, False, False).tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    context = context_of(choose_device(device, available_devices()))

    def dot(left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool) -> FloatArray:
        one, other = (mx.nd.array(factor, ctx=context, dtype=factor.dtype) for factor in (left, right))
        product: FloatArray = mx.nd.dot(
            one, other, transpose_a=transpose_left, transpose_b=transpose_right
        ).asnumpy()
        return product

    def fully_connected(
        left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool
    ) -> FloatArray:
        one, other = (mx.nd.array(factor, ctx=context, dtype=factor.dtype) for factor in (left, right))
        one, other = one.T if transpose_left else one, other if transpose_right else other.T
        product: FloatArray = mx.nd.FullyConnected(
            one, other, no_bias=True, num_hidden=len(other), flatten=False
        ).asnumpy()
        return product

    return {"dot": dot, "FullyConnected": fully_connected}
