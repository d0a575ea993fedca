"""What each framework's recurrent layers do: a table that lies as data in the backends' packages.

A backend's package has a file ``conventions.toml`` with a table ``[[layer]]`` for every layer and cell, whose
fields are those of `Convention`, and a table ``[common]`` with the fields of those that lack them. It is read
without the framework: so a conversion to one that is not installed here is refused here. The converters take
gate orders and orientations from it. A test asks the framework about every field.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError, RunError
from d2lrnn.ports.description import Activation, Biases, Direction, Form, Merge, Padding, Reset
from d2lrnn.registry import RUNTIMES, backends, find_porting
from d2lrnn.saving.json_fields import check_names, decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The file in a backend's package.
FILE = "conventions.toml"

#: What a table may lack.
_OPTIONAL: dict[str, object] = {"arrays": [], "keeps_order": False, "float32_only": []}


@dataclass(frozen=True)
class Convention:
    """What a layer or cell of a framework does, and what it can be told: of several values the default first.

    Attributes:
        layer: its name below the framework's.
        form: whether it takes sequences or one step.
        cell: the cell, with gates named as in `d2lrnn.contract.cells`.
        gates: their order in the layer's arrays.
        arrays: the names of its arrays by the canonical ones: ``"w_x: ir/kernel, iz/kernel, in/kernel"``,
            where several names are those of the gates, in their order. A table that lacks it names none.
        biases: how many bias vectors a gate can have.
        reset: where a reset gate stands; ``"none"`` for a cell without one.
        weights: the orientation of its matrices.
        state: the order of its states.
        axes: which axis of a sequence can come first.
        directions: in which a layer can read alone.
        both: whether one can read in both directions.
        flipped: whether outputs of one that reads backward alone stand in the order of reading.
        keeps_order: whether it can be told to give them in the order of time all the same. A table that
            lacks it has none that can.
        merges: how outputs of both directions become one.
        stack: ``"uniform"`` holds several layers of one size, ``"single"`` one; ``"none"`` for a cell.
        projection: whether an LSTM's output can be projected.
        activations: of the candidate.
        gate_activations: of the gates.
        float32_only: activations that it computes in float32 even where its arrays are float64. A table
            that lacks it has none.
        padding: what outputs are at padded steps.
        initial: rules of the default initial values: ``"w_x: uniform 1/sqrt(h)"``.
        dropout: where it acts, while training.
        kernel: what the fast kernel on a GPU needs.
        source: where that is documented.
    """

    layer: str
    form: Form
    cell: str
    gates: tuple[str, ...]
    arrays: tuple[str, ...]
    biases: tuple[Biases, ...]
    reset: Reset
    weights: Literal["in, out", "out, in"]
    state: tuple[str, ...]
    axes: tuple[Literal["time", "batch"], ...]
    directions: tuple[Direction, ...]
    both: bool
    flipped: bool
    keeps_order: bool
    merges: tuple[Merge, ...]
    stack: Literal["single", "uniform", "none"]
    projection: bool
    activations: tuple[Activation, ...]
    gate_activations: tuple[Activation, ...]
    float32_only: tuple[Activation, ...]
    padding: tuple[Padding, ...]
    initial: tuple[str, ...]
    dropout: str
    kernel: tuple[str, ...]
    source: str

    @property
    def namespace(self) -> str:
        """What the layer's name begins with, if anything: the layers of a stack are of one kind."""
        start, point, _ = self.layer.partition(".")
        return start if point else ""

    @property
    def orders(self) -> set[bool]:
        """What `LayerSpec.flipped` of a layer that reads backward alone can be."""
        return {self.flipped, self.flipped and not self.keeps_order}

    def places(self) -> dict[str, tuple[str, ...]]:
        """The names of `arrays` by the canonical ones: of one array, or of that of each gate."""
        pairs = (entry.split(": ") for entry in self.arrays)
        return {name: tuple(own.split(", ")) for name, own in pairs}

    def transposes(self, array: FloatArray) -> bool:
        """Whether an array of the layer is the canonical one transposed."""
        return array.ndim == 2 and self.weights == "out, in"


@cache
def conventions(backend: str) -> tuple[Convention, ...]:
    """The layers of a backend's framework, which need not be installed.

    Args:
        backend: a name or an alias, as `d2lrnn.backend` takes it.

    Raises:
        UnknownBackendError: no backend has this name.
        PortError: it has no recurrent layers, or its table is wrong.

    Example:
        >>> gru = next(each for each in conventions("torch") if each.layer == "nn.GRU")
        >>> gru.gates, gru.weights, gru.biases
        (('r', 'z', 'n'), 'out, in', ('two', 'none'))
    """
    path, document = read_table(backend)
    try:
        needed, optional = ["common", "layer"], ["names", "format"]
        check_names(document, [*needed, *(name for name in optional if name in document)], "the table")
        layers = [_OPTIONAL | document["common"] | layer for layer in document["layer"]]
        return tuple(decode(Convention, layer, f"layer {n}") for n, layer in enumerate(layers, start=1))
    except (TypeError, RunError) as error:
        raise table_error(path, error) from error


def read_table(backend: str) -> tuple[Path, dict[str, Any]]:
    """The file of a backend and what is in it.

    Raises:
        UnknownBackendError: no backend has this name.
        PortError: it has no recurrent layers, or its file is no table.
    """
    entry = find_porting(backend)
    path = entry.own_file(FILE)
    if path is None:
        having = ", ".join(porting_backends())
        raise PortError(f"the backend {entry.name} has no layers to convert: choose one of {having}")
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise table_error(path, error) from error


def table_error(path: Path, error: Exception) -> PortError:
    """What is raised where a backend's file is wrong."""
    return PortError(f"{path} is wrong: {error}. This is an error of that package")


def porting_backends() -> list[str]:
    """The names of the backends and runtimes that have a table; their frameworks need not be installed.

    Example:
        >>> "torch" in porting_backends()
        True
    """
    return [entry.name for entry in (*backends(), *RUNTIMES) if entry.own_file(FILE) is not None]
