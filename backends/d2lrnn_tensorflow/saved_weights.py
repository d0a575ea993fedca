"""A stack among the weights of a Keras model alone: by the names of groups and the shapes of arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

import h5py
import numpy as np

from d2lrnn.contract.values import DType, FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import Biases, Direction, LayerSpec, Padding, StackSpec
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn_tensorflow.saved_arrays import CellArrays, arrays_at, groups_of_cells, listed


def stack_in(weights: h5py.File, hints: Hints, size: int) -> tuple[StackSpec, list[CellArrays]]:
    """The stack, where nothing else was said as Keras' defaults have it, and the arrays of its cells.

    Args:
        weights: the file.
        hints: what is known from elsewhere.
        size: the bytes of the file.

    Raises:
        PortError: there is none, or more than one, or the file does not say enough of it.
    """
    groups = {layer: list(cells) for layer, cells in groupby(groups_of_cells(weights), _layer_of)}
    if not groups:
        raise PortError("no recurrent layer is in it: no group is called cell, as Keras 3 names them")
    if hints.activation is None:
        raise PortError(
            "the file does not say the activation of its layers: say it by --activation; Keras takes tanh "
            "where nothing else was said"
        )
    specs: list[LayerSpec] = []
    cells: list[CellArrays] = []
    for name in _ordered(list(groups), hints):
        places = _in_order(groups[name])
        both = places[0].endswith("/forward_layer/cell")
        for k in range(0, len(places), 2 if both else 1):
            own = [arrays_at(weights, place, size) for place in places[k : k + (2 if both else 1)]]
            spec, row = _guessed(own[0], places[k], hints, both)
            if specs and spec.input_size != specs[-1].output_size:
                raise PortError(
                    f"{places[k]} takes vectors of {spec.input_size}, and what stands before it gives such "
                    f"of {specs[-1].output_size}: choose one by --prefix, or convert the .keras file, which "
                    "says how they belong together"
                )
            specs.append(spec)
            cells += [CellArrays(place, row, each) for place, each in zip(places[k:], own, strict=False)]
    doubles = {each.dtype == np.float64 for cell in cells for each in cell.arrays}
    dtype: DType = "float64" if doubles == {True} else "float32"
    padding: Padding = "zeros" if len(specs[-1].directions) == 2 else "repeat"
    return StackSpec(tuple(specs), batch_first=True, padding=padding, dtype=dtype), cells


def _layer_of(cell: str) -> str:
    """The group of the layer that a cell is of."""
    return re.sub(r"(/(forward|backward)_layer)?/cell(/cells/[^/]*)?$", "", cell)


def _in_order(cells: Sequence[str]) -> list[str]:
    """The cells of a layer: forward before backward, those of a stack by their number."""
    return sorted(cells, key=lambda cell: ("/backward_layer/" in cell, _number(cell)))


def _ordered(names: list[str], hints: Hints) -> list[str]:
    """The layers that are asked for, the first one first."""
    if hints.prefix:
        prefix = hints.prefix.rstrip("/")
        chosen = [name for name in names if name == prefix or name.startswith(prefix + "/")]
        if not chosen:
            raise PortError(f"no recurrent layer has the prefix {hints.prefix!r}: it has {listed(names)}")
    else:
        chosen = names
        if hints.prefix is None and len(names) > 1:
            raise PortError(
                f"the file has {len(names)} recurrent layers, and does not say how they belong together: "
                f"choose one by --prefix, of {listed(names)}, or all that stand one behind the other by what "
                "their names begin with: --prefix layers"
            )
    if len({_class_of(name) for name in chosen}) > 1:
        raise PortError(
            f"the file does not say in which order {listed(chosen)} stand: convert the .keras file"
        )
    return sorted(chosen, key=_number)


def _class_of(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _number(name: str) -> int:
    found = re.search(r"_(\d{1,6})$", name)
    return int(found[1]) if found else 0


def _guessed(own: list[FloatArray], place: str, hints: Hints, both: bool) -> tuple[LayerSpec, Convention]:
    """What the shapes of a cell say."""
    if len(own) not in (2, 3) or any(each.ndim != 2 for each in own[:2]):
        raise PortError(f"the arrays at {place} are not those of a recurrent cell")
    hidden, width = own[1].shape
    biases = own[2] if len(own) == 3 else None
    table = [row for row in conventions("tensorflow") if row.form == "layer"]
    rows = [row for row in table if len(row.gates) * hidden == width]
    if not rows:
        known = ", ".join(dict.fromkeys(row.cell for row in table))
        raise PortError(f"{place} has {width} columns for {hidden} units: that is none of {known}")
    if hints.cell not in (None, rows[0].cell):
        raise PortError(f"--cell is {hints.cell}, and the shapes at {place} are those of {rows[0].cell}")
    if len(rows) > 1:
        reset = hints.reset_after if biases is None else biases.ndim == 2
        if reset is None:
            raise PortError(
                f"a {rows[0].cell} without biases does not say where it resets: say it by --reset-after "
                "(Keras' default) or --reset-before"
            )
        if hints.reset_after not in (None, reset):
            raise PortError(f"the biases at {place} are those of reset_after={reset}: leave the option out")
        rows = [row for row in rows if row.reset == ("after" if reset else "before")]
    row = rows[0]
    directions: tuple[Direction, ...] = ("forward", "backward") if both else ("forward",)
    own_biases: Biases = "none" if biases is None else row.biases[0]
    return LayerSpec(
        row.cell,
        own[0].shape[0],
        hidden,
        biases=own_biases,
        activation=hints.activation or row.activations[0],
        reset_after=None if row.reset == "none" else row.reset == "after",
        directions=directions,
    ), row


def unsaid(spec: StackSpec) -> Iterator[str]:
    """What of a stack a file of weights leaves out, and no default is."""
    for layer in spec.layers:
        if layer.gate_activation not in (None, "sigmoid"):
            yield f"that the gates have {layer.gate_activation}"
        if layer.directions == ("backward",):
            yield "that a layer reads backward"
        if layer.merge != "concat":
            yield f"that the outputs of two directions are merged by {layer.merge}"
    if len({(layer.cell, len(layer.directions)) for layer in spec.layers}) > 1:
        yield "in which order layers of several kinds stand"
