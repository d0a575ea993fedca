"""The optimisers' steps; the formulas with their sources are in `d2lrnn.contract.optimizers`.

Each function makes the step of one parameter, in place. It takes the parameter p, its gradient g and its
slots, all in the parameter's own layout; the rate; the number t of the step from 1; and the factor with which
the gradient is clipped, an array () on the device, or 1. The gradient may be overwritten.

They are written out because ``mxnet.optimizer`` gives other numbers:

- ``Adam`` adds epsilon to the root of the second moment before the bias correction ("epsilon hat"): its
  epsilon acts like one 1 / √(1 - β₂ᵗ) times as large in Kingma and Ba's Algorithm 1, at the first step 32
  times with β₂ = 0.999.
- ``RMSProp`` and ``AdaGrad`` add epsilon inside the root; the latter's default is 1e-7.
- The fused operators keep rates and decays as float32 numbers, for float64 parameters too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mxnet import np

from d2lrnn.contract import optimizers
from d2lrnn_mxnet.recurrence import Array

#: What an optimiser remembers of one parameter, by slot.
Slots = Mapping[str, Array]


def sgd(o: optimizers.SGD, p: Array, g: Array, slots: Slots, rate: float, t: int, scale: Any) -> None:
    """See `d2lrnn.contract.optimizers.SGD`."""
    if not (o.momentum or o.weight_decay):
        p -= rate * scale * g  # the factor is one number: the gradient is read once and not written
        return
    g = _decayed(o, p, g, scale)
    if o.momentum:
        m = slots["m"]
        m *= o.momentum
        m += g
        g = g + o.momentum * m if o.nesterov else m
    p -= rate * g


def adam(o: optimizers.Adam, p: Array, g: Array, slots: Slots, rate: float, t: int, scale: Any) -> None:
    """See `d2lrnn.contract.optimizers.Adam`."""
    _adam(o, p, _decayed(o, p, g, scale), slots, rate, t)


def adamw(o: optimizers.AdamW, p: Array, g: Array, slots: Slots, rate: float, t: int, scale: Any) -> None:
    """See `d2lrnn.contract.optimizers.AdamW`."""
    p *= 1 - rate * o.weight_decay
    g *= scale
    _adam(o, p, g, slots, rate, t)


def rmsprop(o: optimizers.RMSprop, p: Array, g: Array, slots: Slots, rate: float, t: int, scale: Any) -> None:
    """See `d2lrnn.contract.optimizers.RMSprop`."""
    g = _decayed(o, p, g, scale)
    v = slots["v"]
    _average(v, o.alpha, g * g)
    u = g / (np.sqrt(v) + o.epsilon)
    if o.momentum:
        m = slots["m"]
        m *= o.momentum
        m += u
        u = m
    p -= rate * u


def adagrad(o: optimizers.Adagrad, p: Array, g: Array, slots: Slots, rate: float, t: int, scale: Any) -> None:
    """See `d2lrnn.contract.optimizers.Adagrad`."""
    g = _decayed(o, p, g, scale)
    v = slots["v"]
    v += g * g
    p -= rate * g / (np.sqrt(v) + o.epsilon)


#: The step of one parameter, by the name of the optimiser.
STEPS: dict[str, Callable[[Any, Array, Array, Slots, float, int, Any], None]] = {
    optimizers.SGD.name: sgd,
    optimizers.Adam.name: adam,
    optimizers.AdamW.name: adamw,
    optimizers.RMSprop.name: rmsprop,
    optimizers.Adagrad.name: adagrad,
}


def _decayed(o: optimizers.Optimizer, p: Array, g: Array, scale: Any) -> Array:
    g *= scale
    if o.weight_decay:
        g += o.weight_decay * p
    return g


def _average(mean: Array, decay: float, value: Array) -> None:
    """``mean ← decay · mean + (1 - decay) · value``; the value is overwritten."""
    mean *= decay
    value *= 1 - decay
    mean += value


def _adam(o: optimizers.Adam, p: Array, g: Array, slots: Slots, rate: float, t: int) -> None:
    m, v = slots["m"], slots["v"]
    _average(v, o.beta2, g * g)
    _average(m, o.beta1, g)
    root = np.sqrt(v)
    # The correction of v is applied to its root, as one factor: one pass less over the array.
    root *= (1 - o.beta2**t) ** -0.5
    root += o.epsilon
    p -= (rate / (1 - o.beta1**t)) * (m / root)
