"""The optimisers' formulas: the reference that every other backend is compared with.

Each function makes the step of one parameter, in place: the parameter p, its gradient g after clipping, which
may be overwritten, its slots, the rate, and the number t of the step from 1. `d2lrnn.contract.optimizers` has
the formulas in words, with their sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from d2lrnn.contract import optimizers
from d2lrnn.contract.values import FloatArray

#: What an optimiser remembers of one parameter, by slot.
Slots = Mapping[str, FloatArray]


def sgd(o: optimizers.SGD, p: FloatArray, g: FloatArray, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.SGD`."""
    g = _decayed(o, p, g)
    if o.momentum:
        m = slots["m"]
        m *= o.momentum
        m += g
        g = g + o.momentum * m if o.nesterov else m.copy()
    g *= rate
    p -= g


def adam(o: optimizers.Adam, p: FloatArray, g: FloatArray, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.Adam`."""
    _adam(o, p, _decayed(o, p, g), slots, rate, t)


def adamw(o: optimizers.AdamW, p: FloatArray, g: FloatArray, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.AdamW`."""
    p *= 1 - rate * o.weight_decay
    _adam(o, p, g, slots, rate, t)


def rmsprop(o: optimizers.RMSprop, p: FloatArray, g: FloatArray, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.RMSprop`."""
    g = _decayed(o, p, g)
    _average(slots["v"], o.alpha, g * g)
    u: FloatArray = g / (np.sqrt(slots["v"]) + o.epsilon)
    if o.momentum:
        m = slots["m"]
        m *= o.momentum
        m += u
        u = m
    p -= rate * u


def adagrad(o: optimizers.Adagrad, p: FloatArray, g: FloatArray, slots: Slots, rate: float, t: int) -> None:
    """See `d2lrnn.contract.optimizers.Adagrad`."""
    g = _decayed(o, p, g)
    v = slots["v"]
    v += g * g
    p -= rate * g / (np.sqrt(v) + o.epsilon)


#: The step of one parameter.
Step = Callable[[Any, FloatArray, FloatArray, Slots, float, int], None]

#: Those of the optimisers, by name.
STEPS: dict[str, Step] = {
    optimizers.SGD.name: sgd,
    optimizers.Adam.name: adam,
    optimizers.AdamW.name: adamw,
    optimizers.RMSprop.name: rmsprop,
    optimizers.Adagrad.name: adagrad,
}


def _decayed(o: optimizers.Optimizer, p: FloatArray, g: FloatArray) -> FloatArray:
    return g + o.weight_decay * p if o.weight_decay else g


def _average(mean: FloatArray, decay: float, value: FloatArray) -> None:
    """``mean ← decay · mean + (1 - decay) · value``."""
    mean *= decay
    mean += (1 - decay) * value


def _adam(o: optimizers.Adam, p: FloatArray, g: FloatArray, slots: Slots, rate: float, t: int) -> None:
    m, v = slots["m"], slots["v"]
    _average(m, o.beta1, g)
    _average(v, o.beta2, g * g)
    p -= rate * (m / (1 - o.beta1**t)) / (np.sqrt(v / (1 - o.beta2**t)) + o.epsilon)
