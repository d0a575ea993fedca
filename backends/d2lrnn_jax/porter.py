"""flax's recurrent layers and cells, for `d2lrnn.ports`; what they do is in ``conventions.toml``.

There are two kinds, of `flax.linen` and of `flax.nnx`, whose classes have the same names. A module of linen
comes bound to its parameters or as a pair ``(module, variables)``; what is built of linen is bound, and
``module.unbind()`` makes the pair of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from d2lrnn.contract.values import DType, FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import LayerSpec, StackSpec, prefix_of
from d2lrnn.ports.layout import from_own, part_of
from d2lrnn.ports.porter import Described
from d2lrnn_jax import port_linen, port_nnx
from d2lrnn_jax.port_layers import (
    Place,
    carry_of,
    flax_arrays,
    layer_spec,
    own_arrays,
    place_of,
    row_of,
    states_of,
    unknown,
)
from d2lrnn_jax.precision import precision


class FlaxPorter:
    """The methods are those of `d2lrnn.ports.porter.Porter`. A Sequential or a list is a stack."""

    def describe(self, module: Any) -> Described:
        """See `d2lrnn.ports.porter.Porter`."""
        table = conventions("jax")
        kind, layers = _layers(module, table)
        places = [place_of(layer, kind.KIND, table) for layer in layers]
        form = "cell" if places[0].time_major is None else "layer"
        rows = [row_of(place.cells[0], kind.KIND, form, table) for place in places]
        arrays = [[kind.arrays_of(cell) for cell in place.cells] for place in places]
        dtype = _dtype(kind, places, arrays)
        if len({place.time_major for place in places}) > 1:
            raise PortError("the layers differ in time_major: give all the same")
        specs: list[LayerSpec] = []
        parameters: dict[str, FloatArray] = {}
        with precision(dtype):
            for l, (place, row, found) in enumerate(zip(places, rows, arrays, strict=True)):
                own = [own_arrays(row, each) for each in found]
                spec = _spec(kind, place, row, own[0])
                specs.append(spec)
                for direction, each in zip(place.directions, own, strict=True):
                    canonical = from_own(row, spec, each)
                    parameters |= {prefix_of(l, direction) + name: value for name, value in canonical.items()}
        stack = StackSpec(
            tuple(specs),
            form=rows[0].form,
            batch_first=places[0].time_major is False,
            padding=next(iter(rows[0].padding), "zeros"),
            dtype=dtype,
        )
        return Described(stack, parameters, namespace=rows[0].namespace)

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> Any:
        """See `d2lrnn.ports.porter.Porter`."""
        kind = port_linen if conventions[0].namespace == "linen" else port_nnx
        rows = [row for row, layer in zip(conventions, spec.layers, strict=True) for _ in layer.directions]
        with precision(spec.dtype):
            arrays = [
                flax_arrays(row, layer, part_of(parameters, prefix, list(layer.shapes())))
                for row, (prefix, layer, _) in zip(rows, spec.parts(), strict=True)
            ]
            return kind.build(spec, conventions, arrays)

    def twin(self, module: Any) -> Any:
        """See `d2lrnn.ports.porter.Porter`: a list of layers."""
        kind, layers = _layers(module, conventions("jax"))
        with precision("float64"):
            return [kind.doubled(layer) for layer in layers]

    def run(
        self,
        module: Any,
        spec: StackSpec,
        inputs: FloatArray,
        state: Parameters | None = None,
        lengths: IntArray | None = None,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """See `d2lrnn.ports.porter.Porter`. The initial state that a cell makes is passed as it is."""
        table = conventions("jax")
        kind, layers = _layers(module, table)
        places = [place_of(layer, kind.KIND, table) for layer in layers]
        rows = [row_of(place.cells[0], kind.KIND, spec.form, table) for place in places]
        prefixes = [[prefix_of(l, way) for way in layer.directions] for l, layer in enumerate(spec.layers)]
        # TF32 on a GPU would be another product than the one that is proved.
        with precision(spec.dtype), jax.default_matmul_precision("highest"):
            if state is None:
                state = {}
                for row, place, layer, own in zip(rows, places, spec.layers, prefixes, strict=True):
                    state |= _initial(kind, row, place, (inputs.shape[1], layer.input_size), own)
            carries = [carry_of(row, state, own) for row, own in zip(rows, prefixes, strict=True)]
            X = (
                inputs[0]
                if spec.form == "cell"
                else np.swapaxes(inputs, 0, 1)
                if spec.batch_first
                else inputs
            )
            outputs, after = kind.call(layers, X, carries, lengths)
            found: dict[str, FloatArray] = {}
            for row, carry, own in zip(rows, after, prefixes, strict=True):
                found |= dict(states_of(row, carry, own))
            H = np.array(outputs)
        return H[None] if spec.form == "cell" else np.swapaxes(H, 0, 1) if spec.batch_first else H, found


def _layers(module: Any, table: Sequence[Convention]) -> tuple[Any, list[Any]]:
    """`port_linen` or `port_nnx`, and the layers of a module: those of linen bound."""
    if port_linen.is_linen(module):
        return port_linen, port_linen.bound(module)
    if isinstance(module, nnx.Module):
        return port_nnx, port_nnx.layers_of(module)
    if not isinstance(module, (list, tuple)) or not module:
        raise unknown(module, table)
    found = [_layers(each, table) for each in module]
    if len({kind for kind, _ in found}) > 1:
        raise PortError("the layers are some of linen, some of nnx: port them as modules of their own")
    layers = [layer for _, each in found for layer in each]
    if len(layers) > 1:
        for layer in layers:
            if place_of(layer, found[0][0].KIND, table).time_major is None:
                raise PortError("a list of cells is no stack: give each in an RNN")
    return found[0][0], layers


def _spec(kind: Any, place: Place, row: Convention, own: Mapping[str, FloatArray]) -> LayerSpec:
    sizes = own["w_x"].shape[0], kind.hidden_size(place.cells[0])
    carries = [kind.carry_of(cell, (1, sizes[0])) for cell in place.cells]
    return layer_spec(place, row, sizes, carries)


def _initial(
    kind: Any, row: Convention, place: Place, shape: tuple[int, ...], prefixes: Sequence[str]
) -> dict[str, FloatArray]:
    carries = [kind.carry_of(cell, shape) for cell in place.cells]
    return dict(states_of(row, carries[0] if len(carries) == 1 else carries, prefixes))


def _dtype(kind: Any, places: list[Place], arrays: list[list[dict[str, Any]]]) -> DType:
    """The type in which all is kept and computed."""
    types = {np.dtype(array.dtype) for layer in arrays for own in layer for array in own.values()}
    cells = [cell for place in places for cell in place.cells]
    types |= {np.dtype(each) for cell in cells for each in kind.types_of(cell) if each is not None}
    for known in ("float32", "float64"):
        if types == {np.dtype(known)}:
            return known
    names = ", ".join(sorted(str(each) for each in types))
    raise PortError(
        f"the module keeps and computes its numbers in {names}: take float32 or float64 for all, the "
        "parameters, param_dtype and dtype"
    )
