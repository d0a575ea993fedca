"""Recurrent stacks among the arrays of a file, by their names.

A state dict has the names of a layer behind those of the modules around it, ``encoder.rnn.weight_ih_l0``.
What stands before them is the prefix, and arrays with one prefix are one module. Modules with numbers,
``layers.0.`` and ``layers.1.``, can be a stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import LayerSpec, StackSpec, prefix_of
from d2lrnn.ports.formats.names import Names, names_of
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.shapes import Shaped, spec_of
from d2lrnn.ports.layout import from_own, part_of, to_own
from d2lrnn.ports.porter import Described


class Found(NamedTuple):
    """A stack among arrays.

    Attributes:
        spec: what it computes.
        places: the names of its arrays in the file, by the canonical ones.
        notes: what was taken for granted, and what else there is.
    """

    spec: StackSpec
    places: dict[str, str]
    notes: tuple[str, ...]

    def in_module(self, backend: str) -> dict[str, str]:
        """The names in the file by what the module that is built of the stack calls its arrays."""
        own = names_of(backend).of_module(self.spec)
        return {own[name]: place for name, place in self.places.items()}


def find_stack(arrays: Mapping[str, Shaped], backend: str, hints: Hints) -> Found:
    """The stack among the arrays of a file.

    Args:
        arrays: all of them.
        backend: whose framework's names and layers they are.
        hints: what is known from elsewhere.

    Raises:
        PortError: there is none, or more than one, or the arrays do not belong together.
    """
    names = names_of(backend)
    stacks = _stacks(arrays, names)
    if not stacks:
        raise PortError(
            f"no recurrent layer is in it: none of its {len(arrays)} arrays is called {names.w_x}"
            f"{names.layer.format(l=0)} or {names.w_x}, with or without something before it"
        )
    prefixes = _prefixes(stacks, hints)
    layers: list[LayerSpec] = []
    places: dict[str, str] = {}
    specs = []
    for prefix in prefixes:
        own = stacks[prefix]
        spec = spec_of({key: arrays[name] for key, name in own.items()}, names, backend, hints)
        keys = names.of_module(spec)
        for l, layer in enumerate(spec.layers):
            for direction in layer.directions:
                for name in layer.shapes():
                    place = own[keys[prefix_of(l, direction) + name]]
                    places[prefix_of(len(layers) + l, direction) + name] = place
        layers += spec.layers
        specs.append(spec)
    if len(specs) > 1 and any(spec.form == "cell" or spec.dtype != specs[0].dtype for spec in specs):
        raise PortError(f"{_listed(prefixes)} are no stack: they are cells, or of several types of numbers")
    spec = replace(specs[0], layers=tuple(layers))
    _check_hints(layers, hints)
    notes = []
    if hints.batch_first is None and spec.form == "layer":
        notes.append("the file does not say which axis is the first: time is taken, --batch-first says batch")
    used = set(places.values())
    if rest := [name for name in arrays if name not in used]:
        some = ", ".join(rest[:3]) + (", …" if len(rest) > 3 else "")
        notes.append(f"{len(rest)} arrays beside {_called(prefixes)} are left out: {some}")
    return Found(spec, places, tuple(notes))


def _check_hints(layers: Sequence[LayerSpec], hints: Hints) -> None:
    """Raises a PortError where what was said of the layers is true of none."""
    if hints.activation is not None and all(layer.activation != hints.activation for layer in layers):
        raise PortError(f"--activation is {hints.activation}, and its layers have {layers[0].activation}")
    resets = {layer.reset_after for layer in layers}
    if hints.reset_after is not None and hints.reset_after not in resets:
        option = "--reset-after" if hints.reset_after else "--reset-before"
        other = "it resets before the product" if False in resets else "it resets after the product"
        why = other if resets != {None} else "it has no GRU"
        raise PortError(f"{option} does not fit its layers: {why}. Leave it out")


def described(found: Found, arrays: Mapping[str, FloatArray], backend: str) -> Described:
    """The stack with its parameters, from arrays by the names in the file."""
    parameters: dict[str, FloatArray] = {}
    for prefix, layer, _ in found.spec.parts():
        own = {name: arrays[found.places[prefix + name]] for name in layer.shapes()}
        canonical = from_own(_convention(layer, found.spec, backend), layer, own)
        parameters |= {prefix + name: array for name, array in canonical.items()}
    return Described(found.spec, parameters, found.notes)


def named_arrays(
    spec: StackSpec, parameters: Mapping[str, FloatArray], backend: str
) -> dict[str, FloatArray]:
    """The arrays of a stack that fits the framework, by its names.

    Args:
        spec: what `d2lrnn.ports.fitting.fit` made fit.
        parameters: of it.
        backend: whose framework's names they get.
    """
    names = names_of(backend).of_module(spec)
    arrays: dict[str, FloatArray] = {}
    for prefix, layer, _ in spec.parts():
        convention = _convention(layer, spec, backend)
        own = to_own(convention, layer, part_of(parameters, prefix, list(layer.shapes())))
        arrays |= {names[prefix + name]: array for name, array in own.items()}
    return arrays


def _convention(layer: LayerSpec, spec: StackSpec, backend: str) -> Convention:
    return next(row for row in conventions(backend) if (row.cell, row.form) == (layer.cell, spec.form))


def _stacks(arrays: Mapping[str, Shaped], names: Names) -> dict[str, dict[str, str]]:
    """By prefix, the names in the file by those of the framework; only where there is a first w_x."""
    own = "|".join(re.escape(getattr(names, name)) for name in ("w_x", "w_h", "b", "b_h", "w_p"))
    layer = re.escape(names.layer).replace(re.escape("{l}"), r"\d{1,3}")
    pattern = re.compile(rf"(?:.*[./])?(?P<own>(?:{own})(?:{layer}(?:{re.escape(names.backward)})?)?)")
    stacks: dict[str, dict[str, str]] = {}
    for name in arrays:
        if found := pattern.fullmatch(name):
            prefix = name[: found.start("own")]
            stacks.setdefault(prefix, {})[found["own"]] = name
    firsts = {names.w_x, names.w_x + names.layer.format(l=0)}
    return {prefix: places for prefix, places in stacks.items() if firsts & places.keys()}


def _prefixes(stacks: Mapping[str, object], hints: Hints) -> list[str]:
    """What stands before the names of the stack that is asked for: several where it is numbered modules."""
    if hints.prefix is None:
        if len(stacks) > 1:
            raise PortError(
                f"the file has {len(stacks)} recurrent layers: choose one by --prefix, of {_listed(stacks)}; "
                "of layers with numbers, one behind the other, by what stands before the numbers, or by ''"
            )
        return list(stacks)
    wanted = hints.prefix.rstrip("./")
    for prefix in stacks:
        if prefix.rstrip("./") == wanted:
            return [prefix]
    numbered = re.compile(re.escape(wanted) + (r"[./]" if wanted else "") + r"(\d{1,3})[./]")
    found = {int(match[1]): prefix for prefix in stacks if (match := numbered.fullmatch(prefix))}
    if not found:
        raise PortError(f"no recurrent layer has the prefix {hints.prefix!r}: the file has {_listed(stacks)}")
    return [found[number] for number in sorted(found)]


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(map(repr, shown[:8])) + (", …" if len(shown) > 8 else "")


def _called(prefixes: Sequence[str]) -> str:
    return ", ".join(prefix.rstrip("./") for prefix in prefixes) or "those of the layer"
