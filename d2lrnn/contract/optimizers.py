"""The optimisers: what a training step does with the clipped gradient, as frozen values.

The formulas are those of torch.optim (https://pytorch.org/docs/stable/optim.html). p is a parameter, g its
gradient after clipping, η the rate of the step, t the number of the step from 1, λ the weight decay; all is
done element by element. But for `AdamW`, weight decay is the gradient of ``λ/2 |p|²``: first g ← g + λ p.

What an optimiser remembers of a parameter are its *slots*, arrays of the parameter's shape that begin at
zero. In a checkpoint they are called ``optimizer.<slot>.<parameter>`` and have the canonical layout, so that
they move between backends as the parameters do. The step count is the learner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class Optimizer:
    """What all optimisers have; take one of the subclasses.

    Attributes:
        weight_decay: λ, 0 or above.

    Raises:
        SpecError: a number is out of its range.
    """

    #: What ``--optimizer`` calls it.
    name: ClassVar[str]
    #: The rate that is taken where nobody gives one: torch.optim's, for SGD the book's.
    default_rate: ClassVar[float]

    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            below = 1.0 if name in _BELOW_ONE else float("inf")
            if not isinstance(value, bool) and not 0 <= value < below:
                limit = "and below 1" if name in _BELOW_ONE else "and finite"
                raise SpecError(
                    f"{name.replace('_', ' ')} of {self.name} is {value}: it must be at least 0 {limit}"
                )

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of what is remembered of every parameter."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """The optimiser as plain data; `optimizer_from_json` is the inverse."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent (Robbins and Monro 1951), with momentum μ where it is not 0.

    - m ← μ m + g, and g ← m; with Nesterov's momentum g ← g + μ m (Sutskever et al. 2013)
    - p ← p - η g

    Example:
        >>> SGD(momentum=0.9).slots
        ('m',)
    """

    name = "sgd"
    default_rate = 1.0

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise SpecError("Nesterov's momentum needs a momentum above 0")

    @property
    def slots(self) -> tuple[str, ...]:
        """The momentum, where there is one."""
        return ("m",) if self.momentum else ()


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, Algorithm 1: epsilon beside the corrected root).

    - m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²
    - p ← p - η (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)
    """

    name = "adam"
    default_rate = 0.001

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def slots(self) -> tuple[str, ...]:
        """The first and the second moment."""
        return ("m", "v")


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): p ← p - η λ p, then Adam's step."""

    name = "adamw"

    weight_decay: float = 0.01


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012, lecture 6.5), with momentum μ where it is not 0.

    - v ← α v + (1 - α) g²;  u = g / (√v + ε)
    - p ← p - η u; with momentum m ← μ m + u and p ← p - η m
    """

    name = "rmsprop"
    default_rate = 0.01

    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """The mean square and, where there is one, the momentum."""
        return ("v", "m") if self.momentum else ("v",)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011): v ← v + g²;  p ← p - η g / (√v + ε)."""

    name = "adagrad"
    default_rate = 0.01

    epsilon: float = 1e-10

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of squares."""
        return ("v",)


#: All optimisers, by name.
OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad)}

#: What is a share or a decay: 1 would remember for ever, or learn nothing.
_BELOW_ONE = {"momentum", "beta1", "beta2", "alpha"}


def find_optimizer(name: str) -> type[Optimizer]:
    """The optimiser called `name`.

    Raises:
        SpecError: there is none; the message lists those that there are.
    """
    if name not in OPTIMIZERS:
        raise SpecError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def slot_shapes(optimizer: Optimizer, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The canonical names of an optimiser's state and their shapes, from those of the parameters.

    Example:
        >>> slot_shapes(SGD(momentum=0.9), {"head.b": (28,)})
        {'optimizer.m.head.b': (28,)}
    """
    return {slot_name(slot, name): shape for slot in optimizer.slots for name, shape in shapes.items()}


def slot_name(slot: str, parameter: str) -> str:
    """The canonical name of what an optimiser remembers of a parameter."""
    return f"optimizer.{slot}.{parameter}"
