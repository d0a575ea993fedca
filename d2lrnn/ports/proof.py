"""The proof of a conversion: drawn inputs and states, and what two sides make of them.

The judge is `d2lrnn.ports.reference` in float64. A number of a module may differ from it, in units of the
larger of 1 and the reference's own, by 1e-6 in float32 and by 1e-12 in float64. A module in float32 is proved
in both types: itself, and as its twin, the same module cast up to float64 by its framework. Where float32
cannot hold 1e-6 (many units, steep weights), the twin alone is the proof, and the report says so, with how
far the reference itself is off when it is computed in float32: a module more than eight times as far is
refused, since rounding does not explain it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from d2lrnn.contract.values import DType, FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports import reference
from d2lrnn.ports.description import StackSpec

#: The largest difference that is a proof.
BOUNDS: dict[DType, float] = {"float32": 1e-6, "float64": 1e-12}

#: A module in float32 that is off by more than so many times what the reference is off is not explained.
ROUNDINGS = 8

#: The size of the drawn batch: few steps, that float32 holds. The padded sequences have 3, 2 and 1 of them.
NUM_STEPS, BATCH_SIZE = 3, 3
_SEED = 0


class Case(NamedTuple):
    """What both sides are given: inputs (T, B, n), states by name or None, lengths (B,) or None."""

    inputs: FloatArray
    state: dict[str, FloatArray] | None
    lengths: IntArray | None


#: By the name of a case, the arrays of a side: ``outputs``, and the final states by name.
Results = dict[str, dict[str, FloatArray]]


class Side(NamedTuple):
    """What a module computes, and what its float64 twin does: None of one in float64, or without a twin."""

    results: Results
    twin: Results | None = None


@dataclass(frozen=True)
class Comparison:
    """Two sides' arrays of one name in one case.

    Attributes:
        case: ``"zero state"``, ``"drawn state"`` or ``"padded"``.
        array: ``"outputs"``, or the name of a state.
        worst: the largest difference, in units of the larger of 1 and the reference's number.
    """

    case: str
    array: str
    worst: float


@dataclass(frozen=True)
class Report:
    """What was compared with what, and how far it was apart.

    Attributes:
        side: what was judged: ``"torch"``.
        against: by what.
        bound: the largest difference that is a proof: 1e-6 in float32, 1e-12 in float64.
        comparisons: every array.
        twin: every array of the float64 twins, by 1e-12; empty where a side has none.
        rounding: how far the reference itself is off in float32; 0 in float64.
    """

    side: str
    against: str
    bound: float
    comparisons: tuple[Comparison, ...]
    twin: tuple[Comparison, ...] = ()
    rounding: float = 0.0

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest difference; one that is no number is the largest of all."""
        return worst_of(self.comparisons)

    @property
    def worst_twin(self) -> Comparison | None:
        """The same of the twins."""
        return worst_of(self.twin) if self.twin else None

    @property
    def by_twin_alone(self) -> bool:
        """Whether float32 does not hold the bound, so that the twin is the proof."""
        return bool(self.twin) and not self.worst.worst <= self.bound

    @property
    def passed(self) -> bool:
        """Whether the two sides agree."""
        twin = self.worst_twin
        if twin is not None and not twin.worst <= BOUNDS["float64"]:
            return False
        # What float32 cannot hold at all has no number, or none that is finite, as its rounding.
        explained = ROUNDINGS * self.rounding if np.isfinite(self.rounding) else 0.0
        return bool(self.worst.worst <= (explained if self.by_twin_alone else self.bound))

    def __str__(self) -> str:
        cases = ", ".join(dict.fromkeys(each.case for each in self.comparisons))
        worst, twin = self.worst, self.worst_twin
        text = (
            f"{self.side} against {self.against}: {'agree' if self.passed else 'differ'}; "
            f"{len(self.comparisons)} arrays ({cases}), worst difference {worst.worst:.1e} "
            f"({worst.array}, {worst.case}), bound {self.bound:.0e}"
        )
        if twin is not None:
            text += f"; as float64 twins {twin.worst:.1e}, bound {BOUNDS['float64']:.0e}"
        if self.by_twin_alone:
            text += f". float32 cannot hold its bound: the reference's own rounding is {self.rounding:.1e}"
        elif not self.passed and twin is None and self.rounding > 0:
            text += f"; the reference's own rounding is {self.rounding:.1e}, and there is no float64 twin"
        return text

    def require(self) -> Report:
        """The report itself.

        Raises:
            PortError: the two sides differ.
        """
        if not self.passed:
            raise PortError(f"the conversion is not proved: {self}")
        return self


def worst_of(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison with the largest difference; one that is no number is the largest of all."""
    return max(comparisons, key=lambda each: np.inf if np.isnan(each.worst) else each.worst)


ZEROS, DRAWN, PADDED = "zero state", "drawn state", "padded"


def case_names(spec: StackSpec) -> tuple[str, ...]:
    """Those of `cases`."""
    # Outputs in the order of reading have their padding first, and no framework's next layer knows that; but
    # where it is computed it is read last.
    flipped = any(layer.flipped for layer in spec.layers) and spec.padding != "computed"
    padded = spec.form == "layer" and not flipped
    return (ZEROS, DRAWN, PADDED) if padded else (ZEROS, DRAWN)


def result_shapes(spec: StackSpec) -> dict[str, tuple[int, ...]]:
    """The names and shapes of what a side computes in any one case."""
    T = 1 if spec.form == "cell" else NUM_STEPS
    return {"outputs": (T, BATCH_SIZE, spec.output_size), **spec.state_shapes(BATCH_SIZE)}


class Drawn(NamedTuple):
    """What the cases are made of, whatever their number.

    Attributes:
        inputs: (T, B, n).
        state: by name.
        lengths: (B,), the steps of each sequence that are no padding.
    """

    inputs: FloatArray
    state: dict[str, FloatArray]
    lengths: IntArray


def drawn(spec: StackSpec) -> Drawn:
    """Inputs and states of a stack, U(-1, 1), the same in every process and with every version of NumPy."""
    draw, shapes = np.random.RandomState(_SEED), drawn_shapes(spec)

    def uniform(shape: tuple[int, ...]) -> FloatArray:
        return draw.uniform(-1, 1, shape).astype(spec.dtype)

    inputs = uniform(shapes.inputs)
    state = {name: uniform(shape) for name, shape in shapes.state.items()}
    return Drawn(inputs, state, np.arange(NUM_STEPS, NUM_STEPS - BATCH_SIZE, -1, dtype=np.int32))


class DrawnShapes(NamedTuple):
    """The shapes of `Drawn`, without the arrays: a file's claims are checked by them."""

    inputs: tuple[int, ...]
    state: dict[str, tuple[int, ...]]
    lengths: tuple[int, ...]


def drawn_shapes(spec: StackSpec) -> DrawnShapes:
    """The shapes of what `drawn` draws."""
    T = 1 if spec.form == "cell" else NUM_STEPS
    inputs = (T, BATCH_SIZE, spec.layers[0].input_size)
    return DrawnShapes(inputs, spec.state_shapes(BATCH_SIZE), (BATCH_SIZE,))


def cases(spec: StackSpec) -> dict[str, Case]:
    """The drawn cases of a stack.

    Example:
        >>> from d2lrnn.ports.description import LayerSpec
        >>> list(cases(StackSpec((LayerSpec("rnn", 8, 16),))))
        ['zero state', 'drawn state', 'padded']
    """
    inputs, state, lengths = drawn(spec)
    known = {
        ZEROS: Case(inputs, None, None),
        DRAWN: Case(inputs, state, None),
        PADDED: Case(inputs, state, lengths),
    }
    return {name: known[name] for name in case_names(spec)}


def twin_of(spec: StackSpec) -> StackSpec:
    """The same stack in float64."""
    return replace(spec, dtype="float64")


def results(
    spec: StackSpec,
    run: Callable[[Case], tuple[FloatArray, Mapping[str, FloatArray]]],
    dtype: DType | None = None,
) -> Results:
    """What a side computes in all cases, whose numbers are those of the stack's type, cast to `dtype`."""
    found: Results = {}
    for name, case in cases(spec).items():
        outputs, states = run(_cast(case, dtype or spec.dtype))
        found[name] = {"outputs": outputs, **states}
    return found


def _cast(case: Case, dtype: DType) -> Case:
    state = None if case.state is None else {name: array.astype(dtype) for name, array in case.state.items()}
    return Case(case.inputs.astype(dtype), state, case.lengths)


class Judge(NamedTuple):
    """What the reference computes in float64, and how far off it is in float32; 0 of a stack in float64."""

    results: Results
    rounding: float

    @property
    def side(self) -> Side:
        """The reference as what a module is compared with: it is its own twin."""
        return Side(self.results, self.results)


def judge(spec: StackSpec, parameters: Parameters) -> Judge:
    """The judge of a stack with these parameters."""
    exact = _reference(spec, parameters, "float64")
    if spec.dtype == "float64":
        return Judge(exact, 0.0)
    own = differences(_reference(spec, parameters, "float32"), exact)
    return Judge(exact, worst_of(tuple(own)).worst)


def by_reference(spec: StackSpec, parameters: Parameters) -> Side:
    """What the reference computes in a stack's own type, and as its twin: the side where no framework is."""
    own = _reference(spec, parameters, spec.dtype)
    return Side(own, None if spec.dtype == "float64" else _reference(spec, parameters, "float64"))


def _reference(spec: StackSpec, parameters: Parameters, dtype: DType) -> Results:
    cast = {name: array.astype(dtype) for name, array in parameters.items()}
    # What grows beyond all numbers is judged like any other difference: it does not agree.
    with np.errstate(over="ignore", invalid="ignore"):
        return results(
            spec, lambda case: reference.run(spec, cast, case.inputs, case.state, case.lengths), dtype
        )


def compare(
    side: str, theirs: Side, against: str, expected: Side, dtype: DType, rounding: float = 0.0
) -> Report:
    """Compares what a side computes with what is expected of it."""
    found = tuple(differences(theirs.results, expected.results))
    twin: tuple[Comparison, ...] = ()
    if theirs.twin is not None and expected.twin is not None:
        twin = tuple(differences(theirs.twin, expected.twin))
    return Report(side, against, BOUNDS[dtype], found, twin, rounding)


def differences(theirs: Results, expected_results: Results) -> Iterator[Comparison]:
    """Compares every array that is expected, in units of the larger of 1 and its own number."""
    for case, arrays in expected_results.items():
        for name, expected in arrays.items():
            found: Any = theirs[case].get(name)
            if found is None or found.shape != expected.shape:
                yield Comparison(case, name, np.inf)
                continue
            with np.errstate(invalid="ignore"):
                difference = np.abs(found.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))
            yield Comparison(case, name, float(difference.max()))
