"""A described stack and a function of arrays: what is to be wrong with the one so that it is the other.

The function is asked more and more: one step of zeros, which biases alone answer, one step, two steps, then
whole sequences, first states and padding; where it gives states, layer by layer. After each answer only those
faults are left, alone or two together, with which the stack answers the same. What an answer does not show is
no fault yet: so two faults that different answers show are found one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.doctor.explanation import Cause
from d2lrnn.doctor.faults import Fault, faults_of
from d2lrnn.doctor.variant import Variant, run
from d2lrnn.ports.proof import Case, Comparison, differences, worst_of

#: What a function computes, or None where it cannot be asked that.
Asked = Callable[[Case], "dict[str, FloatArray] | None"]

#: The most faults that are named together.
_MOST_FAULTS = 2

#: So many pairs are tried at one answer that two faults show at once: those named first in the table.
_MOST_PAIRS = 6000

#: What a larger number of pairs times parameters is not tried for, so that it takes seconds and not minutes.
_MOST_WORK = 400_000_000


class _Question(NamedTuple):
    """What is asked, the answer, and of how many layers it tells."""

    case: Case
    answer: dict[str, FloatArray]
    num_layers: int

    def shows(self, fault: Fault) -> bool:
        """Whether the answer can depend on a fault."""
        one_step = len(self.case.inputs) == 1 and self.case.state is None
        return min(fault.layers) < self.num_layers and not (one_step and fault.weights_of_state)


class Found(NamedTuple):
    """Faults that together make the stack the function, and the stack with them."""

    faults: tuple[Fault, ...]
    variant: Variant

    def causes(self, other: str, it: str) -> tuple[Cause, ...]:
        """What a person is told; `it` is the function's name."""
        return tuple(fault.cause(other, it) for fault in self.faults)


def search(variant: Variant, ask: Asked, cases: Sequence[Case], bound: float) -> list[Found]:
    """The fewest faults with which the stack computes what the function does; of equals all, the usual first.

    Args:
        variant: the stack as it is described.
        ask: the function.
        cases: all that the two are to agree in.
        bound: the largest difference at which two arrays agree.
    """
    faults = faults_of(variant)
    left = [Found((), variant)]
    asked: list[_Question] = []
    for question in _questions(variant, ask, cases):
        left = _still(left, faults, [*asked, question], bound)
        if not left:
            return []
        asked.append(question)
    fewest = min(len(found.faults) for found in left)
    return [found for found in left if len(found.faults) == fewest]


def _still(left: list[Found], faults: list[Fault], asked: list[_Question], bound: float) -> list[Found]:
    """What is left after the last answer, with one more fault or two where it takes them."""
    question = asked[-1]
    kept = [found for found in left if _answers(found.variant, question, bound)]
    if kept:
        return kept
    seen = [fault for fault in faults if question.shows(fault)]
    extended = []
    for found in left:
        for more in _extended(found, seen):
            if _answers(more.variant, question, bound):
                extended.append(more)
    if extended:
        return extended
    budget = min(_MOST_PAIRS, _MOST_WORK // _work(left[0].variant, question))
    return list(_pairs([found for found in left if not found.faults], seen, asked, bound, budget))


def _extended(found: Found, faults: Sequence[Fault]) -> Iterator[Found]:
    if len(found.faults) < _MOST_FAULTS:
        for fault in faults:
            changed = fault.apply(found.variant)
            if changed is not None:
                yield Found((*found.faults, fault), changed)


def _pairs(
    left: list[Found], faults: Sequence[Fault], asked: list[_Question], bound: float, budget: int
) -> Iterator[Found]:
    """Two faults that the last answer shows, each of which alone shows in it, and in none before it."""
    *earlier, question = asked
    for found in left:
        before = run(found.variant, question.case, question.num_layers)
        singles = [
            single
            for single in _extended(found, faults)
            if not _close(run(single.variant, question.case, question.num_layers), before, 0)
            and all(_answers(single.variant, each, bound) for each in earlier)
        ]
        for total in range(2 * len(singles)):
            for first in range(max(0, total - len(singles) + 1), min(total + 1, len(singles))):
                single, fault = singles[first], singles[total - first].faults[-1]
                budget -= 1
                if budget < 0:
                    return
                changed = fault.apply(single.variant)
                if changed is not None and _answers(changed, question, bound):
                    yield Found((*single.faults, fault), changed)


def _questions(variant: Variant, ask: Asked, cases: Sequence[Case]) -> Iterator[_Question]:
    """What can be asked, what shows least first."""
    num_layers = len(variant.spec.layers)
    for case in [*_short(cases[0]), *cases]:
        answer = ask(case)
        if answer is None:
            continue
        for l in range(1, num_layers):
            states = {name: array for name, array in answer.items() if _layer(name) < l}
            if states:
                yield _Question(case, states, l)
        yield _Question(case, answer, num_layers)


def _short(case: Case) -> Iterator[Case]:
    """One step of zeros, one step, and two, of one sequence."""
    first = case.inputs[:1, :1]
    yield case._replace(inputs=np.zeros_like(first))
    yield case._replace(inputs=first)
    if len(case.inputs) > 1:
        yield case._replace(inputs=case.inputs[:2, :1])


def _layer(name: str) -> float:
    """The layer whose state has a name; what is no state is of none."""
    _, dot, rest = name.partition(".")
    return int(rest.partition(".")[0]) if dot else np.inf


def _answers(variant: Variant, question: _Question, bound: float) -> bool:
    try:
        found = run(variant, question.case, question.num_layers)
    except ValueError:
        # What takes another shape, as a stack that is fed the input may, computes something else.
        return False
    return _close(found, question.answer, bound)


def _close(found: dict[str, FloatArray], expected: dict[str, FloatArray], bound: float) -> bool:
    return worst_of(compared(found, expected)).worst <= bound


def compared(
    found: dict[str, FloatArray], expected: dict[str, FloatArray], case: str = ""
) -> list[Comparison]:
    """Every array that is expected, against the found one of its name."""
    return list(differences({case: found}, {case: expected}))


def _work(variant: Variant, question: _Question) -> int:
    numbers = sum(array.size for array in variant.parameters.values())
    return max(1, numbers * len(question.case.inputs))
