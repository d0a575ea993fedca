"""Sums over all workers of MXNet's engine, each of one flat array, in place.

MXNet's servers add in float32, whatever they are sent, and in the order in which it comes: a sum of float64
numbers would be off by 6e-8, and one of more than two workers another one in each run. Such numbers go there
as three whole numbers, digits in a common scale, whose sums are exact in any order.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import mxnet as mx
from mxnet import np

from d2lrnn_mxnet.recurrence import Array

#: float32 holds whole numbers up to 2^24 exactly.
_BITS = 24
_DIGITS = 3


class Sum(Protocol):
    """A place where arrays are summed.

    Attributes:
        flat: a legacy array (n,): this worker's numbers, and after `add_up` the sums.
    """

    flat: Any

    def add_up(self) -> None:
        """Sums over all workers."""


class Sums:
    """Makes places for sums.

    Args:
        store: an ``mx.kv.KVStore``; all workers make the same places in the same order.
        size: the number of workers.
        context: MXNet's device.
    """

    def __init__(self, store: Any, size: int, context: Any) -> None:
        self.store, self.size, self.context = store, size, context
        self._made = 0

    def place(self, length: int, dtype: str) -> Sum:
        """A place for `length` numbers of ``"float32"`` or ``"float64"``."""
        if dtype == "float64" or self.size > 2:
            return ExactSum(self, length, dtype)
        return PlainSum(self, length)

    def new_key(self) -> int:
        """A key that the store does not have yet."""
        self._made += 1
        return self._made


class PlainSum:
    """A sum as the servers make it, of float32 numbers; see `Sum`."""

    def __init__(self, sums: Sums, length: int) -> None:
        self.flat = mx.nd.zeros((length,), sums.context)
        self._store, self._key = sums.store, sums.new_key()
        self._store.init(self._key, self.flat)

    def add_up(self) -> None:
        """Sums over all workers."""
        self._store.pushpull(self._key, self.flat, out=self.flat)


@mx.util.use_np
class ExactSum:
    """A sum that is exact to about 2^-60 of the largest number in it; see `Sum`.

    With ``Σ|x| <= 2^e`` over the workers, ``q = rint(x / 2^(e - 23))`` has sums below 2^24. What is left of
    x is at most half of that unit, and so on for the next digit.
    """

    def __init__(self, sums: Sums, length: int, dtype: str) -> None:
        self.flat = mx.nd.zeros((length,), sums.context, dtype)
        self._bound = PlainSum(sums, 1)
        self._digits = PlainSum(sums, _DIGITS * length)
        # The remainder's exponent: half a unit for each of the workers.
        self._step = _BITS - math.ceil(math.log2(sums.size))
        self._length = length

    def add_up(self) -> None:
        """Sums over all workers."""
        result = self.flat.as_np_ndarray()
        x = result.astype("float64")
        bound = self._largest(x)
        if not math.isfinite(bound):
            result[:] = bound  # a run that has diverged
            return
        _, exponent = math.frexp(bound)
        units = [2.0 ** (exponent - (_BITS - 1) - k * self._step) for k in range(_DIGITS)]
        for k, unit in enumerate(units):
            digit = np.rint(x / unit)
            self._digit(k)[:] = digit
            x -= digit * unit
        self._digits.add_up()
        result[:] = sum(self._digit(k).astype("float64") * unit for k, unit in reversed([*enumerate(units)]))

    def _largest(self, x: Array) -> float:
        """At least the sum over the workers of the largest |x| of each."""
        # float32 rounds, here and at the servers.
        self._bound.flat[:] = float(np.abs(x).max()) * (1 + 1e-6)
        self._bound.add_up()
        return float(self._bound.flat.asscalar())

    def _digit(self, k: int) -> Array:
        return self._digits.flat[k * self._length : (k + 1) * self._length].as_np_ndarray()
