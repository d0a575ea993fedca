"""The values that cross the border between the core and a backend.

Shapes are written with B = batch size, T = time steps, V = vocabulary size, h = hidden units, L = layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, SupportsFloat, TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int32]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

#: Canonical parameter names to arrays; `d2lrnn.contract.parameters` defines the names and the layout.
Parameters: TypeAlias = Mapping[str, FloatArray]

#: A state as NumPy arrays: ``(h,)``, for an LSTM ``(h, c)``, each of shape (L, B, h).
StateArrays: TypeAlias = tuple[FloatArray, ...]

#: A backend's own hidden state. The core hands it back untouched.
State: TypeAlias = Any

#: A backend's own language model.
Model: TypeAlias = Any

Implementation = Literal["scratch", "concise"]
DType = Literal["float32", "float64"]

#: In `Batch.targets`: this position is padding and counts for nothing.
PADDING = -1


class Batch(NamedTuple):
    """A minibatch of token sequences and, for every token, the one that follows it.

    Attributes:
        inputs: int32 (B, T), token indices in [0, V).
        targets: int32 (B, T), token indices in [0, V), or `PADDING` where the batch was filled up: a padded
            position has no loss and no gradient.
    """

    inputs: IntArray
    targets: IntArray

    @property
    def num_tokens(self) -> int:
        """How many targets are not padding: what a sum of losses is divided by."""
        return int(np.count_nonzero(self.targets >= 0))

    def rows(self, rows: slice) -> Batch:
        """A part of the batch."""
        return Batch(self.inputs[rows], self.targets[rows])


class StepResult(NamedTuple):
    """What a training step gives back, as native scalars: no host sync until ``float()`` is called.

    Attributes:
        loss: mean cross-entropy over the tokens that are not padding, in nats per token, before the update.
        grad_norm: the Euclidean norm of all gradients together, before clipping.
    """

    loss: SupportsFloat
    grad_norm: SupportsFloat


class Device(NamedTuple):
    """A device that a backend can compute on: ``Device("gpu:0", "NVIDIA H200")``."""

    name: str
    description: str


def row_slices(batch_size: int, parts: int) -> list[slice]:
    """Cuts a batch into at most `parts` slices of ceil(batch_size / parts) rows; the last may be shorter.

    Example:
        >>> row_slices(5, 2)
        [slice(0, 3, None), slice(3, 5, None)]
    """
    size = -(-batch_size // parts)
    return [slice(start, min(start + size, batch_size)) for start in range(0, batch_size, size)]
