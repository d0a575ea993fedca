"""Clipping by the global norm."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp


def global_norm(gradient: Any) -> jax.Array:
    """The Euclidean norm of all gradients taken as one vector."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(part)) for part in jax.tree.leaves(gradient)))


def clip(gradient: Any, theta: float | jax.Array | None) -> Any:
    """The gradients times ``theta / max(norm, theta)`` (`d2lrnn.contract.clipping`); None never clips.

    `optax.clip_by_global_norm` divides and multiplies each entry in turn, which rounds differently.

    Example:
        >>> clip({"w": jnp.array([3.0, 4.0])}, 1.0)["w"].tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    if theta is None:
        return gradient
    scale = theta / jnp.maximum(global_norm(gradient), theta)
    return jax.tree.map(lambda part: scale * part, gradient)
