"""Dropout masks, drawn once for all backends.

A framework's own generator would give every backend other masks, and a resumed run other ones than a run
in one go. A mask here depends on nothing but the seed, the training step and its shape, so that losses agree
from backend to backend with dropout on, and a step can be repeated by its number.
"""

from __future__ import annotations

import numpy as np

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray

_LEVELS = 1 << 16


def dropout_masks(
    spec: ModelSpec, *, seed: int, step: int, num_steps: int, batch_size: int
) -> FloatArray | None:
    """The masks that multiply the outputs of all layers but the last in one training step.

    Inverted dropout: a unit is kept with probability 1 - p and then scaled by 1 / (1 - p), so that evaluation
    needs no scaling (Srivastava et al. 2014, section 10).

    Args:
        spec: the model; its `dropout` is p, exact to 1/65536.
        seed: the run's.
        step: how many training steps came before.
        num_steps: T.
        batch_size: B.

    Returns:
        (L - 1, T, B, h) of `spec.dtype` with entries 0 or 1 / (1 - p); None where nothing is dropped.
    """
    if spec.dropout == 0 or spec.num_layers == 1:
        return None
    shape = (spec.num_layers - 1, num_steps, batch_size, spec.num_hiddens)
    size = int(np.prod(shape))
    # Raw bits of a counter-based generator: the stream is fixed by its definition, whatever NumPy's version.
    bits = np.random.Philox(key=[seed, step]).random_raw(-(-size // 4))
    draws = np.ascontiguousarray(bits, dtype="<u8").view("<u2")[:size]
    kept = draws >= round(spec.dropout * _LEVELS)
    masks = kept.astype(spec.dtype)
    masks *= 1.0 / (1.0 - spec.dropout)
    return masks.reshape(shape)
