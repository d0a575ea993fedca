"""The optimisers' formulas in PyTorch, with the numbers of torch.optim.

Each function makes the step of one parameter, in place: the parameter p, its gradient g after clipping, its
slots, the rate, and the number t of the step from 1. `d2lrnn.contract.optimizers` has the formulas with their
sources. They are not torch.optim's own classes, which count the steps themselves and keep their state in
another form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from d2lrnn.contract import optimizers
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn_torch.gradients import clip_scale, global_norm

#: What an optimiser remembers of one parameter, by slot.
Slots = Mapping[str, Tensor]


def sgd(o: optimizers.SGD, p: Tensor, g: Tensor, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.SGD`."""
    g = _decayed(o, p, g)
    if o.momentum:
        m = slots["m"].mul_(o.momentum).add_(g)
        g = g.add(m, alpha=o.momentum) if o.nesterov else m
    p.add_(g, alpha=-rate)


def adam(o: optimizers.Adam, p: Tensor, g: Tensor, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.Adam`."""
    _adam(o, p, _decayed(o, p, g), slots, rate, t)


def adamw(o: optimizers.AdamW, p: Tensor, g: Tensor, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.AdamW`."""
    p.mul_(1 - rate * o.weight_decay)
    _adam(o, p, g, slots, rate, t)


def rmsprop(o: optimizers.RMSprop, p: Tensor, g: Tensor, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.RMSprop`."""
    g = _decayed(o, p, g)
    root = _mean_square(slots["v"], o.alpha, g).sqrt().add_(o.epsilon)
    if o.momentum:
        p.add_(slots["m"].mul_(o.momentum).addcdiv_(g, root), alpha=-rate)
    else:
        p.addcdiv_(g, root, value=-rate)


def adagrad(o: optimizers.Adagrad, p: Tensor, g: Tensor, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.Adagrad`."""
    g = _decayed(o, p, g)
    root = slots["v"].addcmul_(g, g).sqrt().add_(o.epsilon)
    p.addcdiv_(g, root, value=-rate)


#: The step of one parameter, by the name of the optimiser.
STEPS: dict[str, Callable[[Any, Tensor, Tensor, Slots, float, int], None]] = {
    optimizers.SGD.name: sgd,
    optimizers.Adam.name: adam,
    optimizers.AdamW.name: adamw,
    optimizers.RMSprop.name: rmsprop,
    optimizers.Adagrad.name: adagrad,
}


def clipped_update(
    training: TrainingSpec,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    slots: Sequence[Slots],
    *,
    rate: float,
    t: int,
) -> Tensor:
    """Clips the gradients, and makes the step of all parameters, in place.

    Args:
        training: the largest norm, and the optimiser.
        parameters: what is trained.
        gradients: of each parameter.
        slots: of each parameter.
        rate: the learning rate.
        t: the number of the step, from 1.

    Returns:
        The norm before clipping, a tensor of shape ().
    """
    norm = global_norm(gradients)
    scale = clip_scale(norm, training.clip)
    update(training.optimizer, parameters, gradients, slots, scale=scale, rate=rate, t=t)
    return norm


@torch.no_grad()
def update(
    optimizer: optimizers.Optimizer,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    slots: Sequence[Slots],
    *,
    scale: Tensor,
    rate: float,
    t: int,
) -> None:
    """The step of all parameters, in place.

    Args:
        optimizer: which.
        parameters: what is trained.
        gradients: of each parameter, before clipping.
        slots: of each parameter.
        scale: what clipping multiplies the gradients by, a tensor of shape ().
        rate: the learning rate.
        t: the number of the step, from 1.
    """
    if optimizer == optimizers.SGD():
        # benchmarks/tricks: torch, gradients scaled while they are added
        # Without momentum and decay the clipped gradient is used once: it need not be written to memory.
        step = rate * scale
        for p, g in zip(parameters, gradients, strict=True):
            p.addcmul_(g, step, value=-1)
        return
    make_step = STEPS[optimizer.name]
    for p, g, own in zip(parameters, gradients, slots, strict=True):
        make_step(optimizer, p, g * scale, own, rate, t)


def _decayed(o: optimizers.Optimizer, p: Tensor, g: Tensor) -> Tensor:
    return g.add(p, alpha=o.weight_decay) if o.weight_decay else g


def _mean_square(v: Tensor, decay: float, g: Tensor) -> Tensor:
    """``v ← decay · v + (1 - decay) · g²``."""
    return v.mul_(decay).addcmul_(g, g, value=1 - decay)


def _adam(o: optimizers.Adam, p: Tensor, g: Tensor, slots: Slots, rate: float, t: int) -> None:
    m = slots["m"].lerp_(g, 1 - o.beta1)
    v = _mean_square(slots["v"], o.beta2, g)
    root = (v.sqrt() / (1 - o.beta2**t) ** 0.5).add_(o.epsilon)
    p.addcdiv_(m, root, value=-rate / (1 - o.beta1**t))
