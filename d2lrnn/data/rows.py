"""Batches by where their rows lie in a text: begun with any of them, and read whole or a worker's rows alone.

An iterator says where the rows of its batches lie, which takes no reading. So an epoch that goes on at batch
k reads none of those before it, and a worker reads its own rows of every batch: how many targets the whole
batch has, which a mean loss is divided by, is known without the others.

Shapes are written with n = tokens, B = batch size, T = time steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.values import PADDING, Batch
from d2lrnn.data.mapped import rows_at, span
from d2lrnn.data.vocabulary import TokenArray
from d2lrnn.workers.parts import Part, part_of, rows_of


class Rows(NamedTuple):
    """Where the rows of a batch lie in a text; those that it lacks are padding.

    Attributes:
        starts: the place of the first input of each, int64 (m,), m of them, from 1 to B.
        lengths: how many targets each has before its padding, int64 (m,), in [0, T].
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


@runtime_checkable
class InParts(Protocol):
    """What an iterator of batches can offer beside `next`: `parts_of` asks for it."""

    def parts(self, rank: int, size: int, first: int = 0) -> Iterator[Part]:
        """The parts of worker `rank` of `size` of the batches that are left, without the first `first`."""


class TextBatches(Iterator[Batch]):
    """The batches of a text whose rows lie where `rows` says, each (B, T), read when it is asked for.

    Args:
        tokens: integers (n,).
        batch_size: B.
        num_steps: T.
        rows: where the rows lie of every batch from a given one on. It is called once, for the first batch
            that is asked for.

    Example:
        >>> def rows(first):
        ...     for batch in range(first, 9):
        ...         yield Rows(starts=np.array([batch, 15]), lengths=np.array([2, 1]))
        >>> next(TextBatches(np.arange(20), 2, 2, rows)).targets.tolist()
        [[1, 2], [16, -1]]
        >>> part = next(TextBatches(np.arange(20), 2, 2, rows).parts(rank=0, size=2, first=7))
        >>> part.batch.targets.tolist(), part.num_tokens
        ([[8, 9]], 3)
    """

    def __init__(
        self, tokens: TokenArray, batch_size: int, num_steps: int, rows: Callable[[int], Iterator[Rows]]
    ) -> None:
        self._tokens, self._batch_size, self._num_steps = tokens, batch_size, num_steps
        self._rows_from = rows
        self._left: Iterator[Rows] | None = None

    def __next__(self) -> Batch:
        return self._part(next(self._rest(0)), slice(0, self._batch_size)).batch

    def parts(self, rank: int, size: int, first: int = 0) -> Iterator[Part]:
        """See `InParts`.

        Raises:
            TextError: of mapped tokens, see `d2lrnn.data.mapped.rows_at`.
        """
        own = rows_of(self._batch_size, rank, size)
        return (self._part(rows, own) for rows in self._rest(first))

    def _rest(self, first: int) -> Iterator[Rows]:
        """The rows of the batches that are left, without the first `first`."""
        if self._left is None:
            self._left = self._rows_from(first)
        elif first:
            self._left = islice(self._left, first, None)
        return self._left

    def _part(self, rows: Rows, own: slice) -> Part:
        windows = self._windows(rows.starts[own], rows.lengths[own], own.stop - own.start)
        # Two arrays of their own: they overlap in `windows`, and a batch may be handed to a device as it is.
        inputs, targets = windows[:, :-1].copy(), windows[:, 1:].copy()
        inputs[targets == PADDING] = 0
        return Part(Batch(inputs, targets), own, self._batch_size, int(rows.lengths.sum()))

    def _windows(
        self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], num_rows: int
    ) -> npt.NDArray[np.int32]:
        """Inputs and targets side by side, (num_rows, T + 1), padded."""
        windows = np.full((num_rows, self._num_steps + 1), PADDING, np.int32)
        if (lengths == self._num_steps).all():
            windows[: len(starts)] = rows_at(self._tokens, starts, self._num_steps + 1)
            return windows
        for row, start, length in zip(windows, starts.tolist(), lengths.tolist(), strict=False):
            if length:
                row[: length + 1] = span(self._tokens, start, start + length + 1)
        return windows


def parts_of(batches: Iterable[Batch], rank: int, size: int, first: int = 0) -> Iterator[Part]:
    """The parts of worker `rank` of `size` of all batches, without the first `first`.

    Batches that are not `InParts` are read whole, and those before `first`, too.

    Example:
        >>> batch = Batch(np.zeros((4, 2), np.int32), np.ones((4, 2), np.int32))
        >>> [part.rows for part in parts_of([batch, batch, batch], rank=1, size=2, first=1)]
        [slice(2, 4, None), slice(2, 4, None)]
    """
    if isinstance(batches, InParts):
        return batches.parts(rank, size, first)
    left = islice(batches, first, None)
    return map(Part.whole, left) if size == 1 else (part_of(batch, rank, size) for batch in left)
