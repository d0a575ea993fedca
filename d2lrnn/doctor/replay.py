"""The steps of an optimiser made again, as they were meant or with something wrong in them.

The formula of a step is that of the backend that all others are compared with. What is wrong is put into what
that formula is given: its gradient, its epsilon, its number of the step. So there is no second formula here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Protocol, cast

import numpy as np

from d2lrnn.contract.clipping import clip_scale, global_norm
from d2lrnn.contract.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.registry import backend

#: The backend whose formulas are the reference.
_REFERENCE = "numpy"

#: The step of one parameter in place: optimiser, parameter, gradient, slots, rate, number of the step.
Step = Callable[[Any, FloatArray, FloatArray, Mapping[str, FloatArray], float, int], None]

#: A number of the step at which no decay is left to correct.
_LATE = 1_000_000_000

#: What `clip_grad_norm_` and the like add to the norm.
_ADDED = 1e-6

#: So many numbers of a parameter are enough to tell one rule from another.
_SAMPLE = 64


class _SteppingBackend(Backend, Protocol):
    """A backend that offers its optimisers' formulas."""

    def optimizer_steps(self) -> Mapping[str, Step]:
        """The step of one parameter, by the name of the optimiser."""


@cache
def _steps() -> Mapping[str, Step]:
    return cast(_SteppingBackend, backend(_REFERENCE)).optimizer_steps()


@dataclass(frozen=True)
class Rule:
    """How parameters are stepped; by default as it is meant.

    Attributes:
        optimizer: with its settings.
        rate: the learning rate.
        clip: the clipping norm, or None.
        clipping: what is clipped: the global norm of the sum, the norm of each worker's gradient, that of
            each parameter's, every number by itself, or the global norm with a small number added to it.
        gradient: what the gradients are multiplied by.
        corrected: whether the moments are corrected for beginning at zero.
        epsilon: where it is added: to the root, within it, or to the root of the uncorrected moment.
        decay: whether weight decay is as the optimiser has it, or in the gradient where it belongs beside it,
            and the other way round.
        dampened: whether the gradient is dampened in the momentum: never, from the second step on, always.
        accumulated: what the mean square begins with.
    """

    optimizer: Optimizer
    rate: float
    clip: float | None
    clipping: Literal["norm", "each worker", "each parameter", "value", "norm and a little"] = "norm"
    gradient: float = 1.0
    corrected: bool = True
    epsilon: Literal["outside", "inside", "uncorrected"] = "outside"
    decay: Literal["meant", "other"] = "meant"
    dampened: Literal["never", "later", "always"] = "never"
    accumulated: float = 0.0

    @classmethod
    def of(cls, training: TrainingSpec) -> Rule:
        """What a specification means."""
        return cls(training.optimizer, training.learning_rate, training.clip)


class Replay:
    """Steps that can be made again by any rule, of all numbers or of some of them.

    Args:
        before: the parameters before the first step.
        steps: of each step the gradients of all workers.
        sampled: whether to step some of the numbers only; norms are of all of them.
    """

    def __init__(
        self, before: Parameters, steps: Sequence[Sequence[Parameters]], sampled: bool = False
    ) -> None:
        self._chosen = {
            name: np.unique(np.linspace(0, array.size - 1, min(array.size, _SAMPLE)).astype(int))
            if sampled
            else slice(None)
            for name, array in before.items()
        }
        self._shapes = {name: (-1,) if sampled else np.shape(array) for name, array in before.items()}
        self.before = self.of(before)
        self._steps = [_Gradients([self.of(part) for part in parts], _norms(parts)) for parts in steps]

    def of(self, arrays: Parameters) -> dict[str, FloatArray]:
        """The numbers of some arrays that are stepped, in float64."""
        return {
            name: np.asarray(arrays[name], np.float64).ravel()[self._chosen[name]].reshape(self._shapes[name])
            for name in self._chosen
        }

    def after(self, rule: Rule) -> dict[str, FloatArray]:
        """The parameters after the last step."""
        values = {name: array.copy() for name, array in self.before.items()}
        slots = {
            name: {
                slot: np.full_like(array, rule.accumulated if slot == "v" else 0.0)
                for slot in rule.optimizer.slots
            }
            for name, array in values.items()
        }
        for t, gradients in enumerate(self._steps, start=1):
            for name, g in gradients.clipped(rule).items():
                _step(rule, values[name], g, slots[name], t)
        return values


@dataclass(frozen=True)
class _Norms:
    """The norms of a step: of the sum, of each worker's part, and of each parameter of the sum."""

    whole: float
    parts: tuple[float, ...]
    parameters: dict[str, float]


def _norms(parts: Sequence[Parameters]) -> _Norms:
    doubles = [{name: np.asarray(g, np.float64) for name, g in part.items()} for part in parts]
    total: dict[str, FloatArray] = {
        name: np.sum([part[name] for part in doubles], axis=0) for name in doubles[0]
    }
    return _Norms(
        global_norm(total.values()),
        tuple(global_norm(part.values()) for part in doubles),
        {name: global_norm([g]) for name, g in total.items()},
    )


@dataclass(frozen=True)
class _Gradients:
    parts: list[dict[str, FloatArray]]
    norms: _Norms

    def clipped(self, rule: Rule) -> dict[str, FloatArray]:
        """The gradient of a step as the optimiser is given it."""
        scale, theta, norms = rule.gradient, rule.clip, self.norms
        total: dict[str, FloatArray] = {}
        for part, norm in zip(self.parts, norms.parts, strict=True):
            own = scale * (clip_scale(abs(scale) * norm, theta) if rule.clipping == "each worker" else 1.0)
            for name, g in part.items():
                total[name] = total[name] + own * g if name in total else own * g
        if theta is None or rule.clipping == "each worker":
            return total
        if rule.clipping == "value":
            return {name: np.clip(g, -theta, theta) for name, g in total.items()}
        if rule.clipping == "each parameter":
            return {
                name: clip_scale(abs(scale) * norms.parameters[name], theta) * g for name, g in total.items()
            }
        whole = abs(scale) * norms.whole
        factor = clip_scale(whole, theta)
        if rule.clipping == "norm and a little":
            factor = min(1.0, theta / (whole + _ADDED))
        return {name: factor * g for name, g in total.items()}


def _step(rule: Rule, p: FloatArray, g: FloatArray, slots: Mapping[str, FloatArray], t: int) -> None:
    """One step of one parameter, in place."""
    o = rule.optimizer
    if rule.decay == "other":
        o = _with_other_decay(rule, o, p)
    if rule.dampened == "always" or (rule.dampened == "later" and t > 1):
        assert isinstance(o, SGD | RMSprop)
        o, g = replace(o, weight_decay=(1 - o.momentum) * o.weight_decay), (1 - o.momentum) * g
    number = t if rule.corrected else _LATE
    if rule.epsilon != "outside":
        o = _with_epsilon(rule, o, p, g, slots, number)
    _steps()[o.name](o, p, g.copy(), slots, rule.rate, number)


def _with_other_decay(rule: Rule, o: Optimizer, p: FloatArray) -> Optimizer:
    """The optimiser with its weight decay in the gradient, or with that done to the parameter already."""
    if isinstance(o, AdamW):
        return Adam(o.weight_decay, o.beta1, o.beta2, o.epsilon)
    p *= 1 - rule.rate * o.weight_decay
    return replace(o, weight_decay=0.0)


def _with_epsilon(
    rule: Rule, o: Any, p: FloatArray, g: FloatArray, slots: Mapping[str, FloatArray], number: int
) -> Any:
    """The optimiser with an epsilon that, added to the root, is what was added elsewhere."""
    correction = 1 - o.beta2**number if isinstance(o, Adam) else 1.0
    found = copy.copy(o)
    if rule.epsilon == "uncorrected":
        object.__setattr__(found, "epsilon", o.epsilon / np.sqrt(correction))
        return found
    # The mean square of this step is known once the step was made: of copies.
    tried = {name: slot.copy() for name, slot in slots.items()}
    _steps()[o.name](o, p.copy(), g.copy(), tried, rule.rate, number)
    v = tried["v"] / correction
    object.__setattr__(found, "epsilon", np.sqrt(v + o.epsilon) - np.sqrt(v))
    return found
