"""NumPy arrays on MXNet's devices."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np

from d2lrnn.contract.values import IntArray
from d2lrnn_mxnet.devices import cpu
from d2lrnn_mxnet.recurrence import Array


# benchmarks/tricks: mxnet, arrays taken over from NumPy
def on_device(values: Any, dtype: str, context: Any) -> Array:
    """A copy of `values` on a device, as an ``mx.np.ndarray``, without waiting for the engine.

    ``mx.np.array`` waits: the engine makes its copy after the step before, which delays the next step. Here
    NumPy makes the copy, whose memory MXNet then shares.

    Args:
        values: anything that ``numpy.array`` takes.
        dtype: of the result.
        context: MXNet's device.
    """
    own = np.array(values, dtype=dtype, order="C")
    return mx.nd.from_numpy(own, array_cls=mx.np.ndarray).as_in_ctx(context)


def index_array(indices: IntArray) -> Array:
    """Token indices, or lengths, as an array of int32 on the CPU, where a batch begins."""
    return on_device(indices, "int32", cpu())
