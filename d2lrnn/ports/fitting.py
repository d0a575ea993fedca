"""Which layer of a framework can hold a stack; and where none can, why, and what comes nearest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import Biases, LayerSpec, StackSpec
from d2lrnn.ports.layout import part_of, with_biases


class Fitted(NamedTuple):
    """What is built for a stack: the same function, as a framework's layers have it.

    Attributes:
        conventions: of the layer that holds each of the stack's.
        spec: the stack as it is built: other biases, axes or padding.
        parameters: of `spec`.
        notes: what is other than in the stack that was asked for.
    """

    conventions: tuple[Convention, ...]
    spec: StackSpec
    parameters: dict[str, FloatArray]
    notes: tuple[str, ...]


def fit(spec: StackSpec, parameters: Parameters, table: Sequence[Convention], framework: str) -> Fitted:
    """How a framework's layers can hold a stack.

    Args:
        spec: the stack.
        parameters: of it.
        table: the layers of the framework.
        framework: what an error calls it.

    Raises:
        PortError: they cannot; the message says why, and what comes nearest.
    """
    chosen = tuple(_choice(layer, spec, table, framework) for layer in spec.layers)
    together = len(chosen) > 1 and chosen[0].stack == "uniform"
    if together and len({replace(layer, input_size=1, biases="one") for layer in spec.layers}) > 1:
        raise PortError(
            f"the layers of {framework}'s {chosen[0].layer} are all alike, and these differ: port them one "
            "by one, as modules of their own"
        )
    layers = tuple(
        replace(layer, biases=_biases(layer, spec if together else None, convention))
        for layer, convention in zip(spec.layers, chosen, strict=True)
    )
    axes, paddings = chosen[0].axes, chosen[0].padding
    built = replace(
        spec,
        layers=layers,
        batch_first="batch" in axes and (spec.batch_first or "time" not in axes),
        # A cell's steps have no padding.
        padding=spec.padding if spec.padding in paddings else next(iter(paddings), spec.padding),
    )
    changed: dict[str, FloatArray] = {}
    for (prefix, layer, _), (_, after, _) in zip(spec.parts(), built.parts(), strict=True):
        arrays = with_biases(layer, part_of(parameters, prefix, list(layer.shapes())), after.biases)
        changed |= {prefix + name: arrays[name] for name in after.shapes()}
    return Fitted(chosen, built, changed, tuple(_notes(spec, built)))


def _choice(layer: LayerSpec, spec: StackSpec, table: Sequence[Convention], framework: str) -> Convention:
    """The first of the table that can hold a layer; an error tells of the one that comes nearest."""
    refused = []
    for convention in table:
        if (convention.cell, convention.form) == (layer.cell, spec.form):
            obstacles = list(_obstacles(layer, convention))
            if not obstacles:
                return convention
            refused.append((len(obstacles), f"{convention.layer} cannot hold this: {'; '.join(obstacles)}"))
    if not refused:
        raise PortError(f"{framework} has no {spec.form} of the cell {layer.cell}: choose another framework")
    raise PortError(f"{framework}'s {min(refused)[1]}")


def _obstacles(layer: LayerSpec, convention: Convention) -> Iterator[str]:
    """Why it cannot hold a layer, each with what comes nearest."""
    if layer.reset_after is not None and convention.reset != ("after" if layer.reset_after else "before"):
        yield (
            f"it resets {convention.reset} the matrix product, and this GRU "
            f"{'after' if layer.reset_after else 'before'} it: no weights make the one into the other. "
            f"Nearest is a GRU with reset_after={not layer.reset_after}, trained anew"
        )
    if layer.projection_size is not None and not convention.projection:
        yield (
            f"it has no projection (here to {layer.projection_size}). Nearest is an LSTM of "
            f"{layer.hidden_size} without one, whose w_h is w_p w_h, and a dense layer w_p behind it"
        )
    if layer.activation not in convention.activations:
        yield f"its activation is one of {', '.join(convention.activations)}, not {layer.activation}"
    if layer.gate_activation is not None and layer.gate_activation not in convention.gate_activations:
        yield f"its gates have {', '.join(convention.gate_activations)}, not {layer.gate_activation}"
    if len(layer.directions) == 2:
        if not convention.both:
            yield "it reads in one direction. Port the two directions as modules of their own"
        elif layer.merge not in convention.merges:
            yield (
                f"outputs of two directions are merged by {', '.join(convention.merges)}, not {layer.merge}. "
                "Port it with merge concat, and merge the halves of its outputs"
            )
    elif layer.directions[0] not in convention.directions:
        yield "it does not read backward alone. Port the layer forward, and flip its inputs along the time"
    elif layer.directions == ("backward",) and layer.flipped != convention.flipped:
        order = "of reading" if convention.flipped else "of time"
        yield f"its outputs stand in the order {order}. Port the layer forward, and flip inputs and outputs"


def _biases(layer: LayerSpec, alike: StackSpec | None, convention: Convention) -> Biases:
    """How many biases a layer gets; all of `alike` have some where one has."""
    others = {each.biases for each in alike.layers} if alike else {layer.biases}
    if layer.biases in convention.biases and len(others) == 1:
        return layer.biases
    return next(biases for biases in convention.biases if biases != "none")


def _notes(spec: StackSpec, built: StackSpec) -> Iterator[str]:
    """What the caller of the one finds otherwise in the other."""
    if spec.batch_first != built.batch_first:
        yield f"it takes {_axes(built)}, where the other takes {_axes(spec)}"
    if spec.padding != built.padding and spec.form == "layer":
        yield f"at padded steps its outputs are {_PADDING[built.padding]}, not {_PADDING[spec.padding]}"
    changes = {(a.biases, b.biases) for a, b in zip(spec.layers, built.layers, strict=True)}
    for before, after in sorted(changes):
        if before != after:
            yield _BIASES[before, after]


_PADDING = {"zeros": "zeros", "repeat": "those of the step before"}
_BIASES: dict[tuple[Biases, Biases], str] = {
    ("none", "one"): "it has biases, which are zero: trained, they do not stay so",
    ("none", "two"): "it has biases, which are zero: trained, they do not stay so",
    (
        "one",
        "two",
    ): "it has two biases a gate, the second zero: trained, their sum moves twice as fast",
    ("two", "one"): "it has one bias a gate, the sum of two: trained, it moves half as fast",
}


def _axes(spec: StackSpec) -> str:
    return "(batch, time, …)" if spec.batch_first else "(time, batch, …)"
