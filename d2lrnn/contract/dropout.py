"""Dropout masks, drawn once for all backends.

A framework's own generator would give every backend other masks, and a resumed run other ones than a run
in one go. A mask here depends on nothing but the seed, the training step and its shape, so that losses agree
from backend to backend with dropout on, and a step can be repeated by its number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import DType, FloatArray

_LEVELS = 1 << 16

#: Where the streams of the three kinds of masks begin, apart from each other in the generator's counter.
_BETWEEN, _INPUTS, _OUTPUTS = 0, 1, 2


class DropoutMasks(NamedTuple):
    """What multiplies activations in one training step; each is None where nothing is dropped.

    Entries are 0 or 1 / (1 - p).

    Attributes:
        inputs: (T, B, E), of the embedding.
        between: (L - 1, T, B, h), of the outputs of all layers but the last.
        outputs: (T, B, h), of the outputs of the last layer, before the head.
    """

    inputs: FloatArray | None = None
    between: FloatArray | None = None
    outputs: FloatArray | None = None

    def rows(self, rows: slice) -> DropoutMasks:
        """The masks of a part of the batch."""
        return DropoutMasks(*(None if mask is None else mask[..., rows, :] for mask in self))


def dropout_masks(
    spec: ModelSpec, *, seed: int, step: int, num_steps: int, batch_size: int
) -> DropoutMasks | None:
    """The masks of one training step, for the whole batch.

    Inverted dropout: a unit is kept with probability 1 - p and then scaled by 1 / (1 - p), so that evaluation
    needs no scaling (Srivastava et al. 2014, section 10). Every mask is drawn anew at every time step.

    Args:
        spec: the model; its rates are exact to 1/65536.
        seed: the run's.
        step: how many training steps came before.
        num_steps: T.
        batch_size: B.

    Returns:
        Masks of `spec.dtype`; None where nothing at all is dropped.
    """
    T, B, h = num_steps, batch_size, spec.num_hiddens
    masks = DropoutMasks(
        dropout_mask(spec.dtype, spec.input_dropout, seed, step, _INPUTS, (T, B, spec.embedding_size or 0)),
        dropout_mask(spec.dtype, spec.dropout, seed, step, _BETWEEN, (spec.num_layers - 1, T, B, h)),
        dropout_mask(spec.dtype, spec.output_dropout, seed, step, _OUTPUTS, (T, B, h)),
    )
    return None if all(mask is None for mask in masks) else masks


def dropout_mask(
    dtype: DType, rate: float, seed: int, step: int, stream: int, shape: tuple[int, ...]
) -> FloatArray | None:
    """One mask; None where nothing is dropped. Masks of one step have streams of their own, from 0."""
    size = int(np.prod(shape))
    if rate == 0 or size == 0:
        return None
    # Raw bits of a counter-based generator: the stream is fixed by its definition, whatever NumPy's version.
    bits = np.random.Philox(key=[seed, step], counter=[0, 0, 0, stream]).random_raw(-(-size // 4))
    draws = np.ascontiguousarray(bits, dtype="<u8").view("<u2")[:size]
    mask = (draws >= round(rate * _LEVELS)).astype(dtype)
    mask *= 1.0 / (1.0 - rate)
    return mask.reshape(shape)
