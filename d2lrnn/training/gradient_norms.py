"""The norms of an epoch's gradients, each read a few steps after it was dispatched, as losses are."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import SupportsFloat

#: As `d2lrnn.training.losses` has it: the loss of the same step was read just before.
_LAG = 8


@dataclass(frozen=True)
class GradientNorms:
    """What is known of the gradients of an epoch: of each step the joint norm, before clipping.

    Attributes:
        num_steps: the steps whose norm is a number; a norm that overflowed does not count.
        total: the sum of the norms.
        largest: the largest.
        num_clipped: the steps whose norm was above that of clipping.
    """

    num_steps: int = 0
    total: float = 0.0
    largest: float = 0.0
    num_clipped: int = 0

    def plus(self, norm: float, clip: float | None) -> GradientNorms:
        """With those of a further step, which was clipped to the norm `clip`; None is no clipping.

        Example:
            >>> GradientNorms().plus(3.0, clip=1.0).plus(0.5, clip=1.0)
            GradientNorms(num_steps=2, total=3.5, largest=3.0, num_clipped=1)
        """
        if not math.isfinite(norm):
            return self
        clipped = clip is not None and norm > clip
        return GradientNorms(
            self.num_steps + 1, self.total + norm, max(self.largest, norm), self.num_clipped + clipped
        )


class NormSum:
    """Adds norms up in float64, without waiting for the device.

    Args:
        done: those of the steps before.
        clip: the norm that gradients are clipped to; None is no clipping.

    Example:
        >>> norms = NormSum(GradientNorms(), clip=1.0)
        >>> norms.add(2.0)
        >>> norms.read().num_clipped
        1
    """

    def __init__(self, done: GradientNorms, clip: float | None) -> None:
        self._done, self._clip = done, clip
        self._unread: deque[SupportsFloat] = deque()

    def add(self, norm: SupportsFloat) -> None:
        """Adds the norm of a step."""
        self._unread.append(norm)
        if len(self._unread) > _LAG:
            self._read_one()

    def read(self) -> GradientNorms:
        """All of them: waits for those that are not there yet."""
        while self._unread:
            self._read_one()
        return self._done

    def _read_one(self) -> None:
        self._done = self._done.plus(float(self._unread.popleft()), self._clip)
