"""What may be wrong with a stack of which only outputs are seen: a table, of parameters, settings and use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from d2lrnn.contract import cells
from d2lrnn.contract.values import FloatArray
from d2lrnn.doctor.changes import Change, changes_of
from d2lrnn.doctor.explanation import Cause
from d2lrnn.doctor.rearranged import (
    exchangeable_directions,
    exchanged_directions_cause,
    layer_order_cause,
    layer_orders,
    with_exchanged_directions,
    with_layer_order,
)
from d2lrnn.doctor.settings import SETTINGS, setting_text
from d2lrnn.doctor.variant import Use, Variant
from d2lrnn.doctor.wording import layers_text, told
from d2lrnn.ports.description import LayerSpec
from d2lrnn.ports.layout import part_of


@dataclass(frozen=True)
class Fault:
    """Something that may be wrong.

    Attributes:
        kind: its name.
        layers: which layers it is about; a fault of layers that are not yet computed is not seen.
        apply: what it makes of a stack; None where it does not apply, or changes nothing.
        cause: what a person is told of it, from the names of the right side and of the one with the fault.
        weights_of_state: whether it is about these alone, which one step from zeros does not show.
    """

    kind: str
    layers: tuple[int, ...]
    apply: Callable[[Variant], Variant | None]
    cause: Callable[[str, str], Cause]
    weights_of_state: bool = False


def faults_of(variant: Variant) -> list[Fault]:
    """All that may be wrong with a stack, the most usual first: of equals the first is named."""
    every = tuple(range(len(variant.spec.layers)))
    return [
        *_uses(variant, every),
        *_settings(variant, every),
        *_of_parameters(variant),
        *_rearranged(variant),
    ]


# -- how it is used --------------------------------------------------------------------------------------

_USES: tuple[tuple[str, Use, str], ...] = (
    (
        "axes",
        Use(swapped_axes=True),
        "batch and time are swapped: {it} reads (batch, time, …) where it is given (time, batch, …)",
    ),
    (
        "fed the input",
        Use(fed_input=True),
        "in {it} the layers behind the first are fed the input, and not the outputs of the layer before",
    ),
    ("state ignored", Use(state_ignored=True), "{it} ignores the first state: it begins at zeros"),
    (
        "padding ignored",
        Use(padding_ignored=True),
        "{it} ignores the lengths: it reads padding like other steps",
    ),
    (
        "states exchanged",
        Use(states_exchanged=True),
        "h and c are exchanged in {it}: the state is (c, h) where {other} has (h, c)",
    ),
    ("c for h", Use(gives_cell=True), "{it} gives the cell's state c as its output, where {other} gives h"),
)


def _uses(variant: Variant, every: tuple[int, ...]) -> Iterator[Fault]:
    layers = variant.spec.layers
    lstm = all(each.cell == cells.LSTM.name and each.projection_size is None for each in layers)
    alike = len(layers) > 1 and all(each.input_size == layers[0].input_size for each in layers)
    applies = {
        "axes": variant.spec.form == "layer",
        "fed the input": alike,
        "states exchanged": lstm,
        "c for h": lstm,
    }
    for kind, use, sentence in _USES:
        if applies.get(kind, True):
            yield Fault(kind, every, partial(_used, use), partial(_cause, kind, (), sentence))
    yield from _directions(layers, every)


def _directions(layers: Sequence[LayerSpec], every: tuple[int, ...]) -> Iterator[Fault]:
    """What is turned round: what reads backward may stand in the order of reading, and what reads forward."""
    backward = tuple(l for l in every if "backward" in layers[l].directions)
    for group in _all_and_each(backward):
        text = (
            f"{{it}} does not flip the outputs of the direction backward in "
            f"{layers_text(group, len(every))}: they stand in the order of reading"
        )
        use = Use(order_of_reading=group)
        yield Fault(
            "order of outputs", group, partial(_used, use), partial(_cause, "order of outputs", (), text)
        )
    both = tuple(l for l in every if len(layers[l].directions) == 2)
    for group in _all_and_each(both):
        text = (
            f"{{it}} has the outputs of the direction backward before those forward in "
            f"{layers_text(group, len(every))}"
        )
        apply = partial(_used, Use(backward_first=group))
        yield Fault("directions exchanged", group, apply, partial(_cause, "directions exchanged", (), text))
    alone = tuple(l for l in every if len(layers[l].directions) == 1)
    for group in _all_and_each(alone):
        where, ours = layers_text(group, len(every)), layers[group[0]].directions[0]
        theirs = "forward" if ours == "backward" else "backward"
        text = f"{where} reads {theirs} in {{it}}, and {ours} in {{other}}"
        uses = {text: Use(turned=group)}
        if ours == "forward":
            uses[f"{text}; its outputs stand in that order"] = Use(turned=group, order_of_reading=group)
        for sentence, use in uses.items():
            yield Fault("direction", group, partial(_used, use), partial(_cause, "direction", (), sentence))


def _all_and_each(layers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if layers:
        yield layers
    if len(layers) > 1:
        yield from ((l,) for l in layers)


def _used(use: Use, variant: Variant) -> Variant:
    return replace(
        variant, use=replace(variant.use, **{name: value for name, value in vars(use).items() if value})
    )


def _cause(kind: str, parameters: tuple[str, ...], sentence: str, other: str, it: str) -> Cause:
    return Cause(kind, sentence.format(it=it, other=other), parameters)


# -- settings --------------------------------------------------------------------------------------------

#: The values that a setting may have had in their place.
_OTHERWISE: dict[str, tuple[Any, ...]] = {
    "activation": ("tanh", "relu", "sigmoid", "linear"),
    "gate_activation": ("sigmoid", "tanh", "relu", "linear"),
    "reset_after": (True, False),
    "merge": ("concat", "sum", "mul", "ave"),
}


def _settings(variant: Variant, every: tuple[int, ...]) -> Iterator[Fault]:
    layers = variant.spec.layers
    for setting in SETTINGS:
        for value in _OTHERWISE.get(setting.field, ()):
            for group in _all_and_each(every):
                if all(_may_be(layers[l], setting.field, value) for l in group):
                    ours = getattr(layers[group[0]], setting.field)
                    text = partial(setting_text, setting, group, len(every), ours, value)
                    yield Fault(
                        setting.kind,
                        group,
                        partial(_set, group, setting.field, value),
                        partial(_setting_cause, setting.kind, text),
                    )


def _may_be(layer: LayerSpec, field: str, value: Any) -> bool:
    ours = getattr(layer, field)
    if ours == value or ours is None:
        return False
    return field != "merge" or (len(layer.directions) == 2 and "concat" not in (ours, value))


def _set(group: tuple[int, ...], field: str, value: Any, variant: Variant) -> Variant:
    change: dict[str, Any] = {field: value}
    layers = tuple(
        replace(layer, **change) if l in group else layer for l, layer in enumerate(variant.spec.layers)
    )
    return replace(variant, spec=replace(variant.spec, layers=layers))


def _setting_cause(kind: str, text: Callable[[str, str], str], other: str, it: str) -> Cause:
    return Cause(kind, text(other, it))


# -- parameters ------------------------------------------------------------------------------------------


def _of_parameters(variant: Variant) -> Iterator[Fault]:
    """Every change in every layer, in all of them alike first."""
    parts = list(variant.spec.parts())
    places = [(prefix, layer, int(prefix.split(".")[1])) for prefix, layer, _ in parts]
    entries: dict[tuple[str, tuple[str, ...], str], list[tuple[str, Change, int]]] = {}
    for prefix, layer, l in places:
        for change in changes_of(layer):
            entries.setdefault((change.kind, change.names, change.sentence), []).append((prefix, change, l))
    for (kind, _, _), where in entries.items():
        groups = [where, *([each] for each in where)] if len(where) > 1 else [where]
        for group in groups:
            layers = tuple(sorted({l for _, _, l in group}))
            names = tuple(prefix + name for prefix, change, _ in group for name in change.names)
            yield Fault(
                kind,
                layers,
                partial(_changed, tuple((prefix, change) for prefix, change, _ in group)),
                partial(_change_cause, group[0][1], names, list(variant.parameters)),
                group[0][1].names == ("w_h",),
            )


def _changed(group: Sequence[tuple[str, Change]], variant: Variant) -> Variant | None:
    layers = {prefix: layer for prefix, layer, _ in variant.spec.parts()}
    found: dict[str, FloatArray] = {}
    for prefix, change in group:
        layer = layers[prefix]
        part = change.apply(layer, part_of(variant.parameters, prefix, list(layer.shapes())))
        if not part:
            return None
        found |= {prefix + name: array for name, array in part.items()}
    return variant.changed(found)


def _change_cause(change: Change, names: tuple[str, ...], every: list[str], other: str, it: str) -> Cause:
    return Cause(change.kind, told(change.sentence, names, every, it, other), names)


# -- whole layers ----------------------------------------------------------------------------------------


def _rearranged(variant: Variant) -> Iterator[Fault]:
    for order in layer_orders(variant):
        moved = tuple(l for k, l in enumerate(order) if k != l)
        yield Fault(
            "layer order",
            moved,
            partial(with_layer_order, order),
            partial(layer_order_cause, order, variant),
        )
    for chosen in exchangeable_directions(variant):
        yield Fault(
            "directions exchanged",
            chosen,
            partial(with_exchanged_directions, chosen),
            partial(exchanged_directions_cause, chosen, variant),
        )
