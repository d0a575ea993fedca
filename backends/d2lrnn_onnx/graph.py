"""The recurrent nodes of an ONNX model, one behind the other, and what stands between them.

A model is read and not run. Weights must be constants of it; between two nodes there may be what exporters
write to put the outputs of two directions side by side: Transpose, Squeeze, Reshape and their like.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn_onnx.arrays import array_of

#: ONNX's nodes by name, and what their inputs are.
RECURRENT = ("RNN", "GRU", "LSTM")
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

#: What may stand between two nodes; the first input of each is the data.
BETWEEN = ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Dropout")
#: What carries shapes and zeros about, of which nobody asks.
_PLUMBING = (*BETWEEN, "Constant", "Shape", "Concat", "Expand", "ConstantOfShape", "Slice", "Cast")

_OLDEST_OPSET = 7
_MOST_BETWEEN = 32
_MOST_NODES = 100_000


class Node(NamedTuple):
    """A recurrent node.

    Attributes:
        proto: itself.
        attributes: by name.
        weights: W, R and B (of a node without biases None).
        batch_first: whether it is given (B, T, n), by its layout or by a Transpose before it.
        notes: what else it is given, which no description carries.
    """

    proto: NodeProto
    attributes: dict[str, Any]
    weights: tuple[FloatArray, FloatArray, FloatArray | None]
    batch_first: bool
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its own, or that of its output."""
        return self.proto.name or next((name for name in self.proto.output if name), self.proto.op_type)


class Graph:
    """A model, as far as recurrent nodes go.

    Raises:
        PortError: it is older than what is known here.
    """

    def __init__(self, model: ModelProto) -> None:
        versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
        if not versions or min(versions) < _OLDEST_OPSET:
            raise PortError(
                f"the model has operators of version {min(versions, default=0)}: convert it to 7 or later by "
                "onnx.version_converter"
            )
        if len(model.graph.node) > _MOST_NODES:
            raise PortError(f"the model has {len(model.graph.node):,} nodes: that is more than is looked at")
        self._nodes = list(model.graph.node)
        self._producers = {name: node for node in self._nodes for name in node.output if name}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._given = {each.name for each in model.graph.input}
        self._arrays: dict[str, Any] = {}

    def chains(self) -> dict[str, list[NodeProto]]:
        """The recurrent nodes, each behind the one that feeds it alone, by the name of the first."""
        recurrent = [node for node in self._nodes if node.op_type in RECURRENT and not node.domain]
        before = {id(node): self._feeding(node) for node in recurrent}
        behind: dict[int, list[NodeProto]] = {}
        for node in recurrent:
            if (fed_by := before[id(node)]) is not None:
                behind.setdefault(id(fed_by), []).append(node)
        chains: dict[str, list[NodeProto]] = {}
        for node in recurrent:
            fed_by = before[id(node)]
            if fed_by is not None and len(behind[id(fed_by)]) == 1:
                continue
            chain = [node]
            while len(following := behind.get(id(chain[-1]), [])) == 1:
                chain.append(following[0])
            name = node.name or next((each for each in node.output if each), node.op_type)
            chains[name if name not in chains else f"{name}.{len(chains)}"] = chain
        return chains

    def read(self, chain: list[NodeProto]) -> list[Node]:
        """The nodes of a chain, with their weights.

        Raises:
            PortError: something of them, or between them, has no description.
        """
        found = [self._read(proto) for proto in chain]
        for node, behind in pairwise(found):
            self._check_between(node, behind)
        return found

    def others(self, chain: list[NodeProto]) -> list[str]:
        """The operators beside those of a chain, but for what carries shapes about."""
        own = {id(node) for node in chain}
        return list(
            dict.fromkeys(
                node.op_type
                for node in self._nodes
                if id(node) not in own
                and node.op_type not in _PLUMBING
                # A Gather that picks a length out of a shape is no embedding.
                and not (node.op_type == "Gather" and not self._is_constant(node.input[0]))
            )
        )

    def _feeding(self, node: NodeProto) -> NodeProto | None:
        """The recurrent node whose outputs another one is fed, perhaps turned."""
        name, _ = self._back(_input(node, "X"))
        source = self._producers.get(name)
        if source is None or source.op_type not in RECURRENT or source is node:
            return None
        return source if name == source.output[0] else None

    def _back(self, name: str) -> tuple[str, list[NodeProto]]:
        """From what a node is given to where that comes from, and what stands between, the first first."""
        between: list[NodeProto] = []
        while (node := self._producers.get(name)) is not None and node.op_type in BETWEEN and node.input:
            between.insert(0, node)
            name = node.input[0]
            if len(between) == _MOST_BETWEEN:
                break
        return name, between

    def _read(self, proto: NodeProto) -> Node:
        attributes = {each.name: helper.get_attribute_value(each) for each in proto.attribute}
        weights = []
        for which in ("W", "R", "B"):
            name = _input(proto, which)
            weights.append(self._array(name, f"{which} of {_called(proto)}") if name else None)
        W, R, B = weights
        if W is None or R is None:
            raise PortError(f"{_called(proto)} has no weights")
        _, between = self._back(_input(proto, "X"))
        turned = [_permutation(node) for node in between if node.op_type != "Identity"] == [[1, 0, 2]]
        batch_first = attributes.get("layout", 0) == 1 or turned
        return Node(proto, attributes, (W, R, B), batch_first, tuple(self._notes(proto)))

    def _notes(self, proto: NodeProto) -> Iterator[str]:
        if (name := _input(proto, "P")) and np.any(self._array(name, f"P of {_called(proto)}")):
            raise PortError(
                f"{_called(proto)} has peepholes (P), from the cell's state to its gates: no description has "
                "them, and no layer of another framework. Nearest is an LSTM without them, trained anew"
            )
        for which in ("initial_h", "initial_c"):
            name = _input(proto, which)
            if not name:
                continue
            zeros = self._zeros(name)
            if zeros is False:
                raise PortError(
                    f"{_called(proto)} begins with a constant state ({which}) that is not zeros, which no "
                    "description has: give it as the state to what is built, and take it out of the model"
                )
            if zeros is None and name not in self._given:
                yield f"{which} is computed in the model: pass the state to what is built"
        if (name := _input(proto, "sequence_lens")) and name not in self._given:
            yield "sequence_lens is computed in the model: pass the lengths to what is built"

    def _zeros(self, name: str) -> bool | None:
        """Whether a state is constant zeros; None where it is computed or given."""
        node = self._producers.get(name)
        for _ in range(_MOST_BETWEEN):
            if node is not None and node.op_type in ("Expand", *BETWEEN) and node.input:
                name, node = node.input[0], self._producers.get(node.input[0])
        if node is not None and node.op_type == "ConstantOfShape":
            values = [each.t for each in node.attribute if each.name == "value"]
            return not values or not np.any(array_of(values[0]))
        if not self._is_constant(name):
            return None
        return not np.any(self._array(name, "an initial state"))

    def _constant(self, name: str) -> TensorProto | None:
        node = self._producers.get(name)
        for _ in range(_MOST_BETWEEN):
            if node is not None and node.op_type == "Identity" and node.input:
                name, node = node.input[0], self._producers.get(node.input[0])
        if node is not None and node.op_type == "Constant":
            return next((each.t for each in node.attribute if each.name == "value"), None)
        return self._constants.get(name)

    def _is_constant(self, name: str) -> bool:
        return self._constant(name) is not None

    def _array(self, name: str, what: str) -> Any:
        """A constant of the model."""
        if name not in self._arrays:
            tensor = self._constant(name)
            if tensor is None:
                raise PortError(
                    f"{what} is no constant of the model, but given to it or computed in it: fold its "
                    "constants first, as by onnxsim or torch.onnx.export"
                )
            self._arrays[name] = array_of(tensor)
        return self._arrays[name]

    def _check_between(self, node: Node, behind: Node) -> None:
        """Raises a PortError where a node is given something else than the outputs of the one before."""
        _, between = self._back(_input(behind.proto, "X"))
        directions, hidden = node.weights[0].shape[0], node.weights[1].shape[-1]
        T, B = 2, 3
        Y = np.arange(T * directions * B * hidden).reshape(T, directions, B, hidden)
        expected = Y.transpose(0, 2, 1, 3).reshape(T, B, directions * hidden)
        given: Any = Y.transpose(2, 0, 1, 3) if node.attributes.get("layout", 0) == 1 else Y
        if behind.attributes.get("layout", 0) == 1:
            expected = expected.swapaxes(0, 1)
        try:
            for each in between:
                given = self._applied(each, given)
        except (ValueError, IndexError):
            given = np.zeros(0)
        if not np.array_equal(given, expected):
            operators = ", ".join(each.op_type for each in between) or "nothing"
            raise PortError(
                f"between {_called(node.proto)} and {_called(behind.proto)} stands {operators}, which does "
                "not put the outputs of its directions side by side: such a stack has no description"
            )

    def _applied(self, node: NodeProto, array: Any) -> Any:
        """What one of `BETWEEN` makes of an array; a ValueError where that is not known."""
        if node.op_type == "Transpose":
            return array.transpose(_permutation(node))
        if node.op_type in ("Squeeze", "Unsqueeze", "Reshape"):
            numbers = self._numbers(node)
            if node.op_type == "Squeeze":
                return array.squeeze(tuple(numbers) if numbers else None)
            if node.op_type == "Unsqueeze":
                return np.expand_dims(array, tuple(numbers))
            return _reshaped(array, numbers)
        return array

    def _numbers(self, node: NodeProto) -> list[int]:
        """The axes or the shape of a node, its second input or, in older versions, an attribute."""
        if len(node.input) > 1 and node.input[1]:
            values = self._array(node.input[1], f"the second input of a {node.op_type}")
            return [int(each) for each in values.ravel()]
        for each in node.attribute:
            if each.name in ("axes", "shape"):
                return [int(value) for value in each.ints]
        return []


def _reshaped(array: Any, shape: list[int]) -> Any:
    """The first two axes may have any lengths in the shape: those of the time and the batch of an example."""
    if array.ndim != 4 or len(shape) != 3:
        raise ValueError
    if shape[2] in (-1, array.shape[2] * array.shape[3]) and shape[1] != -1:
        return array.reshape(*array.shape[:2], -1)
    ones = [axis for axis in range(3) if array.shape[axis] == 1]
    if shape[2] == array.shape[3] and ones:
        return array.squeeze(ones[0])
    raise ValueError


def _permutation(node: NodeProto) -> list[int]:
    return next((list(each.ints) for each in node.attribute if each.name == "perm"), [])


def _input(node: NodeProto, which: str) -> str:
    place = INPUTS.index(which)
    # P of an LSTM stands behind initial_c; the others have neither.
    return str(node.input[place]) if place < len(node.input) else ""


def _called(node: NodeProto) -> str:
    return f"the {node.op_type} {node.name!r}" if node.name else f"the {node.op_type}"
