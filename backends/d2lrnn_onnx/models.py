"""Models of recurrent nodes, one behind the other, that take and give states; and what runs them.

The inputs are ``input`` (T, B, n), or (B, T, n) with the batch first, and of each layer the states ``h.{l}``,
of an LSTM also ``c.{l}``, (directions, B, h); the outputs are ``output``, ``next_h.{l}`` and ``next_c.{l}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from d2lrnn.contract.values import DType, FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.description import StackSpec
from d2lrnn_onnx.evaluator import evaluator
from d2lrnn_onnx.nodes import copied, states_of

#: Old enough for every ONNX Runtime of the last years.
_OPSET, _IR_VERSION = 17, 8

_SILENT = 4

_TYPES: dict[DType, Any] = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}

#: W, R and B of a node; None without biases.
Weights = tuple[FloatArray, FloatArray, FloatArray | None]


def assembled(
    nodes: Sequence[tuple[NodeProto, Weights]], spec: StackSpec, *, lengths: bool = False
) -> ModelProto:
    """A model of nodes, as they are, and their weights.

    Args:
        nodes: of each layer; their own inputs and outputs do not count.
        spec: what they compute.
        lengths: whether there is an input ``lengths``, int32 (B,), behind the others.
    """
    made: list[NodeProto] = []
    arrays: dict[str, Any] = {}
    axes, X = ["batch", "time"] if spec.batch_first else ["time", "batch"], "input"
    kinds = [states_of(layer) for layer in spec.layers]
    if spec.batch_first:
        made.append(helper.make_node("Transpose", [X], ["input.time_first"], perm=[1, 0, 2]))
        X = "input.time_first"
    for l, ((proto, weights), layer, states) in enumerate(zip(nodes, spec.layers, kinds, strict=True)):
        names = [f"{each}.{l}" if weights[k] is not None else "" for k, each in enumerate("WRB")]
        arrays |= {name: weights[k] for k, name in enumerate(names) if name}
        node, D = copied(proto, layer, f"rnn.{l}"), len(layer.directions)
        node.input.extend([X, *names, "lengths" if lengths else "", *(f"{name}.{l}" for name in states)])
        node.output.extend([f"Y.{l}", *(f"next_{name}.{l}" for name in states)])
        made.append(node)
        last = l == len(spec.layers) - 1 and not spec.batch_first
        following = "output" if last else f"X.{l + 1}"
        if D == 1:
            arrays["axis"] = np.array([1], np.int64)
            made.append(helper.make_node("Squeeze", [f"Y.{l}", "axis"], [following]))
        else:
            arrays["shape"] = np.array([0, 0, -1], np.int64)
            made.append(helper.make_node("Transpose", [f"Y.{l}"], [f"Y.{l}.turned"], perm=[0, 2, 1, 3]))
            made.append(helper.make_node("Reshape", [f"Y.{l}.turned", "shape"], [following]))
        X = following
    if spec.batch_first:
        made.append(helper.make_node("Transpose", [X], ["output"], perm=[1, 0, 2]))
    kind, n = _TYPES[spec.dtype], spec.layers[0].input_size
    first = helper.make_tensor_value_info("input", kind, [*axes, n])
    state_inputs = []
    outputs = [helper.make_tensor_value_info("output", kind, [*axes, spec.output_size])]
    for l, layer in enumerate(spec.layers):
        shape = [len(layer.directions), "batch", layer.hidden_size]
        for name in layer.kind.states:
            state_inputs.append(helper.make_tensor_value_info(f"{name}.{l}", kind, shape))
            outputs.append(helper.make_tensor_value_info(f"next_{name}.{l}", kind, shape))
    if lengths:
        state_inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
    graph = helper.make_graph(
        made, "recurrent layers", [first, *state_inputs], outputs,
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="d2lrnn"
    )


def _feeds(spec: StackSpec, inputs: FloatArray, state: Parameters | None) -> dict[str, FloatArray]:
    """What a model of `assembled` is given."""
    shapes = spec.state_shapes(inputs.shape[1])
    given = state or {name: np.zeros(shape, spec.dtype) for name, shape in shapes.items()}
    feeds = {"input": np.swapaxes(inputs, 0, 1) if spec.batch_first else inputs}
    for (l, name), parts in groupby(sorted(shapes, key=_place), key=lambda each: _place(each)[:2]):
        feeds[f"{name}.{l}"] = np.stack([given[each] for each in parts])
    return feeds


def _place(name: str) -> tuple[int, str, int]:
    """The layer, the state and the direction of the name of a state: ``rnn.0.backward.h``."""
    parts = name.split(".")
    return int(parts[1]), parts[-1], len(parts)


def _results(spec: StackSpec, values: dict[str, Any]) -> tuple[FloatArray, dict[str, FloatArray]]:
    outputs = np.swapaxes(values["output"], 0, 1) if spec.batch_first else values["output"]
    found = {}
    for name in spec.state_shapes(1):
        l, state, parts = _place(name)
        layer = spec.layers[l]
        both = len(layer.directions) == 2
        found[name] = values[f"next_{state}.{l}"][1 if both and parts == 4 else 0]
    return outputs, found


def by_runtime(
    nodes: Sequence[tuple[NodeProto, Weights]], spec: StackSpec, inputs: FloatArray, state: Parameters | None,
    lengths: IntArray | None,
) -> tuple[FloatArray, dict[str, FloatArray]]:  # fmt: skip
    """By ONNX Runtime, on its CPU."""
    model = assembled(nodes, spec, lengths=lengths is not None)
    feeds: dict[str, Any] = dict(_feeds(spec, inputs, state))
    if lengths is not None:
        feeds["lengths"] = lengths.astype(np.int32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT  # what it would print is in its error
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [each.name for each in session.get_outputs()]
        return _results(spec, dict(zip(names, session.run(names, feeds), strict=True)))
    except Exception as error:  # its own classes, which have no base but this one
        raise PortError(f"ONNX Runtime does not run it: {str(error)[:300]}") from error


def by_evaluator(
    nodes: Sequence[tuple[NodeProto, Weights]], spec: StackSpec, inputs: FloatArray, state: Parameters | None,
    lengths: IntArray | None,
) -> tuple[FloatArray, dict[str, FloatArray]]:  # fmt: skip
    """By ONNX's own evaluator, which knows no lengths: each sequence is given alone, without its padding."""
    program = evaluator(assembled(nodes, spec))

    def run(X: FloatArray, before: Parameters | None) -> tuple[FloatArray, dict[str, FloatArray]]:
        values = program.run(None, _feeds(spec, X, before))
        return _results(spec, dict(zip(program.output_names, values, strict=True)))

    if lengths is None:
        return run(inputs, state)
    T, B, _ = inputs.shape
    outputs = np.zeros((T, B, spec.output_size), inputs.dtype)
    finals: list[dict[str, FloatArray]] = []
    for b, length in enumerate(lengths):
        before = None if state is None else {name: array[b : b + 1] for name, array in state.items()}
        own, after = run(inputs[:length, b : b + 1], before)
        outputs[:length, b] = own[:, 0]
        finals.append(after)
    return outputs, {name: np.concatenate([each[name] for each in finals]) for name in finals[0]}
