"""ONNX's recurrent nodes as descriptions, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import Activation, Biases, Direction, LayerSpec
from d2lrnn.ports.layout import from_own, to_own
from d2lrnn_onnx.graph import Node

DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "forward": ("forward",),
    "reverse": ("backward",),
    "bidirectional": ("forward", "backward"),
}
_ACTIVATIONS: dict[str, Activation] = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "affine": "linear",
}
#: How often a node has each activation, with one direction: of the gates, of the candidate, of the cell.
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


def layer_of(node: Node) -> tuple[Convention, LayerSpec]:
    """What a node computes, and its line in the table.

    Raises:
        PortError: no description has it.
    """
    attributes, (W, R, B) = node.attributes, node.weights
    kind = node.proto.op_type
    if unknown := [name for name in attributes if name not in _KNOWN]:
        raise PortError(f"the {kind} {node.name!r} has the attribute {unknown[0][:30]!r}, which is unknown")
    for name, default in (("clip", 0.0), ("input_forget", 0)):
        if attributes.get(name, default) != default:
            raise PortError(_REFUSED[name].format(node=node.name, value=attributes[name]))
    direction = attributes.get("direction", b"forward").decode("ascii", "replace")
    if direction not in DIRECTIONS:
        raise PortError(f"the {kind} {node.name!r} has the direction {direction[:30]!r}, which there is not")
    directions = DIRECTIONS[direction]
    reset = None if kind != "GRU" else bool(attributes.get("linear_before_reset", 0))
    convention = _convention(kind, reset)
    gate, activation = _activations(node, len(directions))
    shape, width = W.shape, len(convention.gates)
    if len(shape) != 3 or shape[0] != len(directions) or not shape[1] or shape[1] % width:
        raise PortError(f"W of the {kind} {node.name!r} has the shape {list(shape)}")
    hidden, biases = shape[1] // width, _biases(B)
    if attributes.get("hidden_size", hidden) != hidden:
        raise PortError(
            f"the {kind} {node.name!r} says {attributes['hidden_size']} hidden units, its W {hidden}"
        )
    expected = {"R": (R, (shape[0], shape[1], hidden)), "B": (B, (shape[0], 2 * shape[1]))}
    for name, (array, wanted) in expected.items():
        if array is not None and array.shape != wanted:
            raise PortError(
                f"{name} of the {kind} {node.name!r} has the shape {list(array.shape)}, not {list(wanted)}"
            )
    return convention, LayerSpec(
        convention.cell,
        shape[2],
        hidden,
        biases=biases,
        activation=activation,
        gate_activation=gate,
        reset_after=reset,
        directions=directions,
    )


_KNOWN = (
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget",
    "layout", "linear_before_reset",
)  # fmt: skip
_REFUSED = {
    "clip": "{node} cuts the inputs of its activations off at {value:g} (clip), which no description has. "
    "Nearest is the same without clip, where no input is ever beyond it",
    "input_forget": "{node} makes its input gate of its forget gate (input_forget), which no description "
    "has. Nearest is an LSTM with an input gate of its own, trained anew",
}


def arrays_of(node: Node, convention: Convention, layer: LayerSpec) -> list[dict[str, FloatArray]]:
    """The canonical arrays of each direction of a node."""
    W, R, B = node.weights
    found = []
    for d in range(len(layer.directions)):
        own = {"w_x": W[d], "w_h": R[d]}
        if B is not None:
            own["b"], own["b_h"] = np.split(B[d], 2)
        found.append(from_own(convention, layer, own))
    return found


def weights_of(
    convention: Convention, layer: LayerSpec, arrays: Sequence[Parameters]
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """W, R and B of a node, of the canonical arrays of each direction."""
    own = [to_own(convention, layer, each) for each in arrays]
    B = None
    if layer.biases != "none":
        B = np.stack([np.concatenate([each["b"], each["b_h"]]) for each in own])
    return np.stack([each["w_x"] for each in own]), np.stack([each["w_h"] for each in own]), B


def node_of(convention: Convention, layer: LayerSpec, name: str) -> NodeProto:
    """A node without inputs and outputs."""
    kind = convention.layer.partition("(")[0]
    names = _names(kind, layer)
    attributes: dict[str, Any] = {
        "hidden_size": layer.hidden_size,
        "direction": next(each for each, found in DIRECTIONS.items() if found == layer.directions),
        "activations": names,
    }
    if count := names.count("Affine"):
        attributes |= {"activation_alpha": [1.0] * count, "activation_beta": [0.0] * count}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(bool(layer.reset_after))
    return helper.make_node(kind, [], [], name=name, **attributes)


def copied(proto: NodeProto, layer: LayerSpec, name: str) -> NodeProto:
    """A node without inputs and outputs, with its activations written out and time first."""
    node = NodeProto()
    node.CopyFrom(proto)
    own = [each for each in node.attribute if each.name not in ("layout", "activations")]
    del node.input[:], node.output[:], node.attribute[:]
    node.attribute.extend([*own, helper.make_attribute("activations", _names(proto.op_type, layer))])
    node.name = name
    return node


def _names(kind: str, layer: LayerSpec) -> list[str]:
    """The activations of a node, for each direction."""
    names = {value: name.capitalize() for name, value in _ACTIVATIONS.items()}
    own = [] if layer.gate_activation is None else [names[layer.gate_activation]]
    own += [names[layer.activation]] * (len(_DEFAULTS[kind]) - len(own))
    return own * len(layer.directions)


def states_of(layer: LayerSpec) -> tuple[str, ...]:
    """The order of the states among a node's inputs and outputs."""
    return next(row.state for row in conventions("onnx") if row.cell == layer.cell)


def _convention(kind: str, reset: bool | None) -> Convention:
    wanted = {None: "none", True: "after", False: "before"}[reset]
    return next(
        row for row in conventions("onnx") if row.layer.partition("(")[0] == kind and row.reset == wanted
    )


def _biases(B: FloatArray | None) -> Biases:
    return "none" if B is None else "two"


def _activations(node: Node, directions: int) -> tuple[Activation | None, Activation]:
    """Those of the gates and of the candidate."""
    default = _DEFAULTS[node.proto.op_type]
    given = [each.decode("ascii", "replace") for each in node.attributes.get("activations", [])]
    names = given or list(default) * directions
    if len(names) != len(default) * directions:
        raise PortError(f"{node.name} has {len(names)} activations, and needs {len(default) * directions}")
    alphas, betas = (list(node.attributes.get(f"activation_{each}", [])) for each in ("alpha", "beta"))
    identity = all(each == 1 for each in alphas) and not any(betas)
    for name in names:
        known = _ACTIVATIONS.get(name.lower())
        if known is None or (known == "linear" and not identity):
            raise PortError(
                f"{node.name} has the activation {name[:30]}, which no description has: it is one of Tanh, "
                "Relu, Sigmoid, or Affine with alpha 1 and beta 0"
            )
    parts = [names[k : k + len(default)] for k in range(0, len(names), len(default))]
    if any(part != parts[0] for part in parts):
        raise PortError(f"the directions of {node.name} have different activations: port them one by one")
    found = [_ACTIVATIONS[name.lower()] for name in parts[0]]
    if len(found) == 3 and found[1] != found[2]:
        raise PortError(
            f"{node.name} has the activation {parts[0][1]} for its candidate and {parts[0][2]} for its cell, "
            "where a description has one for both"
        )
    return (None, found[0]) if len(found) == 1 else (found[0], found[1])
