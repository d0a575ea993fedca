"""The logistic function."""

from __future__ import annotations

import numpy as np

from d2lrnn.contract.values import FloatArray


def sigmoid(x: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """σ(x) = (1 + tanh(x/2)) / 2, into `out` where it is given: exact at both ends, where exp would overflow.

    Example:
        >>> sigmoid(np.zeros(1))
        array([0.5])
    """
    result: FloatArray = np.multiply(x, 0.5, out=out)
    np.tanh(result, out=result)
    result *= 0.5
    result += 0.5
    return result
