"""The benchmark's floor: the time of the matrix products alone that no training step can avoid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from d2lrnn.benchmark.products import factors
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn_numpy.devices import CPU
from d2lrnn_numpy.recurrence import rows_apart


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products`, one after the other, into memory that is allocated before.

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
    choose_device(device, [CPU])

    def right(array: FloatArray, rows: int) -> FloatArray:
        return rows_apart(array, num_steps) if rows == batch_size else array

    pairs = factors(spec, batch_size, num_steps, lambda array: array, right)
    results = {id(right): np.empty((len(left), right.shape[1]), spec.dtype) for left, right in pairs}

    def run() -> None:
        for left, right in pairs:
            product(left, right, results[id(right)])

    return run


def product(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """``left @ right``; a function of its own: a test counts the calls."""
    np.matmul(left, right, out=out)
