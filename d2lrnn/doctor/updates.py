"""Two sides that are steps of an optimiser: parameters before, gradients, parameters after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

import numpy as np

from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.doctor.explanation import Cause, Explanation, listed
from d2lrnn.doctor.replay import Replay, Rule
from d2lrnn.doctor.update_faults import UpdateFault, update_faults, with_fitted_rate
from d2lrnn.errors import PortError
from d2lrnn.ports.proof import BOUNDS, Comparison, differences, worst_of

#: What one step was made of: the gradient of the batch, or one of every worker, to be added up.
Gradients: TypeAlias = Parameters | Sequence[Parameters]

#: A cause must take away all but this share of a difference.
_LEFT = 0.1

#: The most faults of one side that are named together.
_MOST_FAULTS = 2

#: Faults that leave no more than so many times the least, or what rounds away in float32, do as well.
_AS_WELL, _ROUNDING = 10, 1e-13

#: Gradients that differ by no more than this share of the largest are the same.
_GRADIENTS = 1e-5

AFTER = "after the steps"


@dataclass(frozen=True)
class UpdateTrace:
    """What the first steps of an optimiser made of parameters.

    Attributes:
        before: the parameters before the first step, by any names.
        gradients: for each step the gradient before it was clipped, by the names of the parameters; or a
            sequence of such, one of every worker, which are added up.
        after: the parameters after the last step.
        training: what was meant: the optimiser, the rate, the clipping norm. None where only the other side
            knows it. The rate must be constant.
        batch_size: B, the examples of a batch, if known: by it a sum over the batch is told from a mean.

    Raises:
        PortError: names or shapes do not fit, there is no step, or the rate has a schedule.

    Example:
        >>> from d2lrnn.contract.specs import TrainingSpec
        >>> before, gradient = {"w": np.ones(3)}, {"w": np.array([0.1, 0.2, 0.2])}
        >>> a = UpdateTrace(before, [gradient], {"w": np.array([0.9, 0.8, 0.8])}, TrainingSpec(1.0))
        >>> b = UpdateTrace(before, [gradient], {"w": np.array([0.99, 0.98, 0.98])})
        >>> print(explain_updates(a, b).causes[0])
        the learning rate in b is 0.1, where 1 is meant
    """

    before: Parameters
    gradients: Sequence[Gradients]
    after: Parameters
    training: TrainingSpec | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not self.before or not self.gradients:
            raise PortError("a trace of updates needs parameters and at least one step")
        if self.training is not None and self.training.schedule is not None:
            raise PortError("the rate has a schedule: give a trace of steps of one rate, and that rate")
        if any(not parts for parts in self.steps):
            raise PortError("a step has no gradient: give one, or one of every worker")
        for what, arrays in [
            ("after", self.after),
            *(("gradient", each) for step in self.steps for each in step),
        ]:
            if set(arrays) != set(self.before):
                raise PortError(
                    f"{what} has {listed(sorted(arrays))}, and before {listed(sorted(self.before))}"
                )
            for name, array in arrays.items():
                if np.shape(array) != np.shape(self.before[name]):
                    raise PortError(
                        f"{what} {name} has the shape {np.shape(array)}, not {np.shape(self.before[name])}"
                    )

    @property
    def steps(self) -> tuple[tuple[Parameters, ...], ...]:
        """The gradients of every worker, step by step."""
        return tuple((step,) if isinstance(step, Mapping) else tuple(step) for step in self.gradients)


def explain_updates(a: UpdateTrace, b: UpdateTrace) -> Explanation:
    """Says what differs between two updates that should be one; see `d2lrnn.explain_difference`.

    Each side is held against the optimiser's formula with its own start and gradients: so it is known which
    of the two is other than was meant.

    Raises:
        PortError: they are of other parameters or numbers of steps, or neither says what was meant.
    """
    _check_same(a, b)
    bound = max(_bound(a), _bound(b))
    before = tuple(_differences(b.after, a.after))
    if worst_of(before).worst <= bound:
        return Explanation((), before, (), bound)
    meant = {"a": a.training or b.training, "b": b.training or a.training}
    sides = {name: _Side(name, trace, meant[name]) for name, trace in (("a", a), ("b", b))}
    given = [*_given(a, b), *_settings(meant["a"], meant["b"])]
    found = {name: side.explained(bound, worst_of(before).worst) for name, side in sides.items()}
    wrong = [name for name, ways in found.items() if not ways]
    if wrong or not (given or any(way.faults for ways in found.values() for way in ways)):
        what = f"what {listed(wrong)} made of the parameters" if wrong else "the difference"
        note = f"{what} is neither what the formula gives, nor that with a fault that is known"
        return Explanation((), before, (), bound, notes=(note, *map(str, given)))
    first = {name: ways[0] for name, ways in found.items()}
    chosen = [(first["a"], first["b"])]
    chosen += [(way, first["b"]) for way in found["a"][1:]] + [(first["a"], way) for way in found["b"][1:]]
    causes = [(*given, *one.causes("a", "b"), *other.causes("b", "a")) for one, other in chosen]
    left = {name: _differences(side.trace.after, first[name].after) for name, side in sides.items()}
    after = tuple(max(pair, key=lambda each: each.worst) for pair in zip(left["a"], left["b"], strict=True))
    return Explanation(causes[0], before, after, bound, tuple(causes[1:]))


class _Way(NamedTuple):
    """Faults with which the formula gives what a side has, and what it gives."""

    faults: tuple[UpdateFault, ...]
    after: dict[str, FloatArray]

    def causes(self, it: str, other: str) -> tuple[Cause, ...]:
        return tuple(fault.cause(it, other) for fault in self.faults)


class _Side:
    """One side, and the ways in which the formula gives its numbers."""

    def __init__(self, name: str, trace: UpdateTrace, training: TrainingSpec | None) -> None:
        if training is None:
            raise PortError(
                "neither trace says what was meant: give one of them its training, a TrainingSpec"
            )
        self.name, self.trace, self.rule = name, trace, Rule.of(training)
        self._some = Replay(trace.before, trace.steps, sampled=True)
        self._all = Replay(trace.before, trace.steps)
        self._wanted = self._some.of(trace.after)

    def explained(self, bound: float, worst: float) -> list[_Way]:
        """The ways with the fewest faults, none at best; of equals the first of the table is the first."""
        rules: list[tuple[tuple[UpdateFault, ...], Rule]] = [((), self.rule)]
        for _ in range(_MOST_FAULTS + 1):
            # Of what is off by little, a fault must explain nearly all.
            ways = self._right(rules, bound if len(rules) == 1 else min(bound, _LEFT * worst))
            if ways:
                return ways
            rules = [
                more
                for faults, rule in rules
                if len(faults) < _MOST_FAULTS
                for more in self._more(faults, rule)
            ]
        return []

    def _more(
        self, faults: tuple[UpdateFault, ...], rule: Rule
    ) -> Iterator[tuple[tuple[UpdateFault, ...], Rule]]:
        num_workers = len(self.trace.steps[0])
        for fault in update_faults(rule, num_workers, self.trace.batch_size):
            # Two settings in one place are one setting, and a pair is tried in one order.
            if not faults or fault.kind > faults[-1].kind:
                yield (*faults, fault), fault.apply(rule)
        for fault in with_fitted_rate(rule, self._some, self._wanted):
            if all(each.kind != fault.kind for each in faults):
                yield (*faults, fault), fault.apply(rule)

    def _right(self, rules: Sequence[tuple[tuple[UpdateFault, ...], Rule]], bound: float) -> list[_Way]:
        """Of some rules those that give the side's numbers, those that do so about equally well."""
        likely = []
        for faults, rule in rules:
            worst = worst_of(_differences(self._wanted, self._some.after(rule))).worst
            if worst <= bound:
                likely.append((worst, faults, rule))
        if not likely:
            return []
        least = min(worst for worst, _, _ in likely)
        ways = [
            _Way(faults, self._all.after(rule))
            for worst, faults, rule in likely
            if worst <= max(_AS_WELL * least, _ROUNDING)
        ]
        return [way for way in ways if worst_of(_differences(self.trace.after, way.after)).worst <= bound]


def _check_same(a: UpdateTrace, b: UpdateTrace) -> None:
    shapes = [{name: np.shape(array) for name, array in trace.before.items()} for trace in (a, b)]
    if shapes[0] != shapes[1]:
        different = sorted(
            name for name in set(shapes[0]) | set(shapes[1]) if shapes[0].get(name) != shapes[1].get(name)
        )
        raise PortError(f"a and b are of other parameters: {listed(different)}")
    if len(a.gradients) != len(b.gradients):
        raise PortError(f"a has {len(a.gradients)} steps, and b {len(b.gradients)}: give as many of both")


def _given(a: UpdateTrace, b: UpdateTrace) -> Iterator[Cause]:
    """What differs before anything was updated."""
    bound = max(_bound(a), _bound(b))
    start = [each.array for each in _differences(b.before, a.before) if not each.worst <= bound]
    if start:
        yield Cause("other start", f"{listed(start)} differ before the first step", tuple(start))
    ours, theirs = (
        np.concatenate([
            np.asarray(sum(np.asarray(part[name], np.float64) for part in step)).ravel()
            for step in trace.steps
            for name in a.before
        ])
        for trace in (a, b)
    )  # fmt: skip
    largest = float(np.abs(ours).max())
    if float(np.abs(theirs - ours).max()) <= _GRADIENTS * largest:
        return
    factor = float(f"{float(ours @ theirs) / max(float(ours @ ours), np.finfo(float).tiny):.6g}")
    if not float(np.abs(theirs - factor * ours).max()) <= _GRADIENTS * abs(factor) * largest:
        yield Cause("other gradients", "the gradients that b was given are other than those of a")
        return
    for number, what in ((a.batch_size or b.batch_size, "batch"), (len(b.steps[0]), "workers")):
        if number is not None and number > 1:
            if np.isclose(factor, number, rtol=_GRADIENTS):
                yield Cause(
                    "sum for mean", f"b's gradients are sums over the {what} ({number}), and a's means"
                )
                return
            if np.isclose(factor, 1 / number, rtol=_GRADIENTS):
                yield Cause(
                    "mean for sum", f"b's gradients are means over the {what} ({number}), and a's sums"
                )
                return
    yield Cause("gradients scaled", f"the gradients that b was given are {factor:g} times those of a")


def _settings(a: TrainingSpec | None, b: TrainingSpec | None) -> Iterator[Cause]:
    """What was meant otherwise."""
    if a is None or b is None:
        return
    pairs: list[tuple[str, object, object]] = [
        ("learning rate", a.learning_rate, b.learning_rate),
        ("clipping norm", a.clip, b.clip),
        ("optimizer", a.optimizer.name, b.optimizer.name),
    ]
    if type(a.optimizer) is type(b.optimizer):
        pairs += [
            (field.name.replace("_", " "), getattr(a.optimizer, field.name), getattr(b.optimizer, field.name))
            for field in fields(a.optimizer)
        ]
    for what, ours, theirs in pairs:
        if ours != theirs:
            yield Cause(what, f"the {what} is {theirs} in b, and {ours} in a")


def _differences(found: Parameters, expected: Parameters) -> list[Comparison]:
    return list(differences(
        {AFTER: {name: np.asarray(array) for name, array in found.items()}},
        {AFTER: {name: np.asarray(array, np.float64) for name, array in expected.items()}},
    ))  # fmt: skip


def _bound(trace: UpdateTrace) -> float:
    double = all(np.asarray(array).dtype == np.float64 for array in trace.after.values())
    return BOUNDS["float64" if double else "float32"]
