"""The optimisers: the step of one parameter, as operations of a compiled training step.

`d2lrnn.contract.optimizers` has the formulas in words, with their sources: torch.optim's. The optimisers of
Keras give other numbers, so none of them is used:

- Adam and AdamW add ε to √v before the correction of v's bias, as in the paper's "epsilon hat"; here it is
  added after it. Keras' default ε is 1e-7.
- RMSprop and Adagrad divide by √(v + ε), not by √v + ε. Keras' defaults are ρ = 0.9 and ε = 1e-7, and
  Adagrad's sum of squares begins at 0.1.
- SGD has the rate inside its momentum, m ← μ m - η g: it differs once the rate changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from d2lrnn.contract import optimizers
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn_tensorflow.gradients import clip_scale
from d2lrnn_tensorflow.recurrence import Tensor

#: What an optimiser remembers of one parameter, by slot: variables.
Slots = Mapping[str, Any]

#: ``step(o, p, g, scale, slots, rate, t)``: the optimiser, the parameter's variable, its gradient, what
#: clipping multiplies that by, the slots, the rate, and the number of the step from 1, in float64.
OptimizerStep = Callable[[Any, Any, Tensor, Tensor, Slots, Tensor, Tensor], None]


def sgd(o: optimizers.SGD, p: Any, g: Tensor, scale: Tensor, slots: Slots, rate: Tensor, t: Tensor) -> None:
    """See `d2lrnn.contract.optimizers.SGD`."""
    if not o.slots and not o.weight_decay:
        p.assign_sub((rate * scale) * g)  # the gradient is multiplied once, not twice
        return
    g = _decayed(o, p, scale * g)
    if o.momentum:
        m = _store(slots["m"], o.momentum * slots["m"] + g)
        g = g + o.momentum * m if o.nesterov else m
    p.assign_sub(rate * g)


def adam(o: optimizers.Adam, p: Any, g: Tensor, scale: Tensor, slots: Slots, rate: Tensor, t: Tensor) -> None:
    """See `d2lrnn.contract.optimizers.Adam`."""
    _adam(o, p, _decayed(o, p, scale * g), slots, rate, t)


def adamw(
    o: optimizers.AdamW, p: Any, g: Tensor, scale: Tensor, slots: Slots, rate: Tensor, t: Tensor
) -> None:
    """See `d2lrnn.contract.optimizers.AdamW`."""
    p.assign_sub(rate * o.weight_decay * p)
    _adam(o, p, scale * g, slots, rate, t)


def rmsprop(
    o: optimizers.RMSprop, p: Any, g: Tensor, scale: Tensor, slots: Slots, rate: Tensor, t: Tensor
) -> None:
    """See `d2lrnn.contract.optimizers.RMSprop`."""
    g = _decayed(o, p, scale * g)
    u = g / (tf.sqrt(_average(slots["v"], o.alpha, g * g)) + o.epsilon)
    if o.momentum:
        u = _store(slots["m"], o.momentum * slots["m"] + u)
    p.assign_sub(rate * u)


def adagrad(
    o: optimizers.Adagrad, p: Any, g: Tensor, scale: Tensor, slots: Slots, rate: Tensor, t: Tensor
) -> None:
    """See `d2lrnn.contract.optimizers.Adagrad`."""
    g = _decayed(o, p, scale * g)
    v = _store(slots["v"], slots["v"] + g * g)
    p.assign_sub(rate * g / (tf.sqrt(v) + o.epsilon))


#: The step of one parameter, by the name of the optimiser.
STEPS: dict[str, OptimizerStep] = {
    optimizers.SGD.name: sgd,
    optimizers.Adam.name: adam,
    optimizers.AdamW.name: adamw,
    optimizers.RMSprop.name: rmsprop,
    optimizers.Adagrad.name: adagrad,
}


def clipped_update(
    training: TrainingSpec,
    parameters: Sequence[Any],
    gradients: Sequence[Tensor],
    slots: Sequence[Slots],
    *,
    rate: Tensor,
    t: Tensor,
) -> Tensor:
    """Clips the gradients, and makes the step of all parameters, in place.

    Args:
        training: the largest norm, and the optimiser.
        parameters: what is trained: variables.
        gradients: of each parameter.
        slots: of each parameter.
        rate: the learning rate, float64.
        t: the number of the step, from 1, float64.

    Returns:
        The norm before clipping, of shape ().
    """
    norm = tf.linalg.global_norm(gradients)
    scale = tf.ones_like(norm) if training.clip is None else clip_scale(norm, training.clip)
    rate = tf.cast(rate, norm.dtype)
    make_step = STEPS[training.optimizer.name]
    for p, g, own in zip(parameters, gradients, slots, strict=True):
        make_step(training.optimizer, p, g, scale, own, rate, t)
    return norm


def _decayed(o: optimizers.Optimizer, p: Any, g: Tensor) -> Tensor:
    return g + o.weight_decay * p if o.weight_decay else g


def _store(slot: Any, value: Tensor) -> Tensor:
    slot.assign(value)
    return value


def _average(mean: Any, decay: float, value: Tensor) -> Tensor:
    """``mean ← decay · mean + (1 - decay) · value``."""
    return _store(mean, decay * mean + (1 - decay) * value)


def _adam(o: optimizers.Adam, p: Any, g: Tensor, slots: Slots, rate: Tensor, t: Tensor) -> None:
    m, v = _average(slots["m"], o.beta1, g), _average(slots["v"], o.beta2, g * g)
    # In float64: 1 - 0.999 has four digits fewer than its terms.
    m_correction, v_correction = (
        tf.cast(1 - tf.constant(beta, tf.float64) ** t, g.dtype) for beta in (o.beta1, o.beta2)
    )
    p.assign_sub(rate * (m / m_correction) / (tf.sqrt(v / v_correction) + o.epsilon))
