"""Gradient clipping by the global norm: the formula, once (Pascanu, Mikolov and Bengio 2013)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from d2lrnn.contract.values import FloatArray


def global_norm(gradients: Iterable[FloatArray]) -> float:
    """The Euclidean norm of all gradients taken as one vector, in float64."""
    return float(np.sqrt(sum(float(np.vdot(g, g)) for g in gradients)))


def clip_scale(norm: float, theta: float | None) -> float:
    """What a gradient of this norm is multiplied by so that its norm is at most theta.

    ``theta / max(norm, theta)``: exactly 1 below theta, with no epsilon added to the norm. Every backend
    computes this formula; theta None never clips.

    Example:
        >>> clip_scale(4.0, 1.0), clip_scale(0.5, 1.0)
        (0.25, 1.0)
    """
    return 1.0 if theta is None else theta / max(norm, theta)
