"""Which layer of a framework can hold a stack; and where none can, why, and what comes nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from d2lrnn.contract.values import DType, FloatArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import Biases, LayerSpec, Padding, Reset, StackSpec, prefix_of
from d2lrnn.ports.layout import part_of, reset_bias, with_biases


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


def fit(
    spec: StackSpec,
    parameters: Parameters,
    table: Sequence[Convention],
    framework: str,
    namespace: str | None = None,
) -> Fitted:
    """How a framework's layers can hold a stack.

    Args:
        spec: the stack.
        parameters: of it.
        table: the layers of the framework.
        framework: what an error calls it.
        namespace: which of its layers, where it has several kinds (`Convention.namespace`); None takes the
            first kind that can hold all of the stack.

    Raises:
        PortError: they cannot; the message says why, and what comes nearest.
    """
    chosen = _choices(spec, _reset_biases(spec, parameters), table, framework, namespace)
    together = len(chosen) > 1 and alike(replace(layer, biases="one") for layer in spec.layers)
    together = together and chosen[0].stack == "uniform"
    layers = tuple(
        replace(layer, biases=_biases(layer, spec if together else None, convention))
        for layer, convention in zip(spec.layers, chosen, strict=True)
    )
    axes = [axis for axis in chosen[0].axes if all(axis in convention.axes for convention in chosen)]
    paddings = chosen[0].padding
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
    notes = list(_notes(spec, built))
    if len(chosen) > 1 and chosen[0].stack == "uniform" and not together:
        notes.append("its layers differ: they are modules of their own, one behind the other")
    return Fitted(chosen, built, changed, tuple(notes))


def alike(layers: Iterable[LayerSpec]) -> bool:
    """Whether layers differ in the size of their inputs alone, so that one module can hold all of them.

    Example:
        >>> alike([LayerSpec("rnn", 8, 16), LayerSpec("rnn", 16, 16)])
        True
    """
    return len({replace(layer, input_size=1) for layer in layers}) == 1


def _reset_biases(spec: StackSpec, parameters: Parameters) -> list[bool]:
    """Whether each layer has a bias inside the reset that is other than zero."""
    found = [False] * len(spec.layers)
    for l, layer in enumerate(spec.layers):
        for direction in layer.directions:
            arrays = part_of(parameters, prefix_of(l, direction), list(layer.shapes()))
            inner = reset_bias(layer, arrays)
            found[l] = found[l] or (inner is not None and bool(inner.any()))
    return found


def _choices(
    spec: StackSpec,
    reset_biases: list[bool],
    table: Sequence[Convention],
    framework: str,
    namespace: str | None,
) -> tuple[Convention, ...]:
    """The layers of one kind that hold a stack; the error is that of the first kind."""
    kinds = list(dict.fromkeys(convention.namespace for convention in table))
    if namespace is not None and namespace not in kinds:
        raise PortError(f"{framework} has no layers called {namespace}.…: choose one of {', '.join(kinds)}")
    errors = []
    for kind in kinds if namespace is None else [namespace]:
        rows = [convention for convention in table if convention.namespace == kind]
        pairs = zip(spec.layers, reset_biases, strict=True)
        try:
            return tuple(_choice(layer, reset_bias, spec, rows, framework) for layer, reset_bias in pairs)
        except PortError as error:
            errors.append(error)
    raise errors[0]


def _choice(
    layer: LayerSpec, reset_bias: bool, spec: StackSpec, table: Sequence[Convention], framework: str
) -> Convention:
    """The first of the table that can hold a layer; an error tells of the one that comes nearest."""
    refused = []
    for convention in table:
        if (convention.cell, convention.form) == (layer.cell, spec.form):
            obstacles = list(_obstacles(layer, reset_bias, convention, spec.dtype))
            if not obstacles:
                return convention
            refused.append((len(obstacles), f"{convention.layer} cannot hold this: {'; '.join(obstacles)}"))
    if not refused:
        raise PortError(f"{framework} has no {spec.form} of the cell {layer.cell}: choose another framework")
    raise PortError(f"{framework}'s {min(refused)[1]}")


def _obstacles(layer: LayerSpec, reset_bias: bool, convention: Convention, dtype: DType) -> Iterator[str]:
    """Why it cannot hold a layer, each with what comes nearest."""
    if convention.reset != layer.reset:
        cell, nearest = layer.cell.partition("-")[0].upper(), _RESET_AFTER[convention.reset]
        yield (
            f"it {_RESETS[convention.reset]}, and this {cell} {_RESETS[layer.reset]}: no weights make the "
            f"one into the other. Nearest is one with reset_after={nearest}, trained anew"
        )
    if reset_bias and convention.biases == ("input",):
        yield (
            "it has no bias inside the reset, and this one has b_hn other than zero. Nearest is one with "
            "biases='input', trained anew"
        )
    if layer.projection_size is not None and not convention.projection:
        yield (
            f"it has no projection (here to {layer.projection_size}). Nearest is an LSTM of "
            f"{layer.hidden_size} without one, whose w_h is w_p w_h, and a dense layer w_p behind it"
        )
    if layer.activation not in convention.activations:
        yield f"its activation is one of {', '.join(convention.activations)}, not {layer.activation}"
    elif dtype == "float64" and layer.activation in convention.float32_only:
        yield f"it computes its {layer.activation} in float32, and this is float64. Port it in float32"
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
    elif layer.directions == ("backward",) and layer.flipped not in convention.orders:
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


_RESETS: dict[Reset, str] = {
    "after": "resets after the matrix product",
    "before": "resets before the matrix product",
    "none": "does not reset",
}
_RESET_AFTER: dict[Reset, bool | None] = {"after": True, "before": False, "none": None}
_PADDING: dict[Padding, str] = {
    "zeros": "zeros",
    "repeat": "those of the step before",
    "computed": "computed from the padding",
}
_ADDED = "it has biases, which are zero: trained, they do not stay so"
_DOUBLED = "it has two biases a gate, the second zero: trained, their sum moves twice as fast"
_HALVED = "it has one bias a gate, the sum of two: trained, it moves half as fast"
_LOST = "it has no bias inside the reset, where the other's is zero: none is trained"
_BIASES: dict[tuple[Biases, Biases], str] = {
    ("none", "input"): _ADDED,
    ("none", "one"): _ADDED,
    ("none", "two"): _ADDED,
    ("input", "one"): "it has a bias inside the reset, which is zero: trained, it does not stay so",
    ("input", "two"): _DOUBLED,
    ("one", "input"): _LOST,
    ("one", "two"): _DOUBLED,
    ("two", "input"): f"{_HALVED}; {_LOST}",
    ("two", "one"): _HALVED,
}


def _axes(spec: StackSpec) -> str:
    return "(batch, time, …)" if spec.batch_first else "(time, batch, …)"
