"""Gluon's recurrent layers and cells, for `d2lrnn.ports`; what they do is in ``conventions.toml``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import Block, nn, rnn

from d2lrnn.contract.values import FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn.ports.fitting import alike
from d2lrnn.ports.layout import from_own, part_of, to_own
from d2lrnn.ports.porter import Described
from d2lrnn_mxnet.engine import COMPUTING
from d2lrnn_mxnet.porter_parts import (
    LAYERS,
    UNROLLED,
    Holder,
    dtype_of,
    is_list,
    layer_spec,
    notes,
    numpy_arrays,
    pieces,
    places,
)
from d2lrnn_mxnet.semantics import semantics


class GluonPorter:
    """The methods are those of `d2lrnn.ports.porter.Porter`.

    A list, an `nn.Sequential` and a `SequentialRNNCell` are stacks; a composed cell is one that is unrolled,
    batch first as its ``unroll`` is unless it is told otherwise.
    """

    def describe(self, module: Any) -> Described:
        """See `d2lrnn.ports.porter.Porter`."""
        specs: list[LayerSpec] = []
        rows: list[tuple[Convention, Holder]] = []
        layouts: set[bool] = set()
        for piece in pieces(module):
            if type(piece) not in LAYERS and numpy_arrays(piece):
                raise PortError(
                    f"this {type(piece).__name__} has arrays of npx.set_np, with which Gluon's cells cannot "
                    "compute: make it anew without, by npx.reset_np()"
                )
            for place in places(piece):
                row = _row(place.layer)
                specs.append(layer_spec(place, row))
                rows += [(row, holder) for holder in place.holders]
                layouts.add(row.form == "layer" and getattr(piece, "_layout", "NTC") == "NTC")
        if len(layouts) > 1:
            raise PortError("the layers of the list differ in their layout: take TNC or NTC for all")
        own = [
            {name: holder.array(name) for name in specs[l].shapes()}
            for l, (_, holder) in zip(_numbers(specs), rows, strict=True)
        ]
        dtype = dtype_of([array for arrays in own for array in arrays.values()])
        stack = StackSpec(tuple(specs), form=rows[0][0].form, batch_first=layouts.pop(), dtype=dtype)
        parameters: dict[str, FloatArray] = {}
        for (prefix, layer, _), (row, _), arrays in zip(stack.parts(), rows, own, strict=True):
            parameters |= {prefix + name: array for name, array in from_own(row, layer, arrays).items()}
        return Described(stack, parameters, tuple(dict.fromkeys(notes(module))))

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> Block:
        """See `d2lrnn.ports.porter.Porter`.

        Layers that are not alike become an `nn.HybridSequential`; where one is a cell that is unrolled, all
        are cells, of a `HybridSequentialRNNCell`.
        """
        cells = spec.form == "cell" or any(row.layer.endswith(UNROLLED) for row in conventions)
        if cells and any(layer.projection_size is not None for layer in spec.layers):
            raise PortError(
                "gluon's LSTM with a projection is a layer, and others of this stack can only be cells that "
                "are unrolled: port them one by one, as modules of their own"
            )
        # Gluon's cells cannot compute with the arrays of npx.set_np; its layers have what the caller has.
        with semantics(numpy=mx.util.is_np_array() and not cells):
            module = (_cells if cells else _layers)(spec, conventions)
            # Zeros: drawing initial values would advance the caller's generator.
            module.initialize(mx.init.Zero(), ctx=mx.cpu())
            holders = [h for piece in pieces(module) for place in places(piece) for h in place.holders]
            rows = [
                row for row, layer in zip(conventions, spec.layers, strict=True) for _ in layer.directions
            ]
            for (prefix, layer, _), row, holder in zip(spec.parts(), rows, holders, strict=True):
                own = to_own(row, layer, part_of(parameters, prefix, list(layer.shapes())))
                for name, array in own.items():
                    holder.parameter(name).set_data(_array(array, mx.cpu()))
        return module

    def twin(self, module: Any) -> Any:
        """See `d2lrnn.ports.porter.Porter`. A layer of relu, which rounds, is unfused into its cells."""
        twins = []
        for piece in pieces(module):
            with semantics(numpy=numpy_arrays(piece)):
                twins.append(_doubled(piece))
        return twins if is_list(module) else twins[0]

    def run(
        self,
        module: Any,
        spec: StackSpec,
        inputs: FloatArray,
        state: Parameters | None = None,
        lengths: IntArray | None = None,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """See `d2lrnn.ports.porter.Porter`.

        A layer on a CPU knows no padding: it computes each sequence by itself.
        """
        prefixes = iter([prefix for prefix, _, _ in spec.parts()])
        zeros = {
            name: np.zeros(shape, inputs.dtype) for name, shape in spec.state_shapes(inputs.shape[1]).items()
        }
        before = {**zeros, **(state or {})}
        X, found = inputs, before.copy()
        for piece in pieces(module):
            rows = [_row(place.layer) for place in places(piece) for _ in place.holders]
            # A plain zip, which takes no more prefixes than there are rows.
            own = [[prefix + part for part in row.state] for row, prefix in zip(rows, prefixes)]  # noqa: B905
            states = {name: before[name] for part in own for name in part}
            with COMPUTING, semantics(numpy=numpy_arrays(piece)), autograd.pause(train_mode=False):
                X, final = _run(piece, spec, X, own, states, lengths)
            found |= final
        return X, found


def _run(
    piece: Any,
    spec: StackSpec,
    X: FloatArray,
    names: list[list[str]],
    state: dict[str, FloatArray],
    lengths: IntArray | None,
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """One piece's outputs (T, B, size) and its final states by name."""
    context = next(iter(piece.collect_params().values())).list_ctx()[0]
    if type(piece) in LAYERS:
        if lengths is None:
            return _called(piece, X, names, state, context)
        rows = []
        for row, length in enumerate(lengths):
            alone = {name: array[row : row + 1] for name, array in state.items()}
            H, final = _called(piece, X[:length, row : row + 1], names, alone, context)
            rows.append((np.pad(H, ((0, len(X) - length), (0, 0), (0, 0))), final))
        joined = {name: np.concatenate([final[name] for _, final in rows]) for name in state}
        return np.concatenate([H for H, _ in rows], axis=1), joined
    states = [_array(state[name], context) for part in names for name in part]
    flat = [name for part in names for name in part]
    if spec.form == "cell":
        outputs, after = piece(_array(X[0], context), states)
        return outputs.asnumpy()[None], {name: s.asnumpy() for name, s in zip(flat, after, strict=True)}
    outputs, after = piece.unroll(
        len(X),
        _array(X, context),
        begin_state=states,
        layout="TNC",
        merge_outputs=True,
        valid_length=None if lengths is None else _array(lengths.astype(X.dtype), context),
    )
    return outputs.asnumpy(), {name: s.asnumpy() for name, s in zip(flat, after, strict=True)}


def _called(
    layer: Any, X: FloatArray, names: list[list[str]], state: dict[str, FloatArray], context: Any
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """What a layer computes of whole sequences."""
    by_kind = list(zip(*names, strict=True))
    states = [_array(np.stack([state[name] for name in kind]), context) for kind in by_kind]
    first = layer._layout == "NTC"
    outputs, after = _plain(layer)(_array(X.swapaxes(0, 1) if first else X, context), states)
    found: dict[str, FloatArray] = {}
    for kind, values in zip(by_kind, after, strict=True):
        found |= dict(zip(kind, values.asnumpy(), strict=True))
    return outputs.asnumpy().swapaxes(0, 1) if first else outputs.asnumpy(), found


def _plain(layer: Any) -> Any:
    """The layer, or a copy on the same parameters that asks for no lengths and is not compiled.

    One that was compiled in a call without states does not return them in any later call.
    """
    if not layer._use_sequence_length and not layer._active:
        return layer
    plain = copy.copy(layer)
    plain._use_sequence_length = plain._active = False
    return plain


def _row(layer: str) -> Convention:
    return next(row for row in conventions("mxnet") if row.layer == layer)


def _numbers(layers: Sequence[LayerSpec]) -> list[int]:
    """The number of the layer of every direction."""
    return [l for l, layer in enumerate(layers) for _ in layer.directions]


def _layers(spec: StackSpec, rows: Sequence[Convention]) -> Any:
    if alike(spec.layers):
        return _layer(spec, spec.layers[0], rows[0], len(spec.layers))
    stack = nn.HybridSequential()
    for layer, row in zip(spec.layers, rows, strict=True):
        stack.add(_layer(spec, layer, row, 1))
    return stack


def _layer(spec: StackSpec, layer: LayerSpec, row: Convention, number: int) -> Any:
    options = _activations(layer, row)
    if layer.projection_size is not None:
        options["projection_size"] = layer.projection_size
    return getattr(rnn, row.layer.split(".")[1])(
        layer.hidden_size,
        number,
        layout="NTC" if spec.batch_first else "TNC",
        bidirectional=len(layer.directions) == 2,
        input_size=layer.input_size,
        dtype=spec.dtype,
        **options,
    )


def _cells(spec: StackSpec, rows: Sequence[Convention]) -> Any:
    if spec.form == "cell":
        module = _cell(spec.layers[0], rows[0])
    else:
        module = rnn.HybridSequentialRNNCell()
        for layer, row in zip(spec.layers, rows, strict=True):
            both = [_cell(layer, row) for _ in layer.directions]
            module.add(both[0] if len(both) == 1 else rnn.BidirectionalCell(*both))
    module.cast(spec.dtype)
    return module


def _cell(layer: LayerSpec, row: Convention) -> Any:
    """A cell, also where the row is that of a layer of such cells."""
    name = row.layer.split(".")[1].removesuffix("Cell") + "Cell"
    return getattr(rnn, name)(layer.hidden_size, input_size=layer.input_size, **_activations(layer, row))


def _activations(layer: LayerSpec, row: Convention) -> dict[str, Any]:
    options = {"activation": layer.activation} if len(row.activations) > 1 else {}
    gates = {"recurrent_activation": layer.gate_activation} if len(row.gate_activations) > 1 else {}
    return {**options, **gates}


def _doubled(piece: Any) -> Any:
    """A copy in float64. What a hybridized block has compiled cannot be copied, and is compiled anew."""
    compiled: dict[int, Any] = {}
    piece.apply(lambda block: compiled.update({id(getattr(block, "_cached_op", None)): None}))
    twin = copy.deepcopy(piece, compiled)
    twin.cast("float64")
    rounds = type(twin) in LAYERS and twin._mode == "rnn_relu"
    return twin._unfuse() if rounds else twin


def _array(value: FloatArray, context: Any) -> Any:
    """An array of the kind that counts now."""
    kind = mx.np if mx.util.is_np_array() else mx.nd
    return kind.array(value, dtype=value.dtype, ctx=context)
