"""The size of a gradient, and clipping it."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax import numpy as jnp


def global_norm(gradient: Any) -> jax.Array:
    """The Euclidean norm of all gradients taken as one vector."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(part)) for part in jax.tree.leaves(gradient)))


def clip(gradient: Any, theta: float | jax.Array) -> Any:
    """The gradients times ``theta / max(norm, theta)`` (`d2lrnn.contract.clipping`)."""
    scale = theta / jnp.maximum(global_norm(gradient), theta)
    return jax.tree.map(lambda part: scale * part, gradient)


def clip_to_norm(theta: float | None) -> optax.GradientTransformation:
    """`clip` as an optimizer's first part; None never clips.

    `optax.clip_by_global_norm` divides and multiplies each entry in turn, which rounds otherwise.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return clip(updates, theta), state

    return optax.identity() if theta is None else optax.GradientTransformation(optax.init_empty_state, update)
