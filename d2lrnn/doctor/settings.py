"""What two descriptions say differently: the settings of layers and of stacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from d2lrnn.doctor.explanation import Cause, listed
from d2lrnn.doctor.wording import layers_text
from d2lrnn.errors import PortError
from d2lrnn.ports.description import LayerSpec, StackSpec

#: What two layers must have in common to be one model at all, and what a message calls it.
_SHAPES = {
    "cell": "the cell",
    "input_size": "the length of an input vector",
    "hidden_size": "the number of hidden units",
    "projection_size": "the projection",
}


@dataclass(frozen=True)
class Setting:
    """One field of a layer's description.

    Attributes:
        kind: the name of a difference in it.
        field: its name.
        sentence: what is said of it; ``{theirs}`` is the value of ``{it}``, ``{ours}`` that of ``{other}``.
        words: what a value is called in the sentence.
    """

    kind: str
    field: str
    sentence: str
    words: Callable[[Any], str] = str


SETTINGS = (
    Setting(
        "activation",
        "activation",
        "{where} has the activation {theirs} in {it}, and {ours} in {other}",
    ),
    Setting(
        "gate activation",
        "gate_activation",
        "{where} has the activation {theirs} in its gates in {it}, and {ours} in {other}",
    ),
    Setting(
        "reset",
        "reset_after",
        "{where} resets {theirs} the product with the state in {it}, and {ours} it in {other}",
        lambda after: "after" if after else "before",
    ),
    Setting(
        "direction",
        "directions",
        "{where} reads {theirs} in {it}, and {ours} in {other}",
        lambda directions: listed(list(directions)),
    ),
    Setting(
        "merge",
        "merge",
        "{where} merges the outputs of its directions by {theirs} in {it}, and by {ours} in {other}",
    ),
    Setting(
        "order of outputs",
        "flipped",
        "the outputs of {where} stand in the order of {theirs} in {it}, and of {ours} in {other}",
        lambda flipped: "reading" if flipped else "time",
    ),
)


def check_same_shape(a: StackSpec, b: StackSpec) -> None:
    """Checks that two descriptions can be of one model.

    Raises:
        PortError: they cannot; the message says why.
    """
    if len(a.layers) != len(b.layers):
        raise PortError(f"a has {_layers(a)}, and b {_layers(b)}: they cannot be one model")
    for l, (one, other) in enumerate(zip(a.layers, b.layers, strict=True)):
        for field, what in _SHAPES.items():
            values = getattr(one, field), getattr(other, field)
            if values[0] != values[1]:
                raise PortError(
                    f"{what} of layer {l} is {values[0]} in a, and {values[1]} in b: they cannot be one model"
                )
        if len(one.directions) != len(other.directions):
            raise PortError(
                f"layer {l} reads in {len(one.directions)} directions in a, and in "
                f"{len(other.directions)} in b: they cannot be one model"
            )


def differing_settings(a: StackSpec, b: StackSpec) -> Iterator[Cause]:
    """The settings of layers in which two descriptions of one shape differ, once for all layers alike."""
    for setting in SETTINGS:
        found: dict[tuple[Any, Any], list[int]] = {}
        for l, (one, other) in enumerate(zip(a.layers, b.layers, strict=True)):
            values = getattr(one, setting.field), getattr(other, setting.field)
            # A layer that reads in one direction merges nothing.
            if values[0] != values[1] and not (setting.field == "merge" and len(one.directions) == 1):
                found.setdefault(values, []).append(l)
        for (ours, theirs), layers in found.items():
            yield Cause(setting.kind, setting_text(setting, layers, len(a.layers), ours, theirs, "a", "b"))


def setting_text(
    setting: Setting, layers: Sequence[int], num_layers: int, ours: Any, theirs: Any, other: str, it: str
) -> str:
    """What is said of two values: ``layer 0 has the activation relu in b, and tanh in a``.

    Args:
        setting: the field.
        layers: the layers that it is about.
        num_layers: how many there are.
        ours: the value on the side `other`.
        theirs: that on the side `it`.
        other: the name of a side.
        it: that of the other side.
    """
    where = layers_text(layers, num_layers)
    values = {"ours": setting.words(ours), "theirs": setting.words(theirs)}
    return setting.sentence.format(where=where, it=it, other=other, **values)


def with_settings(layer: LayerSpec, of: LayerSpec) -> LayerSpec:
    """A layer with the settings of another, and its own biases and direction."""
    names = [setting.field for setting in SETTINGS if setting.field != "directions"]
    fields: dict[str, Any] = {name: getattr(of, name) for name in names}
    return replace(layer, **fields)


def _layers(spec: StackSpec) -> str:
    return f"{len(spec.layers)} layer{'s' if len(spec.layers) > 1 else ''}"
