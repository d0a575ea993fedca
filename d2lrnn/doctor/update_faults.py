"""What may be wrong with the steps of an optimiser: a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from d2lrnn.contract.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from d2lrnn.contract.values import FloatArray
from d2lrnn.doctor.explanation import Cause
from d2lrnn.doctor.replay import Replay, Rule


@dataclass(frozen=True)
class UpdateFault:
    """One entry.

    Attributes:
        kind: its name.
        apply: what it makes of a rule.
        sentence: what is wrong; ``{it}`` is the side with the fault, ``{other}`` the other side.
    """

    kind: str
    apply: Callable[[Rule], Rule]
    sentence: str

    def cause(self, it: str, other: str) -> Cause:
        """What a person is told."""
        return Cause(self.kind, self.sentence.format(it=it, other=other))


#: Settings that frameworks have by default, and that so stand in the place of what was meant.
_DEFAULTS: dict[str, tuple[float, ...]] = {
    "epsilon": (1e-8, 1e-7, 1e-6, 1e-10, 1e-3, 1e-5),
    "beta1": (0.9, 0.0),
    "beta2": (0.999, 0.99, 0.98, 0.95),
    "alpha": (0.99, 0.9),
    "momentum": (0.0, 0.9, 0.99),
    "weight_decay": (0.0, 0.01, 0.004),
}

#: What Adagrad's sum of squares begins with where it does not begin at zero.
_ACCUMULATED = 0.1


def update_faults(rule: Rule, num_workers: int, batch_size: int | None) -> list[UpdateFault]:
    """All that may be wrong with a rule, the most specific first: of equals the first is named.

    Args:
        rule: what is meant.
        num_workers: how many gradients are added up in a step.
        batch_size: the examples of a batch, if known.
    """
    return [
        *_of_optimizer(rule),
        *_of_clipping(rule, num_workers),
        *_of_gradients(num_workers, batch_size),
        *_of_settings(rule),
    ]


def _entry(kind: str, sentence: str, **change: Any) -> UpdateFault:
    return UpdateFault(kind, partial(_changed, change), sentence)


def _changed(change: dict[str, Any], rule: Rule) -> Rule:
    return replace(rule, **change)


def _of_optimizer(rule: Rule) -> Iterator[UpdateFault]:
    o = rule.optimizer
    if hasattr(o, "epsilon"):
        yield _entry(
            "epsilon inside the root",
            "epsilon is on the other side of the root in {it}: √(v + ε), where √v + ε is meant",
            epsilon="inside",
        )
    if isinstance(o, Adam):
        yield _entry(
            "epsilon beside the uncorrected root",
            'epsilon is added to the root of the uncorrected moment in {it} ("epsilon hat"), where it '
            "belongs beside the corrected one",
            epsilon="uncorrected",
        )
        yield _entry(
            "no bias correction",
            "{it} does not correct the moments for beginning at zero",
            corrected=False,
        )
    if isinstance(o, Adagrad):
        yield _entry(
            "accumulator",
            f"the sum of squares begins at {_ACCUMULATED} in {{it}}, where it begins at zero",
            accumulated=_ACCUMULATED,
        )
    if o.weight_decay:
        coupled = isinstance(o, AdamW)
        yield _entry(
            "weight decay",
            "{it} adds the weight decay to the gradient, where it is to be taken from the parameter (AdamW)"
            if coupled
            else "{it} takes the weight decay from the parameter, where it is to be added to the gradient",
            decay="other",
        )
    if isinstance(o, SGD | RMSprop) and o.momentum:
        yield _entry(
            "dampening",
            "{it} dampens the gradient in the momentum from the second step on, by 1 minus the momentum",
            dampened="later",
        )
        yield _entry(
            "dampening",
            "{it} dampens the gradient in the momentum by 1 minus the momentum: m is a mean, and not a sum",
            dampened="always",
        )
    if isinstance(o, SGD) and o.momentum:
        yield _entry(
            "Nesterov",
            "{it} has plain momentum, where Nesterov's is meant"
            if o.nesterov
            else "{it} has Nesterov's momentum, where the plain one is meant",
            optimizer=replace(o, nesterov=not o.nesterov),
        )


def _of_clipping(rule: Rule, num_workers: int) -> Iterator[UpdateFault]:
    if rule.clip is None:
        return
    if num_workers > 1:
        yield _entry(
            "clipped before the sum",
            "{it} clips the norm of each worker's gradient before the sum, and not that of the sum",
            clipping="each worker",
        )
    sentences = {
        "each parameter": "{it} clips the norm of each parameter's gradient, and not that of all together",
        "value": "{it} clips every number of the gradient to the range, and not the norm",
        "norm and a little": "{it} adds 1e-06 to the norm before it divides by it",
    }
    for clipping, sentence in sentences.items():
        yield _entry(f"clipping by {clipping}", sentence, clipping=clipping)
    yield _entry("not clipped", "{it} does not clip the gradient", clip=None)


def _of_gradients(num_workers: int, batch_size: int | None) -> Iterator[UpdateFault]:
    for number, what in ((batch_size, "batch"), (num_workers, "workers")):
        if number is not None and number > 1:
            yield _entry(
                "sum for mean",
                f"{{it}} adds the gradient up over the {what}, where the mean is meant: it is {number} "
                "times as large",
                gradient=float(number),
            )
            yield _entry(
                "mean for sum",
                f"{{it}} takes the mean of the gradient over the {what}, where the sum is meant: "
                f"it is divided by {number}",
                gradient=1 / number,
            )


def _of_settings(rule: Rule) -> Iterator[UpdateFault]:
    o = rule.optimizer
    for field in fields(o):
        ours = getattr(o, field.name)
        for value in _DEFAULTS.get(field.name, ()):
            if value != ours and not (
                field.name == "momentum" and getattr(o, "nesterov", False) and not value
            ):
                yield _entry(
                    field.name.replace("_", " "),
                    f"the {field.name.replace('_', ' ')} in {{it}} is {value:g}, where {ours:g} is meant",
                    optimizer=replace(o, **{field.name: value}),
                )


def with_fitted_rate(rule: Rule, replay: Replay, after: dict[str, FloatArray]) -> Iterator[UpdateFault]:
    """Another learning rate, by which a rule moves the parameters about as far as they were moved."""
    made = replay.after(rule)
    moves = [
        np.concatenate([(values[name] - replay.before[name]).ravel() for name in made])
        for values in (made, after)
    ]
    square = float(moves[0] @ moves[0])
    if not square or not np.isfinite(moves[1]).all():
        return
    factor = float(moves[0] @ moves[1]) / square
    for rate in {float(f"{rule.rate * factor:.{digits}g}"): None for digits in (2, 6)}:
        if rate > 0 and rate != rule.rate:
            yield _entry(
                "learning rate",
                f"the learning rate in {{it}} is {rate:g}, where {rule.rate:g} is meant",
                rate=rate,
            )
