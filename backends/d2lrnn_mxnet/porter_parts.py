"""What a module of Gluon consists of, to `d2lrnn_mxnet.porter`: its layers and where their arrays are.

Gluon has recurrent layers, which are called, and cells, which take one step or are unrolled. A
`SequentialRNNCell` is a stack of cells, a `BidirectionalCell` two of them. The code reads private attributes:
MXNet 1.9.1 is the last release, so they will not change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter, nn, rnn

from d2lrnn.contract.values import DType, FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import Activation, Direction, LayerSpec
from d2lrnn_mxnet.layers import has_shape

#: Gluon's names of the arrays of a direction of a layer, by the canonical ones.
NAMES = {
    "w_x": "i2h_weight",
    "w_h": "h2h_weight",
    "b": "i2h_bias",
    "b_h": "h2h_bias",
    "w_p": "h2r_weight",
}

#: The end of the names of the conventions of cells that are unrolled.
UNROLLED = ".unroll"

LAYERS = (rnn.RNN, rnn.GRU, rnn.LSTM)
CELLS = (rnn.RNNCell, rnn.GRUCell, rnn.LSTMCell)

#: Cells that give what is put into them, the one behind the other.
STACKED_CELLS = (rnn.SequentialRNNCell, rnn.HybridSequentialRNNCell)

#: Layers one behind the other: each returns its outputs alone where it is given no state.
LISTS = (list, tuple, nn.Sequential, nn.HybridSequential)


class Holder(NamedTuple):
    """What holds the arrays of one direction of a layer.

    Attributes:
        block: a layer or a cell.
        before: what its names of them begin with: ``l0_`` in a layer, nothing in a cell.
    """

    block: Any
    before: str = ""

    def parameter(self, name: str) -> Parameter:
        """The parameter of a canonical name."""
        return getattr(self.block, self.before + NAMES[name])

    def array(self, name: str) -> FloatArray:
        """A copy of its values.

        Raises:
            PortError: it has none yet.
        """
        parameter = self.parameter(name)
        if not has_shape(parameter):
            raise PortError(
                f"the shape of {parameter.name} is not known yet: call the module once, or make it with "
                "input_size"
            )
        try:
            array: FloatArray = parameter.list_data()[0].asnumpy()
        except RuntimeError as error:
            raise PortError(f"{parameter.name} has no values yet: call module.initialize()") from error
        return array


class Place(NamedTuple):
    """A layer in a module.

    Attributes:
        layer: the name of its convention.
        holders: of each direction.
        directions: the directions.
    """

    layer: str
    holders: tuple[Holder, ...]
    directions: tuple[Direction, ...]


def is_list(module: Any) -> bool:
    """Whether a module is layers one behind the other."""
    return type(module) in LISTS


def pieces(module: Any) -> list[Any]:
    """What is called, one behind the other: layers, or cells that are unrolled; or one cell."""
    if not is_list(module):
        return [module]
    listed = module if isinstance(module, (list, tuple)) else module._children.values()
    found = [each for each in listed if type(each) is not nn.Dropout]
    if not found:
        raise PortError("a list without a recurrent layer cannot be described: give it at least one")
    if len(found) > 1 and any(map(is_cell, found)):
        raise PortError(
            "a list of cells takes one step after another: put them into a SequentialRNNCell, which is a "
            "stack, or give one cell"
        )
    return found


def is_cell(piece: Any) -> bool:
    """Whether it takes one step."""
    return type(piece) in CELLS or (type(piece) is rnn.ZoneoutCell and is_cell(piece.base_cell))


def places(piece: Any) -> Iterator[Place]:
    """The layers of one of `pieces`.

    Raises:
        PortError: it, or a part of it, is none of Gluon's, or computes what no description has.
    """
    if type(piece) in LAYERS:
        yield from _layers(piece)
    elif is_cell(piece):
        yield Place(f"rnn.{type(_bare(piece)).__name__}", (Holder(_bare(piece)),), ("forward",))
    else:
        found = list(_unrolled(piece))
        if not found:
            raise PortError(f"a {type(piece).__name__} without a cell cannot be described: add one")
        yield from found


def _layers(layer: Any) -> Iterator[Place]:
    if layer._lstm_state_clip_min is not None or layer._lstm_state_clip_max is not None:
        raise PortError("an LSTM that clips its state has no description: make it without lstm_state_clip")
    if layer._mode == "rnn_relu" and np.dtype(layer._dtype) == np.float64:
        raise PortError(
            "a gluon.rnn.RNN computes its relu in float32 whatever its type, so that in float64 it is no "
            "relu to 1e-12: cast it to float32, or take RNNCell(activation='relu')"
        )
    sides = ("l", "r")[: layer._dir]
    directions = get_args(Direction)[: layer._dir]
    for l in range(layer._num_layers):
        holders = tuple(Holder(layer, f"{side}{l}_") for side in sides)
        yield Place(f"rnn.{type(layer).__name__}", holders, directions)


def _unrolled(cell: Any) -> Iterator[Place]:
    """The cells of a composed one."""
    if type(cell) in STACKED_CELLS:
        for each in cell._children.values():
            yield from _unrolled(each)
    elif type(cell) is rnn.BidirectionalCell:
        both = [list(_unrolled(each)) for each in cell._children.values()]
        if any(len(found) != 1 or len(found[0].directions) != 1 for found in both):
            raise PortError("a BidirectionalCell of stacks has no description: give a stack of such cells")
        (forward,), (backward,) = both
        if forward.layer != backward.layer:
            raise _differing()
        yield Place(forward.layer, (*forward.holders, *backward.holders), get_args(Direction))
    elif is_cell(cell):
        yield Place(f"rnn.{type(_bare(cell)).__name__}{UNROLLED}", (Holder(_bare(cell)),), ("forward",))
    elif type(cell) is rnn.ResidualCell:
        raise PortError(
            "a ResidualCell adds its inputs to its outputs, which no description has. It cannot be "
            f"described: give one of {_known()}, as its base_cell is, and add the inputs behind it"
        )
    elif type(cell) is not rnn.DropoutCell:
        raise PortError(
            f"a {type(cell).__module__}.{type(cell).__name__} cannot be described: give one of {_known()}, "
            "as it is, in a SequentialRNNCell, a BidirectionalCell, an nn.Sequential or a list of such"
        )


def _known() -> str:
    return ", ".join(row.layer for row in conventions("mxnet") if not row.layer.endswith(UNROLLED))


def _bare(cell: Any) -> Any:
    return _bare(cell.base_cell) if type(cell) is rnn.ZoneoutCell else cell


def _differing() -> PortError:
    return PortError("the two directions of a BidirectionalCell differ: port its cells one by one")


def layer_spec(place: Place, row: Convention) -> LayerSpec:
    """What a layer computes.

    Raises:
        PortError: its shapes are not known yet, its activation has no description, or its two directions
            differ.
    """
    found = {_direction_spec(holder, place, row) for holder in place.holders}
    if len(found) > 1:
        raise _differing()
    return found.pop()


def _direction_spec(holder: Holder, place: Place, row: Convention) -> LayerSpec:
    block = holder.block
    if row.layer == "rnn.RNN":
        activation = _activation(block._mode.removeprefix("rnn_"))
    else:
        activation = _activation(getattr(block, "_activation", "tanh"))
    gate = _activation(getattr(block, "_recurrent_activation", "sigmoid")) if row.gate_activations else None
    return LayerSpec(
        row.cell,
        holder.array("w_x").shape[1],
        block._hidden_size,
        projection_size=getattr(block, "_projection_size", None),
        biases="two",
        activation=activation,
        gate_activation=gate,
        reset_after=None if row.reset == "none" else row.reset == "after",
        directions=place.directions,
    )


def _activation(name: Any) -> Activation:
    for known in get_args(Activation):
        if name == known:
            return known
    raise PortError(f"the activation {name} has no description: it is one of tanh, relu, sigmoid")


def dtype_of(held: list[FloatArray]) -> DType:
    """The one type of arrays.

    Raises:
        PortError: they are of several, or of another than float32 or float64.
    """
    types = {str(array.dtype) for array in held}
    if types == {"float32"}:
        return "float32"
    if types == {"float64"}:
        return "float64"
    raise PortError(
        f"the module has parameters of type {', '.join(sorted(types))}: cast it to one float type"
    )


def numpy_arrays(block: Any) -> bool:
    """Whether a block's arrays are of the kind that npx.set_np makes."""
    return any(isinstance(p._data[0], mx.np.ndarray) for p in block.collect_params().values() if p._data)


def notes(module: Any) -> Iterator[str]:
    """What a module has that no description carries."""
    if isinstance(module, (list, tuple)):
        for each in module:
            yield from notes(each)
        return
    if type(module) in LAYERS:
        if module._dropout:
            yield f"dropout={module._dropout} between the layers is not carried"
        if module._use_sequence_length:
            yield (
                "use_sequence_length=True is not carried: padding is proved sequence by sequence (on a CPU "
                "MXNet ignores the lengths in float32, and refuses them in float64)"
            )
    elif type(module) in (rnn.DropoutCell, nn.Dropout):
        if module._rate:
            yield f"{type(module).__name__}({module._rate}) is not carried"
    elif type(module) is rnn.ZoneoutCell:
        yield (
            f"ZoneoutCell(zoneout_outputs={module.zoneout_outputs}, zoneout_states={module.zoneout_states}) "
            "is not carried"
        )
    frozen = [name for name, value in module._reg_params.items() if value.grad_req == "null"]
    if frozen:
        yield f"grad_req='null' of {', '.join(frozen)} is not carried"
    for child in module._children.values():
        yield from notes(child)
