"""What flax.linen's and flax.nnx's recurrent layers have in common: their names, attributes and settings.

A module of linen is bound to its parameters here, so that both have their cells, and a cell its arrays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.values import DType, FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import Direction, LayerSpec, Merge
from d2lrnn.ports.layout import to_own
from d2lrnn_jax.port_functions import FUNCTIONS, MERGES, activation_of, merge_of

#: The key of all that is drawn here and then overwritten, or that is zeros whatever the key.
KEY = 0


@dataclass(frozen=True)
class Place:
    """A layer of a stack: the cells of its directions, and how it calls them.

    Attributes:
        cells: flax's own, with their parameters.
        directions: of each.
        merge: how two outputs become one.
        flipped: see `d2lrnn.ports.description.LayerSpec`.
        time_major: whether it takes the time first; None of a cell.
    """

    cells: tuple[Any, ...]
    directions: tuple[Direction, ...] = ("forward",)
    merge: Merge = "concat"
    flipped: bool = False
    time_major: bool | None = None


def place_of(layer: Any, kind: ModuleType, table: Sequence[Convention]) -> Place:
    """What one of flax's layers, or a cell, is.

    Args:
        layer: of linen, bound to its parameters.
        kind: `flax.linen` or `flax.nnx`.
        table: the conventions of flax.

    Raises:
        PortError: it is none that can be described.
    """
    if class_name(layer, kind, table) is not None:
        return Place((layer,))
    if type(layer) is kind.Bidirectional:
        both = (layer.forward_rnn, layer.backward_rnn)
        if both[0] is both[1]:
            raise PortError(
                "the two directions of a Bidirectional are one module, whose parameters they share, which no "
                "description has: give it a copy of the module for the other direction"
            )
        cells = tuple(_cell(each, kind, table) for each in both)
        return Place(
            cells, ("forward", "backward"), merge_of(layer.merge_fn), time_major=bool(layer.time_major)
        )
    if type(layer) is kind.RNN:
        backward = bool(layer.reverse)
        return Place(
            (_cell(layer, kind, table),),
            ("backward" if backward else "forward",),
            flipped=backward and not layer.keep_order,
            time_major=bool(layer.time_major),
        )
    raise unknown(layer, table)


def class_name(cell: Any, kind: ModuleType, table: Sequence[Convention]) -> str | None:
    """The name of a cell's class, where the table has it; a subclass may compute anything."""
    for convention in table:
        name = _class_name(convention)
        if type(cell) is getattr(kind, name, None):
            return name
    return None


def _class_name(convention: Convention) -> str:
    """``"GRUCell"`` of ``linen.RNN(GRUCell)``."""
    found = re.search(r"\w+Cell", convention.layer)
    assert found is not None
    return found.group()


def _cell(rnn: Any, kind: ModuleType, table: Sequence[Convention]) -> Any:
    if type(rnn) is not kind.RNN or class_name(rnn.cell, kind, table) is None:
        raise unknown(rnn if type(rnn) is not kind.RNN else rnn.cell, table)
    return rnn.cell


def unknown(module: Any, table: Sequence[Convention]) -> PortError:
    """The error of what cannot be described."""
    known = ", ".join(convention.layer for convention in table if convention.form == "cell")
    return PortError(
        f"a {type(module).__module__}.{type(module).__name__} cannot be described: give one of {known}, as "
        "it is, in an RNN, a Bidirectional, a Sequential or a list of nothing else"
    )


def row_of(cell: Any, kind: ModuleType, form: str, table: Sequence[Convention]) -> Convention:
    """The convention of a cell, alone or in a layer."""
    name = class_name(cell, kind, table)
    space = kind.__name__.rpartition(".")[2]
    resets = getattr(cell, "reset_gate", True)
    for row in table:
        same = (row.namespace, row.form, _class_name(row)) == (space, form, name)
        if same and resets == ("reset_gate=False" not in row.layer):
            return row
    raise unknown(cell, table)


def layer_spec(place: Place, row: Convention, sizes: tuple[int, int], carries: Sequence[Any]) -> LayerSpec:
    """What a layer computes.

    Args:
        place: the layer.
        row: the convention of its cell.
        sizes: of its inputs and its state.
        carries: the initial states that its cells make.

    Raises:
        PortError: its cells differ, or one computes what has no description.
    """
    specs = []
    for cell, carry in zip(place.cells, carries, strict=True):
        if getattr(cell, "residual", False):
            raise PortError(
                "residual=True adds the state to what the activation gets, which no description has. Nearest "
                "is the cell without it, with the identity added to its kernel at the state: that is the same"
            )
        if any(np.any(part) for part in jax.tree.leaves(carry)):
            raise PortError(
                "its carry_init makes an initial state other than zeros: pass that state where the module is "
                "called, and port the cell without carry_init"
            )
        gate = getattr(cell, "gate_fn", None)
        specs.append(
            LayerSpec(
                row.cell,
                *sizes,
                biases=row.biases[0],
                activation=activation_of(cell.activation_fn),
                gate_activation=None if gate is None else activation_of(gate),
                reset_after=None if row.reset == "none" else row.reset == "after",
                directions=place.directions,
                merge=place.merge,
                flipped=place.flipped,
            )
        )
    if any(spec != specs[0] for spec in specs):
        raise PortError("the two directions of a Bidirectional differ: port its layers one by one")
    return specs[0]


def own_arrays(row: Convention, arrays: Mapping[str, Any]) -> dict[str, FloatArray]:
    """The arrays of a cell as `d2lrnn.ports.layout.from_own` takes them, gates side by side.

    Args:
        row: the convention of the cell.
        arrays: by flax's names, as ``ir/kernel``.

    Raises:
        PortError: one is missing, or has an odd number of axes.
    """
    own = {}
    for name, places in row.places().items():
        for place in places:
            if place not in arrays or np.ndim(arrays[place]) != (1 if place.endswith("bias") else 2):
                raise PortError(f"the parameters of a {_class_name(row)} must have {place}, and here have "
                                f"{', '.join(arrays) or 'none'}")  # fmt: skip
        own[name] = np.concatenate([np.asarray(arrays[place]) for place in places], axis=-1)
    return own


def flax_arrays(row: Convention, layer: LayerSpec, arrays: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Canonical arrays of a direction by flax's names; the inverse of `own_arrays` and `from_own`."""
    own = to_own(row, layer, arrays)
    return {
        place: jnp.array(part)
        for name, places in row.places().items()
        for place, part in zip(places, np.split(own[name], len(places), axis=-1), strict=True)
    }


def cell_options(layer: LayerSpec, row: Convention, dtype: DType) -> dict[str, Any]:
    """The arguments of a cell's class but its sizes."""
    options = {"activation_fn": FUNCTIONS[layer.activation], "param_dtype": getattr(jnp, dtype)}
    if layer.gate_activation is not None:
        options["gate_fn"] = FUNCTIONS[layer.gate_activation]
    if "reset_gate=False" in row.layer:
        options["reset_gate"] = False
    return options


def layer_of(cells: Sequence[Any], layer: LayerSpec, kind: ModuleType, batch_first: bool) -> Any:
    """One of flax's layers, of the cells of its directions."""
    options = {"time_major": not batch_first}
    if len(cells) == 1:
        backward = layer.directions == ("backward",)
        return kind.RNN(cells[0], reverse=backward, keep_order=backward and not layer.flipped, **options)
    merge = {} if layer.merge == "concat" else {"merge_fn": MERGES[layer.merge]}
    return kind.Bidirectional(*(kind.RNN(cell) for cell in cells), **merge, **options)


def class_of(row: Convention, kind: ModuleType) -> Any:
    """The class of a row's cell."""
    return getattr(kind, _class_name(row))


def carry_of(row: Convention, state: Mapping[str, Any], prefixes: Sequence[str]) -> Any:
    """States by canonical name as flax's carry of a layer: of a cell with one state, that alone."""
    carries = [tuple(jnp.asarray(state[prefix + name]) for name in row.state) for prefix in prefixes]
    own = [carry if len(carry) > 1 else carry[0] for carry in carries]
    return own[0] if len(own) == 1 else tuple(own)


def states_of(row: Convention, carry: Any, prefixes: Sequence[str]) -> Iterator[tuple[str, FloatArray]]:
    """The inverse of `carry_of`."""
    for prefix, own in zip(prefixes, [carry] if len(prefixes) == 1 else carry, strict=True):
        for name, part in zip(row.state, own if len(row.state) > 1 else (own,), strict=True):
            yield prefix + name, np.array(part)
