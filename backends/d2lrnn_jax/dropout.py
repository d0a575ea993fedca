"""Dropout by given masks, or by flax' own generator where there are none."""

from __future__ import annotations

import jax
from flax import linen as nn


def drop(layer: nn.Dropout, x: jax.Array, mask: jax.Array | None, training: bool) -> jax.Array:
    """`x` with dropout.

    Args:
        layer: draws from the stream ``"dropout"`` where there is no mask and `training` is on.
        x: activations.
        mask: what multiplies them (`d2lrnn.contract.dropout`), in place of `layer`.
        training: whether `layer` drops.
    """
    if mask is not None:
        return x * mask
    dropped: jax.Array = layer(x, deterministic=not training)
    return dropped
