"""Clipping by the global norm: the formula of `d2lrnn.contract.clipping`, on the device.

Nothing here compares numbers in Python, which would wait for the device.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def global_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients taken as one vector, a tensor of shape ()."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))


def clip_scale(norm: Tensor, theta: float | None) -> Tensor:
    """The factor for a gradient of this norm: ``theta / max(norm, theta)``, or 1 without theta.

    Example:
        >>> clip_scale(torch.tensor(4.0), 1.0)
        tensor(0.2500)
    """
    return torch.ones_like(norm) if theta is None else theta / norm.clamp(min=theta)


@torch.no_grad()
def clip(parameters: Iterable[Tensor], theta: float) -> None:
    """Scales all gradients in place so that their global norm is at most theta.

    Args:
        parameters: the owners of the gradients; those without a gradient are skipped.
        theta: the largest norm.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    scale = clip_scale(global_norm(gradients), theta)
    for gradient in gradients:
        gradient.mul_(scale)
