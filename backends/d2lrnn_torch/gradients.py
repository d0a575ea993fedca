"""Clipping by the global norm, in place."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip(parameters: Iterable[Tensor], theta: float) -> None:
    """Multiplies all gradients by `clip_scale`: their common norm is at most theta then.

    Args:
        parameters: those whose gradients are meant; one without a gradient is passed over.
        theta: the largest norm.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    # On the device: to compare numbers Python would wait for it.
    scale = theta / norm.clamp(min=theta)
    for gradient in gradients:
        gradient.mul_(scale)
