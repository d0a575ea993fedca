"""``d2lrnn.explain_difference``: what differs between two models that should be one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from d2lrnn.contract.values import DType, FloatArray
from d2lrnn.doctor.explanation import Cause, Explanation
from d2lrnn.doctor.matching import Matched, match, not_loaded
from d2lrnn.doctor.search import compared, search
from d2lrnn.doctor.settings import check_same_shape, differing_settings, with_settings
from d2lrnn.doctor.sides import DescribedSide, FunctionSide, side_of
from d2lrnn.doctor.updates import UpdateTrace, explain_updates
from d2lrnn.doctor.variant import Variant, read_as, run, variant_of
from d2lrnn.errors import PortError
from d2lrnn.ports.description import Form, StackSpec
from d2lrnn.ports.proof import BOUNDS, ROUNDINGS, Case, Comparison, cases, judge, worst_of

#: Numbers of parameters that are the same differ by less than this share of what outputs may differ by.
_PARAMETERS = 0.25

#: A cause must take away all but this share of a difference.
_LEFT = 0.1


def explain_difference(a: Any, b: Any) -> Explanation:
    """Says what differs between two models that should be one, and give different numbers.

    Both compute what drawn inputs, states and lengths give. Where they differ, the differences of convention
    that are known are tried, alone and two together: the order of the gates, transposed weights, biases, the
    reset gate, activations, axes, directions, states and more. One is named only if with it the two agree.

    Args:
        a: a recurrent module of any framework or a list of them (`d2lrnn.port` takes the same), what
            `d2lrnn.port` returned, or a function of arrays: of inputs (T, B, n), the first state by name or
            None, and lengths (B,) or None, or of the first one or two of them. It returns outputs
            (T, B, size), or a tuple of these and the last states by name, named as in
            `d2lrnn.ports.description`. Or what steps of an optimiser made of parameters, an `UpdateTrace`.
        b: another one; one of the two may be a function.

    Raises:
        PortError: one of them is none of these, or they cannot be one model: their sizes differ.

    Example:
        >>> print(d2lrnn.explain_difference(torch.nn.GRU(8, 16), other))  # doctest: +SKIP
        a and b differ: the worst difference is 2.7e-01 (outputs, zero state).
        The gates of b's recurrent weights w_h of layer 0 stand in the order z, r, n, where a has r, z, n.
        But for that they agree: the worst difference is 0.0e+00 (outputs, zero state).
    """
    if isinstance(a, UpdateTrace) or isinstance(b, UpdateTrace):
        if not (isinstance(a, UpdateTrace) and isinstance(b, UpdateTrace)):
            raise PortError("steps of an optimiser are compared with other steps: give two UpdateTraces")
        return explain_updates(a, b)
    one, other = side_of(a, "a"), side_of(b, "b")
    if isinstance(one, DescribedSide):
        if isinstance(other, DescribedSide):
            return _of_two(one, other)
        return _of_function(one, other, "a", "b")
    if isinstance(other, DescribedSide):
        return _of_function(other, one, "b", "a")
    raise PortError("a and b are both functions: one of them must be a module, or what d2lrnn.port returned")


# -- two descriptions ------------------------------------------------------------------------------------


def _of_two(one: DescribedSide, other: DescribedSide) -> Explanation:
    check_same_shape(one.spec, other.spec)
    bound = max(BOUNDS[one.spec.dtype], BOUNDS[other.spec.dtype])
    # Their padding is their frameworks', and a cell is a layer of one step.
    common: dict[str, Any] = {"padding": one.spec.padding, "form": "layer", "batch_first": False}
    a, b = (variant_of(replace(side.spec, **common), side.parameters) for side in (one, other))
    axes = _axes(one, other)
    given = list(_cases(a.spec, one, other))
    settings = list(differing_settings(a.spec, b.spec))
    # Of one direction each, they have the same names and states, whichever it is.
    b = read_as(b, a.spec)
    before = _compared(a, replace(b, use=replace(b.use, swapped_axes=True)) if axes else b, given)
    notes = [
        *_notes(one, other),
        *(f"a: {note}" for note in one.notes),
        *(f"b: {note}" for note in other.notes),
    ]
    if worst_of(before).worst <= bound:
        notes += [f"{cause}, which the drawn inputs do not show" for cause in settings]
        return Explanation((), before, (), bound, notes=tuple(notes))
    layers = tuple(map(with_settings, a.spec.layers, b.spec.layers))
    matched = match(Variant(replace(a.spec, layers=layers), a.parameters, b.use), b, _PARAMETERS * bound)
    causes = [*([axes] if axes else []), *settings, *matched.causes]
    lost = not_loaded(matched)
    if lost is not None:
        causes.append(lost)
    after = _compared(matched.a, matched.b, given)
    if causes and (lost is not None or not matched.unknown) and _helps(before, after, bound):
        return Explanation(tuple(causes), before, after, bound, notes=tuple(notes))
    notes += [f"one difference is known, and does not explain all: {cause}" for cause in causes]
    return Explanation((), before, (), bound, notes=(*notes, *_of_unknown(matched)))


def _cases(spec: StackSpec, one: DescribedSide, other: DescribedSide) -> Iterator[tuple[str, Case]]:
    """The drawn cases, in the type of the side with more digits; of a cell one step."""
    dtype: DType = "float64" if "float64" in (one.spec.dtype, other.spec.dtype) else "float32"
    form: Form = "cell" if "cell" in (one.spec.form, other.spec.form) else "layer"
    yield from cases(replace(spec, dtype=dtype, form=form)).items()


def _compared(a: Variant, b: Variant, given: list[tuple[str, Case]]) -> tuple[Comparison, ...]:
    return tuple(each for name, case in given for each in compared(run(b, case), run(a, case), name))


def _helps(before: tuple[Comparison, ...], after: tuple[Comparison, ...], bound: float) -> bool:
    worst, left = worst_of(before).worst, worst_of(after).worst
    return left <= bound and not left > _LEFT * worst


def _axes(one: DescribedSide, other: DescribedSide) -> Cause | None:
    """In one framework, that the two read a sequence by other axes; two frameworks have each their own."""
    if one.source != other.source or one.spec.batch_first == other.spec.batch_first:
        return None
    a, b = (_axes_text(side.spec) for side in (one, other))
    return Cause("axes", f"b takes sequences {b} where a takes {a}: given the same array, they differ")


def _notes(one: DescribedSide, other: DescribedSide) -> Iterator[str]:
    if one.source != other.source and one.spec.batch_first != other.spec.batch_first:
        yield f"b takes {_axes_text(other.spec)} and a {_axes_text(one.spec)}: each was given what it takes"
    if one.spec.padding != other.spec.padding and "cell" not in (one.spec.form, other.spec.form):
        yield (
            f"at padded steps the outputs of a are {_PADDING[one.spec.padding]}, and those of b "
            f"{_PADDING[other.spec.padding]}: that is how their frameworks are, and was not compared"
        )
    if one.spec.dtype != other.spec.dtype:
        yield f"a is in {one.spec.dtype}, and b in {other.spec.dtype}"


_PADDING = {"zeros": "zeros", "repeat": "those of the step before"}


def _axes_text(spec: StackSpec) -> str:
    return "(batch, time, …)" if spec.batch_first else "(time, batch, …)"


def _of_unknown(matched: Matched) -> Iterator[str]:
    if matched.unknown:
        number, every = len(matched.unknown), len(matched.a.parameters)
        yield (
            f"{number} of {every} parameters have values that nothing known makes of the other side's: "
            f"{', '.join(matched.unknown)}"
        )


# -- a description and a function ------------------------------------------------------------------------


def _of_function(described: DescribedSide, function: FunctionSide, other: str, it: str) -> Explanation:
    spec = described.spec
    variant = variant_of(spec, described.parameters)
    given = [(name, case) for name, case in cases(spec).items() if function.takes(case)]
    answers = {name: _answer(function, case, spec, it) for name, case in given}
    rounding = judge(spec, described.parameters).rounding
    bound = max(BOUNDS[spec.dtype], ROUNDINGS * rounding if np.isfinite(rounding) else 0.0)
    before = _against(variant, given, answers)
    notes = tuple(f"{other}: {note}" for note in described.notes)
    if worst_of(before).worst <= bound:
        return Explanation((), before, (), bound, notes=notes)
    found = search(variant, lambda case: _asked(function, case), [case for _, case in given], bound)
    afters = [_against(each.variant, given, answers) for each in found]
    helping = [k for k, after in enumerate(afters) if _helps(before, after, bound)]
    if not helping:
        return Explanation((), before, (), bound, notes=(*notes, *_first_layer(spec, before, bound)))
    least = min(worst_of(afters[k]).worst for k in helping)
    as_well = [k for k in helping if worst_of(afters[k]).worst <= 10 * least]
    # What is said of fewer parameters says less of what nobody has seen.
    named = [(found[k].causes(other, it), afters[k]) for k in as_well]
    named.sort(key=lambda each: sum(len(cause.parameters) for cause in each[0]))
    (causes, after), *others = named
    return Explanation(causes, before, after, bound, tuple(each for each, _ in others), notes)


def _first_layer(spec: StackSpec, before: tuple[Comparison, ...], bound: float) -> Iterator[str]:
    """Which layer is the first that differs, where the function gives states and one of them agrees."""
    for l in range(len(spec.layers)):
        states = [each for each in before if each.array.startswith(f"rnn.{l}.")]
        if not states:
            return
        if not worst_of(states).worst <= bound:
            if l:
                yield f"the states of the layers before agree: layer {l} is the first that differs"
            return


def _answer(function: FunctionSide, case: Case, spec: StackSpec, it: str) -> dict[str, FloatArray]:
    """What the function computes in a drawn case.

    Raises:
        PortError: it fails, or gives what a stack does not have.
    """
    try:
        answer = function.run(case)
    except PortError as error:
        raise PortError(f"{it}: {error}") from error
    except Exception as error:
        raise PortError(
            f"{it}: the function failed with {type(error).__name__}: {error}. It was given inputs "
            f"{case.inputs.shape}, {case.inputs.dtype}"
        ) from error
    shapes: dict[str, tuple[int, ...]] = {"outputs": (*case.inputs.shape[:2], spec.output_size)}
    shapes |= spec.state_shapes(case.inputs.shape[1])
    for name, array in answer.items():
        if name not in shapes:
            raise PortError(
                f"{it}: the function gives a state {name!r}: choose of {', '.join(list(shapes)[1:])}"
            )
        if array.shape != shapes[name]:
            raise PortError(
                f"{it}: the function gives {name} of shape {array.shape}, where {shapes[name]} is expected"
            )
    return answer


def _asked(function: FunctionSide, case: Case) -> dict[str, FloatArray] | None:
    """What it computes of fewer steps or sequences, which some functions cannot: None."""
    try:
        return function.run(case)
    except Exception:
        return None


def _against(
    variant: Variant, given: list[tuple[str, Case]], answers: dict[str, dict[str, FloatArray]]
) -> tuple[Comparison, ...]:
    return tuple(each for name, case in given for each in compared(run(variant, case), answers[name], name))
