"""How the learning rate changes in the course of a run.

A schedule is a frozen value without a state: the factor of a step follows from the step's number and, for
`Plateau`, from the validation losses so far. So a run that is resumed needs nothing but its history.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class Constant:
    """The same rate at every step; with a linear warm-up, which every other schedule can have, too.

    Attributes:
        warmup: the number of steps in which the rate rises in equal parts: the first has 1/warmup of it, the
            last the whole (Goyal et al. 2017, section 2.2). 0 begins with the whole rate.

    Raises:
        SpecError: a number is out of its range.

    Example:
        >>> [Constant(warmup=4).factor(step, []) for step in range(6)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    #: What ``--schedule`` calls it.
    name: ClassVar[str] = "constant"

    warmup: int = 0

    def __post_init__(self) -> None:
        _check(self, "warmup", self.warmup >= 0, "0 or above")

    def factor(self, step: int, validation: Sequence[float]) -> float:
        """What the learning rate is multiplied by.

        Args:
            step: the training step, from 0.
            validation: the validation losses of the whole epochs so far, in nats per token.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self._decay(step - self.warmup, validation)

    def _decay(self, step: int, validation: Sequence[float]) -> float:
        """The factor of the steps after the warm-up, which are counted from 0."""
        return 1.0

    def to_json(self) -> dict[str, Any]:
        """The schedule as plain data; `SCHEDULES` has its class by the name."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class Cosine(Constant):
    """From the whole rate to a part of it along half a cosine (Loshchilov and Hutter 2017, equation 5).

    ``final + (1 - final) · (1 + cos(π t / T)) / 2`` for t of T steps, and `final` from there on.

    Attributes:
        steps: the training steps from the beginning to the end of the decay, warm-up included.
        final: the part of the rate that is left at the end.

    Example:
        >>> [round(Cosine(steps=4).factor(step, []), 3) for step in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    name = "cosine"

    steps: int = 1000
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "steps", self.steps > self.warmup, f"more than those of the warm-up, {self.warmup}")
        _check(self, "final", 0 <= self.final <= 1, "at least 0 and at most 1")

    def _decay(self, step: int, validation: Sequence[float]) -> float:
        done = min(1.0, step / (self.steps - self.warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class StepDecay(Constant):
    """The rate times gamma after every so many steps: ``gamma ** (t // every)``.

    Attributes:
        every: the number of steps.
        gamma: the factor.

    Example:
        >>> [StepDecay(every=2, gamma=0.5).factor(step, []) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    name = "step"

    every: int = 1000
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "every", self.every >= 1, "at least 1")
        _check(self, "gamma", 0 < self.gamma <= 1, "above 0 and at most 1")

    def _decay(self, step: int, validation: Sequence[float]) -> float:
        factor: float = self.gamma ** (step // self.every)
        return factor


@dataclass(frozen=True)
class Exponential(StepDecay):
    """The same decay without jumps: ``gamma ** (t / every)``.

    Example:
        >>> [round(Exponential(every=2, gamma=0.25).factor(step, []), 3) for step in range(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    name = "exponential"

    def _decay(self, step: int, validation: Sequence[float]) -> float:
        factor: float = self.gamma ** (step / self.every)
        return factor


@dataclass(frozen=True)
class Plateau(Constant):
    """The rate times gamma each time that the validation loss has not fallen for a while.

    As torch.optim's ReduceLROnPlateau without a cool-down: an epoch is an improvement where its loss is below
    ``(1 - threshold) · best``; after more than `patience` epochs in a row without one the rate falls, and the
    count begins anew.

    Attributes:
        patience: how many epochs without improvement are waited for.
        gamma: the factor.
        threshold: the part by which a loss must be lower.

    Example:
        >>> Plateau(patience=1, gamma=0.5).factor(50, [2.0, 1.5, 1.6, 1.7])
        0.5
    """

    name = "plateau"

    patience: int = 10
    gamma: float = 0.1
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "patience", self.patience >= 0, "0 or above")
        _check(self, "gamma", 0 < self.gamma <= 1, "above 0 and at most 1")
        _check(self, "threshold", 0 <= self.threshold < 1, "at least 0 and below 1")

    def _decay(self, step: int, validation: Sequence[float]) -> float:
        best, waited, falls = math.inf, 0, 0
        for loss in validation:
            if loss < best * (1 - self.threshold):
                best, waited = loss, 0
            else:
                waited += 1
            if waited > self.patience:
                falls, waited = falls + 1, 0
        factor: float = self.gamma**falls
        return factor


#: All schedules, by name.
SCHEDULES: dict[str, type[Constant]] = {
    kind.name: kind for kind in (Constant, Cosine, StepDecay, Exponential, Plateau)
}


def find_schedule(name: str) -> type[Constant]:
    """The schedule called `name`.

    Raises:
        SpecError: there is none; the message lists those that there are.
    """
    if name not in SCHEDULES:
        raise SpecError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def _check(schedule: Constant, what: str, fits: bool, range_: str) -> None:
    if not fits:
        raise SpecError(
            f"{what} of the {schedule.name} schedule is {getattr(schedule, what)}: it must be {range_}"
        )
