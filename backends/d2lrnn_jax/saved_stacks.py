"""Recurrent layers in a tree of arrays that flax or orbax saved: they are known by the names of their arrays.

What a tree does not say is taken from hints, or is what flax does by default. The cells of one stack stand in

====================  ====================================================================================
linen                 ``…/cell`` of an RNN, ``…/forward_rnn/cell`` and ``…/backward_rnn/cell`` of a
                      Bidirectional; with ``layers_{l}`` before them in a Sequential. Cells that were made
                      in a compact module are ``…/GRUCell_{l}``, those of this library ``…/cells_{l}``
nnx                   the same with ``layers/{l}``; where a state was saved, ``value`` follows all names
====================  ====================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from d2lrnn.contract.values import DType
from d2lrnn.errors import PortError, SpecError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import MOST_LAYERS, Activation, Direction, Form, LayerSpec, StackSpec
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.shapes import Shaped
from d2lrnn_jax.saved_msgpack import TreePath


class Cell(NamedTuple):
    """A cell's arrays in a file.

    Attributes:
        row: its convention.
        paths: where its arrays are, by flax's names, as ``ir/kernel``.
        sizes: of its inputs and its state.
    """

    row: Convention
    paths: dict[str, TreePath]
    sizes: tuple[int, int]


class FoundStack(NamedTuple):
    """A stack in a file: what it computes, the cells of its layers' directions, and notes."""

    spec: StackSpec
    cells: list[Cell]
    notes: tuple[str, ...]

    @property
    def namespace(self) -> str:
        """Of which kind its cells are."""
        return self.cells[0].row.namespace

    def rows(self) -> list[Convention]:
        """The conventions of its layers, or of its cell."""
        known, found, left = {row.layer: row for row in conventions("jax")}, [], iter(self.cells)
        for layer in self.spec.layers:
            row, *_ = (next(left).row for _ in layer.directions)
            kind, _, cell = row.layer.partition(".")
            found.append(known[f"{kind}.RNN({cell})"] if self.spec.form == "layer" else row)
        return found


class _Place(NamedTuple):
    """Where a cell stands: in which stack, of which form, and which of its layers and directions."""

    stack: str
    form: Form
    layer: int
    backward: bool


_NUMBERED = re.compile(r"(layers|cells|RNN|Bidirectional|\w*Cell)_(\d{1,3})")


def find_stack(arrays: Mapping[TreePath, Shaped], hints: Hints) -> FoundStack:
    """The stack in a tree of arrays.

    Raises:
        PortError: there is none, or more than one, or its arrays do not belong together.
    """
    cells = {prefix: cell for prefix, cell in _cells(arrays).items() if _begins(prefix, hints.prefix)}
    stacks: dict[tuple[str, Form, str], dict[_Place, Cell]] = {}  # by name, form and kind
    for prefix, cell in cells.items():
        place = _place(prefix)
        stacks.setdefault((place.stack, place.form, cell.row.namespace), {})[place] = cell
    if not stacks:
        raise PortError(
            f"no cell of flax is in it: none of its {len(arrays)} arrays has the names of one"
            + ("" if hints.prefix is None else f" behind {hints.prefix!r}")
        )
    if len(stacks) > 1:
        some = ", ".join(sorted("/".join(prefix) for prefix in cells)[:8])
        raise PortError(
            f"several stacks are in it: say by --prefix what the names of one begin with, as {some}"
        )
    (_, form, _), placed = stacks.popitem()
    layers = _layers(placed)
    rows = [row for row, _ in layers]
    _check_hints(rows, hints)
    # As other frameworks' files: an activation is that of the layers without gates, where there are some.
    ungated = [not row.gate_activations for row in rows]
    activations = [hints.activation if not any(ungated) or each else None for each in ungated]
    try:
        spec = StackSpec(
            tuple(_layer_spec(*layer, each) for layer, each in zip(layers, activations, strict=True)),
            form=form,
            batch_first=form == "layer" and hints.batch_first is not False,
            padding="computed" if form == "layer" else "zeros",
            dtype=_dtype([arrays[path] for cell in placed.values() for path in cell.paths.values()]),
        )
    except SpecError as error:
        raise PortError(
            f"its layers do not fit behind one another: {error}. Where they are several stacks, or do not "
            "concatenate their directions, take them one by one, by --prefix"
        ) from error
    found = [cell for _, own in layers for cell in own.values()]
    return FoundStack(spec, found, tuple(_notes(spec, arrays, found)))


def _cells(arrays: Mapping[TreePath, Shaped]) -> dict[TreePath, Cell]:
    """The cells by what stands before the names of their arrays."""
    groups: dict[TreePath, dict[str, TreePath]] = {}
    for path in arrays:
        own = path[:-1] if path[-1:] == ("value",) else path
        if own[-1:] in (("kernel",), ("bias",)) and len(own) > 1:
            groups.setdefault(own[:-2], {})["/".join(own[-2:])] = path
    found = {}
    for prefix, paths in groups.items():
        for row in conventions("jax"):
            if row.form == "cell" and (sizes := _sizes(row, paths, arrays)) is not None:
                found[prefix] = Cell(row, paths, sizes)
                break
    return found


def _sizes(
    row: Convention, paths: Mapping[str, TreePath], arrays: Mapping[TreePath, Shaped]
) -> tuple[int, int] | None:
    """The numbers of inputs and hidden units, if arrays have the names and the shapes of a cell."""
    places = row.places()
    if sorted(paths) != sorted(name for names in places.values() for name in names):
        return None
    first, state = (arrays[paths[places[name][0]]].shape for name in ("w_x", "w_h"))
    if len(first) != 2 or len(state) != 2 or not all((*first, *state)):
        return None
    n, h, own = first[0], state[0], LayerSpec(row.cell, 1, 1, reset_after=row.reset == "after" or None)
    # With biases as the row has them: its own names were compared.
    for name, names in places.items():
        gates = 1 if name == "b_hn" else len(own.kind.gates)
        width = gates * h // len(names)
        expected = {"w_x": (n, width), "w_h": (h, width)}.get(name, (width,))
        if any(tuple(arrays[paths[each]].shape) != expected for each in names):
            return None
    return n, h


def _begins(prefix: TreePath, wanted: str | None) -> bool:
    return wanted is None or "/".join((*prefix, "")).startswith(wanted)


def _place(prefix: TreePath) -> _Place:
    """Where the names before a cell's arrays put it."""
    parts = list(prefix)
    form: Form = "cell"
    if parts[-1:] == ["cell"]:
        parts.pop()
        form = "layer"
    backward = form == "layer" and parts[-1:] == ["backward_rnn"]
    if form == "layer" and parts[-1:] in (["forward_rnn"], ["backward_rnn"]):
        parts.pop()
    layer = 0
    if len(parts) > 1 and parts[-2] == "layers" and parts[-1].isdecimal():
        layer, form = int(parts.pop()), "layer"
    elif parts and (numbered := _NUMBERED.fullmatch(parts[-1])):
        parts[-1], layer, form = numbered[1] + "_", int(numbered[2]), "layer"
    return _Place("/".join(parts), form, layer, backward)


def _layers(placed: Mapping[_Place, Cell]) -> list[tuple[Convention, dict[Direction, Cell]]]:
    """The layers, the first one first, with the cells of their directions."""
    found: dict[int, dict[Direction, Cell]] = {}
    for place in sorted(placed):
        found.setdefault(place.layer, {})["backward" if place.backward else "forward"] = placed[place]
    if list(found) != list(range(len(found))) or len(found) > MOST_LAYERS:
        raise PortError(f"its layers are numbered {', '.join(map(str, found))}: one is missing")
    for cells in found.values():
        if len({(cell.row, cell.sizes) for cell in cells.values()}) > 1 or "forward" not in cells:
            raise PortError("the two directions of a layer are not alike")
    return [(cells["forward"].row, cells) for cells in found.values()]


def _layer_spec(row: Convention, own: Mapping[Direction, Cell], activation: Activation | None) -> LayerSpec:
    return LayerSpec(
        row.cell,
        *own["forward"].sizes,
        biases=row.biases[0],
        activation=activation or row.activations[0],
        gate_activation=next(iter(row.gate_activations), None),
        reset_after=None if row.reset == "none" else row.reset == "after",
        directions=tuple(own),
    )


def _dtype(arrays: list[Shaped]) -> DType:
    types = sorted({each.dtype for each in arrays})
    for known in ("float32", "float64"):
        if types == [known]:
            return known
    raise PortError(
        f"the layers have arrays of type {', '.join(types)}: they can be float32 or float64. Convert them "
        "there, and save them again"
    )


def _check_hints(rows: list[Convention], hints: Hints) -> None:
    for row in rows:
        if hints.cell not in (None, row.cell):
            raise PortError(f"--cell is {hints.cell}, and the names of the arrays are those of {row.cell}")
    reset = {True: "after", False: "before", None: None}[hints.reset_after]
    if reset is not None and reset not in {row.reset for row in rows}:
        raise PortError(f"--reset-{reset} does not fit {rows[0].layer}: leave it out")


def _notes(spec: StackSpec, arrays: Mapping[TreePath, Shaped], cells: list[Cell]) -> Iterator[str]:
    first = spec.layers[0]
    taken: list[str] = [each for each in (first.activation, first.gate_activation) if each is not None]
    if spec.form == "layer":
        taken += [f"{'batch' if spec.batch_first else 'time'} first", "read forward"]
    yield f"the file has parameters alone; the rest is taken to be as flax has it: {', '.join(taken)}"
    own = {path for cell in cells for path in cell.paths.values()}
    rest = ["/".join(path) for path in arrays if path not in own]
    if rest:
        some = ", ".join(rest[:3]) + (", …" if len(rest) > 3 else "")
        yield f"{len(rest)} arrays beside those of the layers are left out: {some}"
