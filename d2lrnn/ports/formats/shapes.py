"""What the shapes of arrays say of one recurrent module that has a framework's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from d2lrnn.contract import cells
from d2lrnn.contract.values import DType
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import CELLS, MOST_LAYERS, Direction, Form, LayerSpec, StackSpec
from d2lrnn.ports.formats.names import Names
from d2lrnn.ports.formats.protocol import Hints


class Shaped(NamedTuple):
    """The type of numbers and the shape of an array, which need not be read yet."""

    dtype: str
    shape: tuple[int, ...]


def spec_of(arrays: Mapping[str, Shaped], names: Names, backend: str, hints: Hints) -> StackSpec:
    """What a module computes.

    Args:
        arrays: of the module, by its framework's names.
        names: those.
        backend: the framework's.
        hints: what is known from elsewhere.

    Raises:
        PortError: the arrays do not belong together, or do not say enough.
    """
    form: Form = "cell" if names.w_x in arrays else "layer"
    count = 1 if form == "cell" else _number_of_layers(arrays, names)
    directions: tuple[Direction, ...] = ("forward",)
    if names.w_x + names.layer.format(l=0) + names.backward in arrays:
        directions = ("forward", "backward")
    dtype = _dtype(arrays)
    last = "" if form == "cell" else names.layer.format(l=0)
    table = [row for row in conventions(backend) if row.form == form]
    cell, hidden, projection = _cell(
        arrays, names, last, list(dict.fromkeys(row.cell for row in table)), hints
    )
    convention = _row_of([row for row in table if row.cell == cell], hints)
    activation = convention.activations[0] if len(convention.activations) == 1 else hints.activation
    assert activation is not None
    reset = None if convention.reset == "none" else convention.reset == "after"
    layers: list[LayerSpec] = []
    for l in range(count):
        first = names.w_x + ("" if form == "cell" else names.layer.format(l=l))
        biased = names.b + first.removeprefix(names.w_x) in arrays
        shape = arrays[first].shape
        layers.append(
            LayerSpec(
                cell,
                shape[1] if len(shape) == 2 else 1,
                hidden,
                projection_size=projection,
                biases="two" if biased else "none",
                activation=activation,
                reset_after=reset,
                directions=directions,
            )
        )
    spec = StackSpec(
        tuple(layers), form=form, batch_first=bool(hints.batch_first) and form == "layer", dtype=dtype
    )
    _check_shapes(arrays, spec, names, convention)
    return spec


def _row_of(rows: Sequence[Convention], hints: Hints) -> Convention:
    """The layer that is meant, of those with a cell: the first, if what is said of its activation fits."""
    first, asked = rows[0], hints.activation
    if len(first.activations) == 1:
        return first
    if asked is None:
        choices = " or ".join(f"--activation {each}" for each in first.activations)
        raise PortError(f"the file does not say the activation of its {first.cell}: say it by {choices}")
    for row in rows:
        if asked in row.activations:
            return row
    known = ", ".join(first.activations)
    raise PortError(f"--activation is {asked}, and that of its {first.cell} is one of {known}")


def _number_of_layers(arrays: Mapping[str, Shaped], names: Names) -> int:
    count = 0
    while names.w_x + names.layer.format(l=count) in arrays:
        count += 1
        if count > MOST_LAYERS:
            raise PortError(f"the file has more than {MOST_LAYERS} layers, one behind the other")
    return count


def _dtype(arrays: Mapping[str, Shaped]) -> DType:
    types = sorted({each.dtype for each in arrays.values()})
    if types == ["float32"]:
        return "float32"
    if types == ["float64"]:
        return "float64"
    raise PortError(
        f"the layer has arrays of type {', '.join(types)}: it can be float32 or float64. Convert it there, "
        "and save it again"
    )


def _cell(
    arrays: Mapping[str, Shaped], names: Names, suffix: str, table: Sequence[str], hints: Hints
) -> tuple[str, int, int | None]:
    """The cell, the hidden units and the projection: the rows of w_x are those of its gates."""
    matrices = [arrays.get(name + suffix) for name in (names.w_x, names.w_h)]
    if any(each is None or len(each.shape) != 2 for each in matrices):
        raise PortError(f"{names.w_x + suffix} and {names.w_h + suffix} must both be there, as matrices")
    rows, columns = (arrays[names.w_x + suffix].shape[0], arrays[names.w_h + suffix].shape[1])
    projection = arrays.get(names.w_p + suffix)
    hidden = columns if projection is None else projection.shape[-1]
    for cell in (CELLS[name] for name in table):
        if hidden and rows == len(cell.gates) * hidden and (projection is None or cell == cells.LSTM):
            if hints.cell not in (None, cell.name):
                raise PortError(
                    f"--cell is {hints.cell}, and the shapes are those of {cell.name}: {rows} rows for "
                    f"{hidden} hidden units"
                )
            return cell.name, hidden, None if projection is None else columns
    known = ", ".join(table)
    raise PortError(
        f"{names.w_x + suffix} has {rows} rows for {hidden} hidden units: that is none of {known}"
    )


def _check_shapes(
    arrays: Mapping[str, Shaped], spec: StackSpec, names: Names, convention: Convention
) -> None:
    expected: dict[str, tuple[int, ...]] = {}
    keys = names.of_module(spec)
    for name, shape in spec.parameter_shapes().items():
        turned = shape[::-1] if len(shape) == 2 and convention.weights == "out, in" else shape
        expected[keys[name]] = turned
    if missing := [name for name in expected if name not in arrays]:
        raise PortError(f"the array {missing[0]} is missing, which belongs to the others")
    if extra := [name for name in arrays if name not in expected]:
        raise PortError(f"the array {extra[0]} belongs to no layer of {spec.layers[0].cell}")
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise PortError(f"{name} has shape {arrays[name].shape}: beside the others it must be {shape}")
