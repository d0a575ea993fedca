"""What `d2lrnn verify` asks of NumPy itself: see `d2lrnn.verification.products`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from d2lrnn.contract.values import FloatArray


def products(device: str) -> dict[str, Callable[[FloatArray, FloatArray, bool, bool], FloatArray]]:
    """NumPy's product of matrices, which is that of its BLAS.

    Args:
        device: the name of the device; NumPy has one.

    Example:
        >>> ones = np.ones((2, 2))
        >>> products("cpu")["matmul"](ones, ones, False, False).tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """

    def matmul(
        left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool
    ) -> FloatArray:
        product: FloatArray = np.matmul(
            left.T if transpose_left else left, right.T if transpose_right else right
        )
        return product

    return {"matmul": matmul}
