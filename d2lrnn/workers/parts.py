"""Which rows of a batch a worker computes.

Every worker takes ceil(B / N) rows of a batch of B, in the order of their ranks. Where N does not divide B
the last rows are padding: they have no loss and no gradient, and so all workers compute with the same shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.dropout import DropoutMasks, dropout_masks
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import PADDING, Batch, FloatArray, StateArrays


@dataclass(frozen=True)
class Part:
    """The rows of a batch that one worker computes.

    Attributes:
        batch: these rows, filled up with padding.
        rows: where they lie in the whole batch; they may reach beyond its end.
        batch_size: B, the rows of the whole batch.
        num_tokens: the targets of the whole batch that are not padding: the sum of the losses of a part
            divided by it is the part's share of the mean.
    """

    batch: Batch
    rows: slice
    batch_size: int
    num_tokens: int

    @classmethod
    def whole(cls, batch: Batch) -> Part:
        """All rows: the part of a worker that is alone."""
        return cls(batch, slice(0, len(batch.inputs)), len(batch.inputs), batch.num_tokens)


def part_of(batch: Batch, rank: int, size: int) -> Part:
    """The rows of a batch that worker `rank` of `size` computes.

    Example:
        >>> tokens = np.arange(6, dtype=np.int32).reshape(3, 2)
        >>> part = part_of(Batch(tokens, tokens), 1, 2)
        >>> part.batch.targets.tolist(), part.num_tokens
        ([[4, 5], [-1, -1]], 6)
    """
    rows = rows_of(len(batch.inputs), rank, size)
    inputs = _filled(batch.inputs[rows], rows, 0, 0)
    targets = _filled(batch.targets[rows], rows, 0, PADDING)
    return Part(Batch(inputs, targets), rows, len(batch.inputs), batch.num_tokens)


def rows_of(batch_size: int, rank: int, size: int) -> slice:
    """The rows of worker `rank`; they may reach beyond the end of the batch.

    Example:
        >>> rows_of(5, 1, 2)
        slice(3, 6, None)
    """
    each = -(-batch_size // size)
    return slice(rank * each, (rank + 1) * each)


def own_state(state: StateArrays, rows: slice) -> StateArrays:
    """A worker's rows of the state of a whole batch: of arrays (L, B, h)."""
    return tuple(_filled(array[:, rows], rows, 1, 0) for array in state)


def joined_state(states: FloatArray, batch_size: int) -> FloatArray:
    """The state of a whole batch (L, B, h), from those of all workers (N, L, ceil(B / N), h)."""
    return np.ascontiguousarray(np.concatenate(list(states), axis=1)[:, :batch_size])


def part_masks(spec: ModelSpec, part: Part, *, seed: int, step: int) -> DropoutMasks | None:
    """A worker's rows of the masks that are drawn for the whole batch; see `dropout_masks`."""
    num_steps = part.batch.inputs.shape[1]
    masks = dropout_masks(spec, seed=seed, step=step, num_steps=num_steps, batch_size=part.batch_size)
    if masks is None or part.rows == slice(0, part.batch_size):
        return masks
    own = masks.rows(part.rows)
    return DropoutMasks(*(None if mask is None else _filled(mask, part.rows, -2, 0) for mask in own))


def _filled(array: npt.NDArray[Any], rows: slice, axis: int, value: int) -> npt.NDArray[Any]:
    """`array` with further rows of `value`, so that it has as many as `rows` names; a copy."""
    missing = rows.stop - rows.start - array.shape[axis]
    if not missing:
        return array.copy()
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, missing)
    return np.pad(array, widths, constant_values=value)
