"""Two sides that are both described: their parameters are compared, and nothing is searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.doctor.changes import BIASES, WEIGHTS, Change, changes_of
from d2lrnn.doctor.explanation import Cause
from d2lrnn.doctor.rearranged import (
    exchangeable_directions,
    exchanged_directions_cause,
    layer_order_cause,
    layer_orders,
    with_exchanged_directions,
    with_layer_order,
)
from d2lrnn.doctor.variant import Variant
from d2lrnn.doctor.wording import named, told
from d2lrnn.ports.description import LayerSpec
from d2lrnn.ports.layout import part_of, with_biases

#: Where more of the weights have other values, two models were drawn or trained apart.
_LARGEST_PART = 0.5

#: Rounding N numbers to 8 bits changes the sum of their squares by a smaller share than this over √N.
_ROUNDED = 0.03

#: The change that all arrays of a direction show, which are compared one by one else.
_OF_ALL = "update exchanged"

#: So many numbers of an array are compared first.
_FEW = 512

#: The arrays of one direction of a layer, by the last part of their names.
Arrays = dict[str, FloatArray]


class Matched(NamedTuple):
    """What makes two sides equal.

    Attributes:
        a: the first side with the causes applied.
        b: the second.
        causes: in words.
        unknown: the canonical names of parameters that differ, and for which nothing is known.
    """

    a: Variant
    b: Variant
    causes: tuple[Cause, ...]
    unknown: tuple[str, ...]


class _Found(NamedTuple):
    """A change that makes the one side's array that of the other; `lost` names the side that has it."""

    change: Change
    lost: str
    names: tuple[str, ...]
    scale: float | None = None


def match(a: Variant, b: Variant, bound: float) -> Matched:
    """The fewest changes of parameters that make a's those of b.

    Args:
        a: one side; its layers, sizes and settings are already those of b.
        b: the other.
        bound: the largest difference of two numbers that are the same, in units of an array's largest.
    """
    best = _Matching(a, b, bound, ()).run()
    if not best.unknown:
        return best
    for moved, cause in _rearranged(a):
        if _alike(moved, b):
            matched = _Matching(moved, b, bound, (cause,)).run()
            best = min(best, matched, key=lambda each: (len(each.unknown), len(each.causes)))
    return best


def _rearranged(a: Variant) -> Iterator[tuple[Variant, Cause]]:
    """The first side with its layers in another order, and with its directions exchanged."""
    for order in layer_orders(a):
        yield with_layer_order(order, a), layer_order_cause(order, a, "a", "b")
    for chosen in exchangeable_directions(a):
        yield with_exchanged_directions(chosen, a), exchanged_directions_cause(chosen, a, "a", "b")


def _alike(a: Variant, b: Variant) -> bool:
    """Whether each weight could be the other side's, moved about or rounded: squares add up to the same."""
    return all(
        _same_squares(a.parameters[name], b.parameters[name])
        for name in a.parameters
        if name.endswith(WEIGHTS)
    )


def _same_squares(one: FloatArray, other: FloatArray) -> bool:
    squares = float(np.vdot(one, one)), float(np.vdot(other, other))
    return bool(abs(squares[0] - squares[1]) <= _ROUNDED / np.sqrt(one.size) * squares[1])


@dataclass
class _Matching:
    a: Variant
    b: Variant
    bound: float
    causes: tuple[Cause, ...]

    def run(self) -> Matched:
        found: list[_Found] = []
        unknown: list[str] = []
        for prefix, layer, _ in self.a.spec.parts():
            part = _Part(
                layer,
                part_of(self.a.parameters, prefix, list(layer.shapes())),
                part_of(self.b.parameters, prefix, list(layer.shapes())),
                self.bound,
            )
            here, left = part.explain()
            found += [each._replace(names=tuple(prefix + name for name in each.names)) for each in here]
            unknown += [prefix + name for name in left]
            self.a = self.a.changed({prefix + name: array for name, array in part.a.items()})
            self.b = self.b.changed({prefix + name: array for name, array in part.b.items()})
        causes = (*self.causes, *_grouped(found, list(self.a.parameters)))
        return Matched(self.a, self.b, causes, tuple(unknown))


class _Part:
    """One direction of a layer on both sides; what explains a difference is applied to the arrays."""

    def __init__(self, layer: LayerSpec, a: Arrays, b: Arrays, bound: float) -> None:
        self.layer, self.a, self.b, self.bound = layer, a, b, bound
        self.changes = list(changes_of(layer, every_order=True))

    def explain(self) -> tuple[list[_Found], list[str]]:
        """The changes, and the names of what nothing explains: these are b's on both sides from here on."""
        before, exchanges = (self.a, self.b), [each for each in self.changes if each.kind == _OF_ALL]
        for change in exchanges:
            if self._fits(tuple(self.a), [change]) and not self._equal(tuple(self.a)):
                return self._apply([change], "b"), []
        found, left = self._each()
        after = self.a, self.b
        for change in exchanges if left else []:
            # It is how the arrays are used, whatever befell them before; made twice, it is undone.
            self.a, self.b = before
            self.b = self._changed(self.b, [change]) or self.b
            more, unknown = self._each()
            if not unknown:
                return [*more, _Found(change, "b", change.names)], []
            self.a, self.b = after
        return found, left

    def _each(self) -> tuple[list[_Found], list[str]]:
        """What befell each array that differs."""
        found: list[_Found] = []
        left: list[str] = []
        for group in [*((name,) for name in ("w_x", "w_h", "w_p") if name in self.a), BIASES]:
            if self._equal(group):
                continue
            here = self._explained(group)
            found += here
            if not here:
                left += list(group) if group != BIASES else self._differing_biases()
                self.a = {**self.a, **{name: self.b[name] for name in group}}
        return found, left

    def _explained(self, group: tuple[str, ...]) -> list[_Found]:
        candidates = [change for change in self.changes if set(change.names) <= set(group)]
        # All that befalls a matrix moves its numbers about, or rounds them.
        moved = group == BIASES or all(_same_squares(self.a[name], self.b[name]) for name in group)
        singles = [[change] for change in candidates] if moved else []
        for changes in singles:
            if self._fits(group, changes):
                return self._apply(changes, "b")
        for change in candidates:
            if moved and change.one_way and self._fits(group, [change], reverse=True):
                return self._apply([change], "a")
        scale = self._scale(group)
        if scale is not None:
            return self._scaled(group, scale)
        for first in singles:
            for second in singles:
                if _two(first[0], second[0]) and self._fits(group, [*first, *second]):
                    return self._apply([*first, *second], "b")
        return []

    def _changed(self, arrays: Arrays, changes: Sequence[Change]) -> Arrays | None:
        changed = dict(arrays)
        for change in changes:
            part = change.apply(self.layer, changed)
            if not part:
                return None
            changed |= part
        return changed

    def _fits(self, group: Sequence[str], changes: Sequence[Change], reverse: bool = False) -> bool:
        before, wanted = (self.b, self.a) if reverse else (self.a, self.b)
        changed = self._changed(before, changes)
        return changed is not None and self._same(group, changed, wanted)

    def _apply(self, changes: Sequence[Change], lost: str) -> list[_Found]:
        if lost == "b":
            self.a = self._changed(self.a, changes) or self.a
        else:
            self.b = self._changed(self.b, changes) or self.b
        return [_Found(change, lost, change.names) for change in changes]

    def _equal(self, group: Sequence[str]) -> bool:
        return self._same(group, self.a, self.b)

    def _same(self, group: Sequence[str], first: Arrays, second: Arrays) -> bool:
        one, other = (self._compared(group, arrays) for arrays in (first, second))
        return all(_close(one[name], other[name], self.bound) for name in one)

    def _compared(self, group: Sequence[str], arrays: Arrays) -> Mapping[str, FloatArray]:
        """What the function depends on: of two biases their sum, but inside a reset."""
        if not set(group) & set(BIASES):
            return {name: arrays[name] for name in group}
        reduced = with_biases(self.layer, arrays, "one")
        return {name: reduced[name] for name in reduced if name[0] == "b" or name in group}

    def _differing_biases(self) -> list[str]:
        differing = [name for name in BIASES if not _close(self.a[name], self.b[name], self.bound)]
        one, other = (with_biases(self.layer, arrays, "one") for arrays in (self.a, self.b))
        if _close(one["b"], other["b"], self.bound):
            return ["b_h"]
        return ["b"] if self.layer.reset_after is not True or len(differing) == 1 else differing

    def _scale(self, group: Sequence[str]) -> float | None:
        """What a's arrays are to be multiplied by, if there is such a number."""
        one, other = (
            np.concatenate([array.ravel() for array in self._compared(group, arrays).values()])
            for arrays in (self.a, self.b)
        )
        square = float(one @ one)
        # Of one or two numbers any could be such a multiple.
        if not square or one.size <= 2:
            return None
        scale = float(f"{one @ other / square:.6g}")
        return scale if scale and _close(scale * one, other, 4 * self.bound) else None

    def _scaled(self, group: Sequence[str], scale: float) -> list[_Found]:
        def scaled(layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
            return {name: scale * arrays[name] for name in group}

        sentence = f"{{it}}'s {{what}} {{is}} {scale:g} times {{other}}'s"
        return self._apply([Change("scaled", tuple(group), scaled, sentence)], "b")


def _two(first: Change, second: Change) -> bool:
    """Whether two changes are not one: an order of what is in another order is a third one."""
    return first is not second and not (first.kind == second.kind and set(first.names) & set(second.names))


def _close(one: FloatArray, other: FloatArray, bound: float) -> bool:
    few = one.ravel()[:_FEW], other.ravel()[:_FEW]
    if one.size > _FEW and not np.allclose(*few, rtol=0, atol=bound * np.abs(other).max()):
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.abs(one - other).max() <= bound * np.abs(other).max())


def _grouped(found: Sequence[_Found], every: Sequence[str]) -> list[Cause]:
    """A cause for what befell several parameters alike."""
    groups: dict[tuple[str, str, str], list[_Found]] = {}
    for each in found:
        groups.setdefault((each.change.kind, each.change.sentence, each.lost), []).append(each)
    causes = []
    for (kind, _, lost), alike in groups.items():
        names = [name for name in every if any(name in each.names for each in alike)]
        text = told(alike[0].change.sentence, names, every, lost, "a" if lost == "b" else "b")
        causes.append(Cause(kind, text, tuple(names)))
    return causes


def not_loaded(matched: Matched) -> Cause | None:
    """The cause where a part of the parameters has other values, and the rest is the same or explained."""
    every = list(matched.a.parameters)
    matrices = [name for name in every if name.endswith(WEIGHTS)]
    other = [name for name in matrices if name in matched.unknown]
    if not matched.unknown or len(other) > _LARGEST_PART * len(matrices):
        return None
    what = named(list(matched.unknown), every)
    sentence = (
        f"{what} have other values in b than in a, and no change of convention that is known makes one of "
        "the other: they were not loaded, or were trained on"
    )
    return Cause("other values", sentence, matched.unknown)
