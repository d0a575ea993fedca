"""Sums of losses, each read a few steps after it was dispatched, so that no step waits for the device."""

from __future__ import annotations

import math
from collections import deque
from typing import SupportsFloat

#: How many steps a loss stays unread: enough for a device that works ahead, few enough to stop soon at a NaN.
_LAG = 8


class NotFiniteError(Exception):
    """A loss that is NaN or infinite.

    Attributes:
        loss: its value.
        step: the training step whose loss it was, counted from 1 over the whole run; None in validation.
    """

    def __init__(self, loss: float, step: int | None) -> None:
        super().__init__(loss, step)
        self.loss, self.step = loss, step


class LossSum:
    """Adds losses up in float64 and reads each one a few steps after it was dispatched.

    Args:
        nats: where the sum begins.
        num_tokens: the tokens of these.
        step: the training steps before the first loss; None where the losses are not of training.

    Example:
        >>> losses = LossSum()
        >>> losses.add(2.0, num_tokens=3)
        >>> losses.add(1.0, num_tokens=1)
        >>> losses.read()
        (7.0, 4)
    """

    def __init__(self, nats: float = 0.0, num_tokens: int = 0, step: int | None = None) -> None:
        self._nats, self._num_tokens, self._step = nats, num_tokens, step
        #: The tokens of all losses, those that are not read yet among them.
        self.num_added = num_tokens
        self._unread: deque[tuple[SupportsFloat, int]] = deque()

    def add(self, loss: SupportsFloat, num_tokens: int) -> None:
        """Adds a mean loss over `num_tokens` tokens.

        Raises:
            NotFiniteError: a loss that was added some steps before is not finite.
        """
        self.num_added += num_tokens
        self._unread.append((loss, num_tokens))
        if len(self._unread) > _LAG:
            self._read_one()

    @property
    def so_far(self) -> tuple[float, int]:
        """The sum of what has been read; the first loss is read at once, to have something to show."""
        if self._unread and not self._num_tokens:
            self._read_one()
        return self._nats, self._num_tokens

    def read(self) -> tuple[float, int]:
        """The whole sum in nats, and its tokens: waits for the losses that are not there yet.

        Raises:
            NotFiniteError: a loss is not finite.
        """
        while self._unread:
            self._read_one()
        return self._nats, self._num_tokens

    def _read_one(self) -> None:
        loss, num_tokens = self._unread.popleft()
        value = float(loss)
        if self._step is not None:
            self._step += 1
        if not math.isfinite(value):
            raise NotFiniteError(value, self._step)
        self._nats += value * num_tokens
        self._num_tokens += num_tokens
