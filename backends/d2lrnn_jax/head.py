"""The loss of the output layer, with its gradient at the logits as they are at hand.

At a vocabulary of words the logits (T·B, V) are larger than all the rest. The gradient that JAX derives
computes the exponentials twice, and scatters each target's part into an array of zeros, one more of that
size.
"""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax import numpy as jnp

#: The least vocabulary for which it is so: narrower rows are no burden, and fused by XLA they are as fast.
_WIDE = 256


def summed_loss(H: jax.Array, w: jax.Array, b: jax.Array, targets: jax.Array) -> jax.Array:
    """The sum of the cross-entropies, in nats, of logits ``o = H w + b``: Σ log Σ_j exp(o_j) - o_y.

    Args:
        H: (T, B, h).
        w: (h, V).
        b: (V,).
        targets: y (T, B); where it is negative, there is padding, and the loss is 0.

    Example:
        >>> loss = summed_loss(jnp.zeros((2, 1, 3)), jnp.ones((3, 4)), jnp.zeros(4), jnp.array([[1], [-1]]))
        >>> round(float(loss), 4)
        1.3863
    """
    if w.shape[1] >= _WIDE:
        return _summed_loss(H, w, b, targets)
    losses = optax.softmax_cross_entropy_with_integer_labels(H @ w + b, jnp.maximum(targets, 0))
    return jnp.sum(losses, where=targets >= 0)


# benchmarks/tricks: jax, the head's loss with its gradient
@jax.custom_vjp
def _summed_loss(H: jax.Array, w: jax.Array, b: jax.Array, targets: jax.Array) -> jax.Array:
    return _forward(H, w, b, targets)[0]


def _forward(H: jax.Array, w: jax.Array, b: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
    rows, y = H.reshape(-1, H.shape[-1]), targets.reshape(-1)
    logits = rows @ w + b
    largest = logits.max(axis=-1, keepdims=True)
    exponentials = jnp.exp(logits - largest)
    sums = exponentials.sum(axis=-1, keepdims=True)
    there, index = y >= 0, jnp.maximum(y, 0)
    picked = jnp.take_along_axis(logits, index[:, None], axis=-1)
    loss = jnp.sum(jnp.log(sums) + largest - picked, where=there[:, None])
    d_logits = exponentials * (there[:, None] / sums)
    return loss, (H, w, d_logits.at[jnp.arange(len(y)), index].add(-there.astype(H.dtype)))


def _backward(residuals: Any, d: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    H, w, d_logits = residuals
    rows = H.reshape(-1, H.shape[-1])
    d_H, d_w = (d_logits @ w.T).reshape(H.shape), rows.T @ d_logits
    return d_H * d, d_w * d, d_logits.sum(axis=0) * d, None


_summed_loss.defvjp(_forward, _backward)
