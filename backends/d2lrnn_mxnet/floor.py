"""The benchmark's floor: the time of the matrix products alone that no training step can avoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mxnet as mx

from d2lrnn.benchmark.products import factors
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn_mxnet.devices import available_devices, context_of

#: Rows up to which OpenBLAS's product, ``dot``, by itself is faster than oneDNN's, ``FullyConnected``.
_FEW_ROWS = 64


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products`, one after the other, into memory that is allocated before.

    Products of one shape write to the same array, so that MXNet's engine runs them one after the other.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.contract.protocols.Backend.learner`.

    Returns:
        A function without arguments that runs them all, once, and waits until they are done.

    Example:
        >>> floor(ModelSpec(28, num_hiddens=512), batch_size=32, num_steps=35)()
    """
    context = context_of(choose_device(device, available_devices()))

    def array(values: FloatArray) -> Any:
        return mx.nd.array(values, ctx=context, dtype=spec.dtype)

    def right(values: FloatArray, rows: int) -> Any:
        return array(values if rows <= _FEW_ROWS else values.T)

    def result(left: Any, factor: Any) -> Any:
        columns = factor.shape[1] if len(left) <= _FEW_ROWS else len(factor)
        return mx.nd.empty((len(left), columns), ctx=context, dtype=spec.dtype)

    pairs = factors(spec, batch_size, num_steps, array, right)
    results = {id(factor): result(left, factor) for left, factor in pairs}

    def run() -> None:
        for left, factor in pairs:
            product(left, factor, results[id(factor)])
        mx.nd.waitall()

    return run


def product(left: Any, right: Any, out: Any) -> None:
    """``left @ right`` by the faster of MXNet's two operators, of which one takes `right` transposed.

    A function of its own: a test counts the calls. MXNet's fused recurrent operator multiplies faster than
    either: a model that uses it can take less time than this floor.
    """
    if len(left) <= _FEW_ROWS:
        mx.nd.dot(left, right, out=out)
    else:
        mx.nd.FullyConnected(left, right, no_bias=True, num_hidden=len(right), flatten=False, out=out)
