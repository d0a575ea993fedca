"""Whole layers in the place of others: other orders of the layers, exchanged directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from d2lrnn.doctor.explanation import Cause, listed
from d2lrnn.doctor.variant import Variant
from d2lrnn.ports.description import Direction, prefix_of

#: Orders of more layers than this are not tried: there are too many.
_MOST_REORDERED = 4


def layer_orders(variant: Variant) -> Iterator[tuple[int, ...]]:
    """The orders in which the layers may stand, but for the one in which they do."""
    layers = variant.spec.layers
    if len(layers) > _MOST_REORDERED:
        return
    for order in permutations(range(len(layers))):
        if list(order) != sorted(order) and all(layers[l] == layers[k] for k, l in enumerate(order)):
            yield order


def with_layer_order(order: Sequence[int], variant: Variant) -> Variant:
    """A stack with the layers in another order: first the one that was number ``order[0]``."""
    moved = {
        prefix_of(k, direction) + name: variant.parameters[prefix_of(l, direction) + name]
        for k, l in enumerate(order)
        for direction in variant.spec.layers[k].directions
        for name in variant.spec.layers[k].shapes()
    }
    return variant.changed(moved)


def layer_order_cause(order: Sequence[int], variant: Variant, other: str, it: str) -> Cause:
    """The cause of another order."""
    text = f"the layers of {it} stand in the order {', '.join(map(str, order))} of those of {other}"
    return Cause("layer order", text, _names(variant, [l for k, l in enumerate(order) if k != l]))


def exchangeable_directions(variant: Variant) -> Iterator[tuple[int, ...]]:
    """The layers whose directions may be exchanged: all together, and each alone."""
    both = tuple(l for l, layer in enumerate(variant.spec.layers) if len(layer.directions) == 2)
    if both:
        yield both
    if len(both) > 1:
        yield from ((l,) for l in both)


def with_exchanged_directions(chosen: Sequence[int], variant: Variant) -> Variant:
    """A stack in some of whose layers the direction forward has the parameters of that backward, and back."""
    other: dict[Direction, Direction] = {"forward": "backward", "backward": "forward"}
    return variant.changed({
        prefix_of(l, direction) + name: variant.parameters[prefix_of(l, other[direction]) + name]
        for l in chosen
        for direction in variant.spec.layers[l].directions
        for name in variant.spec.layers[l].shapes()
    })  # fmt: skip


def exchanged_directions_cause(chosen: Sequence[int], variant: Variant, other: str, it: str) -> Cause:
    """The cause of that."""
    where = f"layer {listed(list(map(str, chosen)))}"
    text = f"the parameters of the two directions of {where} are exchanged in {it}, against {other}"
    return Cause("directions exchanged", text, _names(variant, chosen))


def _names(variant: Variant, layers: Sequence[int]) -> tuple[str, ...]:
    return tuple(name for name in variant.parameters if int(name.split(".")[1]) in layers)
