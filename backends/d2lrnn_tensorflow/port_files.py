"""Files of Keras 3 with recurrent layers, for ``d2lrnn convert``: whole models, and weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.description import LayerSpec, Padding, StackSpec
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.layout import from_own
from d2lrnn.ports.porter import Described
from d2lrnn_tensorflow.porter import KerasPorter
from d2lrnn_tensorflow.porter_parts import cells_of
from d2lrnn_tensorflow.saved_arrays import CellArrays, arrays_at, listed, opened_archive, opened_weights
from d2lrnn_tensorflow.saved_configs import SavedStack, stacks_in
from d2lrnn_tensorflow.saved_weights import stack_in, unsaid

_MODEL, _WEIGHTS = "keras", "keras-weights"


class KerasFiles:
    """The methods are those of `d2lrnn.ports.formats.protocol.PortFiles`."""

    def read(self, path: Path, kind: str, hints: Hints) -> Described:
        """See `d2lrnn.ports.formats.protocol.PortFiles`. Nothing is built of a configuration."""
        return _read(path, kind, hints)[0]

    def write(self, path: Path, kind: str, module: Any) -> None:
        """See `d2lrnn.ports.formats.protocol.PortFiles`."""
        spec = KerasPorter().describe(module).spec
        if spec.form == "cell":
            raise PortError(
                "a file of Keras holds models, and a cell is none. Nearest is the layer of this cell: port "
                "that, or build the cell in Python by d2lrnn.port"
            )
        if kind == _WEIGHTS and (reasons := list(unsaid(spec))):
            raise PortError(f"a .weights.h5 file does not say {', '.join(reasons)}: take --to {_MODEL}")
        inputs = keras.Input((None, spec.layers[0].input_size), dtype=spec.dtype)
        if type(module) is keras.Sequential:
            model = keras.Sequential([inputs, *module.layers])
        else:
            model = keras.Model(inputs, module(inputs))
        if kind == _MODEL:
            model.save(path)
        else:
            model.save_weights(path)

    def load(self, path: Path, kind: str, hints: Hints, module: Any) -> Any:
        """See `d2lrnn.ports.formats.protocol.PortFiles`. Each cell takes its variables in Keras' order."""
        _, cells = _read(path, kind, hints)
        for cell, saved in zip(cells_of(module), cells, strict=True):
            cell.load_own_variables({str(k): array for k, array in enumerate(saved.arrays)})
        return module


def _read(path: Path, kind: str, hints: Hints) -> tuple[Described, list[CellArrays]]:
    size = path.stat().st_size
    if kind == _MODEL:
        with opened_archive(path) as (config, weights):
            spec, cells, notes = _of_model(config, weights, hints, size)
    else:
        with opened_weights(path) as weights:
            spec, cells = stack_in(weights, hints, size)
        notes = [
            "activations of gates, directions and merge modes, which it does not say, are Keras' defaults"
        ]
    parameters: dict[str, FloatArray] = {}
    for (prefix, layer, _), cell in zip(spec.parts(), cells, strict=True):
        _check(cell, layer)
        named = {"w_x": cell.arrays[0], "w_h": cell.arrays[1]}
        if layer.biases == "two":
            named["b"], named["b_h"] = cell.arrays[2]
        elif layer.biases == "one":
            named["b"] = cell.arrays[2]
        arrays = from_own(cell.convention, layer, named)
        parameters |= {prefix + name: array for name, array in arrays.items()}
    return Described(spec, parameters, tuple(dict.fromkeys(notes))), cells


def _of_model(
    config: Any, weights: h5py.File, hints: Hints, size: int
) -> tuple[StackSpec, list[CellArrays], list[str]]:
    """The stack that a model's configuration describes."""
    stacks, others = stacks_in(config)
    name, found = _chosen(stacks, hints, len(others))
    specs: list[LayerSpec] = []
    cells: list[CellArrays] = []
    for layer in found.layers:
        own = [
            CellArrays(each.place, each.convention, arrays_at(weights, each.place, size))
            for each in layer.cells
        ]
        first = own[0].arrays
        if not first or first[0].ndim != 2:
            raise PortError(f"the arrays at {own[0].place} are not those of a recurrent cell")
        specs.append(layer.spec(int(first[0].shape[0])))
        cells += own
    dtypes = {layer.dtype for layer in found.layers}
    if len(dtypes) > 1:
        raise PortError(f"its layers compute in {', '.join(sorted(dtypes))}: take one type for all")
    padding: Padding = "zeros" if found.layers[-1].zeros else "repeat"
    left = [*others, *(f"{each} (recurrent)" for each in stacks if each != name)]
    notes = [*found.notes, *([f"left out: {listed(left)}"] if left else [])]
    spec = StackSpec(tuple(specs), batch_first=True, padding=padding, dtype=dtypes.pop())
    return spec, cells, notes


def _chosen(stacks: dict[str, SavedStack], hints: Hints, others: int) -> tuple[str, SavedStack]:
    if not stacks:
        raise PortError(f"no recurrent layer is in it: its {others} layers are of other kinds")
    names = listed(list(stacks))
    if hints.prefix:
        if hints.prefix not in stacks:
            raise PortError(f"no recurrent layer is called {hints.prefix!r}: the model has {names}")
        return hints.prefix, stacks[hints.prefix]
    if len(stacks) > 1:
        raise PortError(f"the model has {len(stacks)} recurrent stacks: choose one by --prefix, of {names}")
    return next(iter(stacks.items()))


def _check(cell: CellArrays, layer: LayerSpec) -> None:
    shapes = layer.shapes()
    wanted: list[tuple[int, ...]] = [shapes["w_x"], shapes["w_h"]]
    if layer.biases != "none":
        wanted.append((2, *shapes["b"]) if layer.biases == "two" else shapes["b"])
    found: Sequence[tuple[int, ...]] = [each.shape for each in cell.arrays]
    if found != wanted:
        raise PortError(f"the arrays at {cell.place} have the shapes {found}, where the layer has {wanted}")
