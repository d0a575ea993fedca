"""Keras' recurrent layers and cells, for `d2lrnn.ports`; what they do is in ``conventions.toml``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from d2lrnn.contract.values import DType, FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import Activation, Biases, LayerSpec, StackSpec
from d2lrnn.ports.layout import from_own, part_of, to_own
from d2lrnn.ports.porter import Described
from d2lrnn_tensorflow.porter_parts import (
    LAYERS,
    Place,
    is_cell,
    layers_of,
    notes_of,
    places_of,
    unknown,
)

_ACTIVATIONS: dict[Any, Activation] = {
    keras.activations.tanh: "tanh",
    keras.activations.relu: "relu",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.linear: "linear",
}


class KerasPorter:
    """The methods are those of `d2lrnn.ports.porter.Porter`. A `keras.Sequential` or a list is a stack."""

    def describe(self, module: Any) -> Described:
        """See `d2lrnn.ports.porter.Porter`."""
        specs: list[LayerSpec] = []
        rows: list[tuple[Convention, Any]] = []
        for place in places_of(module):
            row, spec = _layer_spec(place, "cell" if is_cell(module) else "layer")
            specs.append(spec)
            rows += [(row, cell) for cell in place.cells]
        stack = StackSpec(
            tuple(specs),
            form=rows[0][0].form,
            batch_first=not is_cell(module),
            padding="zeros" if _zeros_padding(module) else "repeat",
            dtype=_dtype([cell for _, cell in rows]),
        )
        parameters: dict[str, FloatArray] = {}
        for (prefix, layer, _), (row, cell) in zip(stack.parts(), rows, strict=True):
            arrays = from_own(row, layer, _own(cell, layer))
            parameters |= {prefix + name: array for name, array in arrays.items()}
        return Described(
            stack, parameters, tuple(dict.fromkeys(notes_of(module, [cell for _, cell in rows])))
        )

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> Any:
        """See `d2lrnn.ports.porter.Porter`. All outputs are returned, of a single layer also its states."""
        alone = len(spec.layers) == 1
        built = [
            _cell(layer, spec.dtype) if spec.form == "cell" else _layer(layer, spec, return_state=alone)
            for layer in spec.layers
        ]
        for layer, module in zip(spec.layers, built, strict=True):
            shape = (None, layer.input_size) if spec.form == "cell" else (None, None, layer.input_size)
            module.build(shape)
        rows = [row for row, layer in zip(conventions, spec.layers, strict=True) for _ in layer.directions]
        cells = [cell for module in built for place in places_of(module) for cell in place.cells]
        for (prefix, layer, _), row, cell in zip(spec.parts(), rows, cells, strict=True):
            own = to_own(row, layer, part_of(parameters, prefix, list(layer.shapes())))
            cell.kernel.assign(own["w_x"])
            cell.recurrent_kernel.assign(own["w_h"])
            if layer.biases != "none":
                cell.bias.assign(np.stack([own["b"], own["b_h"]]) if layer.biases == "two" else own["b"])
        if alone:
            return built[0]
        # Without it a Sequential of layers in float64 rounds what it is called with to float32.
        inputs = keras.Input((None, spec.layers[0].input_size), dtype=spec.dtype)
        return keras.Sequential([inputs, *built])

    def twin(self, module: Any) -> Any:
        """See `d2lrnn.ports.porter.Porter`. Of what Keras writes of a layer only the types are changed."""
        twins = [_doubled(layer) for layer in layers_of(module)]
        return twins if isinstance(module, (list, tuple, keras.Sequential)) else twins[0]

    def run(
        self,
        module: Any,
        spec: StackSpec,
        inputs: FloatArray,
        state: Parameters | None = None,
        lengths: IntArray | None = None,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """See `d2lrnn.ports.porter.Porter`. A copy of each layer runs, which returns outputs and states."""
        names = [
            [prefix + name for name in _row(layer, spec.form).state] for prefix, layer, _ in spec.parts()
        ]
        zeros = {
            name: np.zeros(shape, spec.dtype) for name, shape in spec.state_shapes(inputs.shape[1]).items()
        }
        before = zeros if state is None else state
        if spec.form == "cell":
            outputs, after = module(inputs[0], [before[name] for name in names[0]])
            return _array(outputs)[None], dict(zip(names[0], map(_array, after), strict=True))
        mask = None
        if lengths is not None:
            mask = keras.ops.convert_to_tensor(np.arange(len(inputs)) < lengths[:, None])
        X: Any = keras.ops.convert_to_tensor(np.swapaxes(inputs, 0, 1))
        found: dict[str, FloatArray] = {}
        for layer in layers_of(module):
            held = sum(len(place.cells) for place in places_of(layer))
            own, names = names[:held], names[held:]
            states: Any = [[keras.ops.convert_to_tensor(before[name]) for name in part] for part in own]
            if not isinstance(layer, kl.RNN) or type(layer) in LAYERS or held == 1:
                states = [each for part in states for each in part]
            # A state that was not given is the layer's own, which is not always zeros.
            X, *after = _returning_all(layer)(X, mask=mask, initial_state=None if state is None else states)
            flat = keras.tree.flatten(after)
            found |= dict(zip([name for part in own for name in part], map(_array, flat), strict=True))
        return np.swapaxes(_array(X), 0, 1), found


def _row(layer: LayerSpec, form: str) -> Convention:
    reset = "none" if layer.reset_after is None else "after" if layer.reset_after else "before"
    return next(
        row
        for row in conventions("tensorflow")
        if (row.cell, row.form, row.reset) == (layer.cell, form, reset)
    )


def _layer_spec(place: Place, form: str) -> tuple[Convention, LayerSpec]:
    specs = [_cell_spec(cell, place, form) for cell in place.cells]
    if any(each != specs[0] for each in specs):
        raise PortError("the two directions of a Bidirectional differ: port its layers one by one")
    return specs[0]


def _cell_spec(cell: Any, place: Place, form: str) -> tuple[Convention, LayerSpec]:
    name = type(cell).__name__
    for row in conventions("tensorflow"):
        reset = getattr(cell, "reset_after", None)
        same = row.layer.partition("(")[0] == f"layers.{name}"
        if row.form == "cell" and same and row.reset == _RESET[reset]:
            biases: Biases = row.biases[0] if cell.use_bias else "none"
            gate = getattr(cell, "recurrent_activation", None)
            spec = LayerSpec(
                row.cell,
                cell.kernel.shape[0],
                cell.units,
                biases=biases,
                activation=_activation(cell.activation),
                gate_activation=None if gate is None else _activation(gate),
                reset_after=reset,
                directions=place.directions,
                merge=place.merge,
                flipped=place.flipped,
            )
            return _row(spec, form), spec
    raise unknown(cell)


_RESET = {None: "none", True: "after", False: "before"}


def _activation(function: Any) -> Activation:
    if function not in _ACTIVATIONS:
        name = getattr(function, "__name__", type(function).__name__)
        raise PortError(f"the activation {name} has no description: it is one of tanh, relu, sigmoid, linear")
    return _ACTIVATIONS[function]


def _dtype(cells: list[Any]) -> DType:
    types = {str(name) for cell in cells for name in (cell.variable_dtype, cell.compute_dtype)}
    if types == {"float32"}:
        return "float32"
    if types == {"float64"}:
        return "float64"
    raise PortError(
        f"the layers compute in {', '.join(sorted(types))}: take dtype float32 or float64 for all"
    )


def _own(cell: Any, layer: LayerSpec) -> dict[str, FloatArray]:
    own = {"w_x": _array(cell.kernel), "w_h": _array(cell.recurrent_kernel)}
    if layer.biases == "one":
        own["b"] = _array(cell.bias)
    elif layer.biases == "two":
        own["b"], own["b_h"] = _array(cell.bias)
    return own


def _array(value: Any) -> FloatArray:
    array: FloatArray = keras.ops.convert_to_tensor(value).numpy()
    return array


def _zeros_padding(module: Any) -> bool:
    last = layers_of(module)[-1]
    # Keras makes it zeros in both directions when it wraps a layer that returns sequences.
    return type(last) is kl.Bidirectional or bool(getattr(last, "zero_output_for_mask", True))


def _cell(layer: LayerSpec, dtype: str) -> Any:
    kind = next(cell for cell in LAYERS.values() if _is_of(cell, layer))
    return kind(layer.hidden_size, dtype=dtype, **_options(layer))


def _layer(layer: LayerSpec, spec: StackSpec, *, return_state: bool) -> Any:
    kind = next(each for each, cell in LAYERS.items() if _is_of(cell, layer))
    module = kind(
        layer.hidden_size,
        dtype=spec.dtype,
        return_sequences=True,
        return_state=return_state,
        go_backwards=layer.directions == ("backward",),
        zero_output_for_mask=spec.padding == "zeros",
        **_options(layer),
    )
    if len(layer.directions) == 1:
        return module
    return kl.Bidirectional(module, merge_mode=layer.merge, dtype=spec.dtype)


def _is_of(cell: Any, layer: LayerSpec) -> bool:
    return _row(layer, "cell").layer.partition("(")[0] == f"layers.{cell.__name__}"


def _options(layer: LayerSpec) -> dict[str, Any]:
    options: dict[str, Any] = {"activation": layer.activation, "use_bias": layer.biases != "none"}
    if layer.gate_activation is not None:
        options["recurrent_activation"] = layer.gate_activation
    if layer.reset_after is not None:
        options["reset_after"] = layer.reset_after
    return options


def _returning_all(layer: Any) -> Any:
    """A layer with the same weights that returns all outputs and its states, and keeps none."""
    config = layer.get_config()
    nested = [config[name]["config"] for name in ("layer", "backward_layer") if name in config]
    for each in nested or [config]:
        each |= {"return_sequences": True, "return_state": True, "stateful": False}
    copy = type(layer).from_config(config)
    copy.build((None, None, places_of(layer)[0].cells[0].kernel.shape[0]))
    copy.set_weights(layer.get_weights())
    return copy


def _doubled(layer: Any) -> Any:
    """A layer or cell with the same weights in float64."""
    twin = type(layer).from_config(_in_double(layer.get_config()))
    # One that keeps its state must know the number of sequences, and is never asked for what it keeps.
    parts = [twin.forward_layer, twin.backward_layer] if type(twin) is kl.Bidirectional else [twin]
    for each in parts:
        if getattr(each, "stateful", False):
            each.stateful = False
    width = places_of(layer)[0].cells[0].kernel.shape[0]
    twin.build((None, width) if is_cell(layer) else (None, None, width))
    twin.set_weights(layer.get_weights())
    return twin


def _in_double(config: Any) -> Any:
    """A configuration with every type of numbers in it, however deep, float64."""
    if isinstance(config, dict):
        return {name: "float64" if name == "dtype" else _in_double(each) for name, each in config.items()}
    return [_in_double(each) for each in config] if isinstance(config, list) else config
