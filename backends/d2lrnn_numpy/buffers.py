"""Scratch memory that is kept from one step to the next.

Large fresh arrays cost page faults; a step that writes into the arrays of the step before has none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.values import FloatArray


class Buffers:
    """Named arrays, allocated at first use and again only when their shape or type changes.

    An array from here is valid until the next request by the same name: what outlives a step is copied.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, FloatArray] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> FloatArray:
        """An uninitialised array of this shape and type."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array
