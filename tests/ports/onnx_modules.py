"""ONNX's recurrent nodes in models that others would write, and what only ONNX can say of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from ports.user_files import Files

from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.formats.protocol import Hints

NAME = "onnx"

#: The module that converts by the table.
CONVERTER = "d2lrnn_onnx.nodes"

_NUMBER_OF_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


#: What weights are drawn by.
_draws = [np.random.RandomState(0)]


def seed(number: int) -> None:
    _draws[0] = np.random.RandomState(number)


def model(
    kinds: list[str], num_inputs: int, hidden: list[int], *, both: bool = False, bias: bool = True,
    batch_first: bool = False, options: dict[str, Any] | None = None, dtype: Any = np.float32,
) -> ModelProto:  # fmt: skip
    """A model of a stack as exporters write it: a Squeeze, or a Transpose and a Reshape, behind each node.

    Args:
        kinds: of the nodes.
        num_inputs: the length of an input vector.
        hidden: units of each node.
        both: whether they are bidirectional.
        bias: whether they have B.
        batch_first: whether a Transpose stands before and behind.
        options: more attributes of every node.
        dtype: of the weights.
    """
    nodes, arrays, X, width = [], {}, "X", num_inputs
    D = 2 if both else 1
    if batch_first:
        nodes.append(helper.make_node("Transpose", ["X"], ["X_time"], perm=[1, 0, 2]))
        X = "X_time"
    for k, (kind, h) in enumerate(zip(kinds, hidden, strict=True)):
        G = _NUMBER_OF_GATES[kind]
        shapes = {f"W{k}": (D, G * h, width), f"R{k}": (D, G * h, h)}
        if bias:
            shapes[f"B{k}"] = (D, 2 * G * h)
        arrays |= {name: _draws[0].uniform(-0.5, 0.5, shape).astype(dtype) for name, shape in shapes.items()}
        own = dict(options or {})
        if both:
            own["direction"] = "bidirectional"
        names = [X, f"W{k}", f"R{k}", f"B{k}" if bias else "", ""]
        nodes.append(
            helper.make_node(kind, names, [f"Y{k}", f"Yh{k}"], hidden_size=h, name=f"node{k}", **own)
        )
        if D == 1:
            arrays["one"] = np.array([1])
            nodes.append(helper.make_node("Squeeze", [f"Y{k}", "one"], [f"X{k + 1}"]))
        else:
            arrays["merged"] = np.array([0, 0, -1])
            nodes.append(helper.make_node("Transpose", [f"Y{k}"], [f"Z{k}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"Z{k}", "merged"], [f"X{k + 1}"]))
        X, width = f"X{k + 1}", D * h
    if batch_first:
        nodes.append(helper.make_node("Transpose", [X], ["Y_batch"], perm=[1, 0, 2]))
        X = "Y_batch"
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "stack", [helper.make_tensor_value_info("X", kind, [None, None, num_inputs])],
        [helper.make_tensor_value_info(X, kind, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@st.composite
def modules(draw: st.DrawFn, layer: str) -> Any:
    """What makes a module: a strategy may not use NumPy's generator."""
    kind, sizes, flags = layer.partition("(")[0], st.integers(1, 6), st.booleans()
    options: dict[str, Any] = {"linear_before_reset": int("=1" in layer)} if kind == "GRU" else {}
    both, bias, batch_first = draw(flags), draw(flags), draw(flags)
    if not both:
        options["direction"] = draw(st.sampled_from(["forward", "reverse"]))
    if draw(flags):
        gates = [draw(st.sampled_from(["Sigmoid", "Tanh"]))] if kind != "RNN" else []
        own = [draw(st.sampled_from(["Tanh", "Relu", "Sigmoid"]))] * (2 if kind == "LSTM" else 1)
        options["activations"] = (gates + own) * (2 if both else 1)
    number, num_inputs, hidden = (
        draw(st.integers(0, 9)),
        draw(sizes),
        draw(st.lists(sizes, min_size=1, max_size=3)),
    )

    def make() -> ModelProto:
        seed(number)
        kinds = [kind] * len(hidden)
        return model(
            kinds, num_inputs, hidden, both=both, bias=bias, batch_first=batch_first, options=options
        )

    return make


def default(convention: Convention, num_inputs: int, num_hiddens: int) -> ModelProto:
    kind = convention.layer.partition("(")[0]
    after = {"linear_before_reset": 1} if convention.reset == "after" else {}
    return model([kind], num_inputs, [num_hiddens], bias=False, options=after)


def bias_vectors(module: ModelProto, width: int) -> float:
    return sum(math.prod(each.dims) for each in module.graph.initializer if each.name.startswith("B")) / width


def number_of_modules(module: ModelProto) -> int:
    """How many the layers of a built stack are in."""
    return sum(node.op_type in _NUMBER_OF_GATES for node in module.graph.node)


def called(module: ModelProto, X: Any) -> Any:
    """The first output of the model as it is, sequences with the time first; states are zeros."""
    transposed = module.graph.node[0].op_type == "Transpose"
    session = onnxruntime.InferenceSession(module.SerializeToString(), providers=["CPUExecutionProvider"])
    first, *states = session.get_inputs()
    feeds = {first.name: np.swapaxes(X, 0, 1) if transposed else X}
    for each in states:
        feeds[each.name] = np.zeros((each.shape[0], X.shape[1], each.shape[2]), X.dtype)
    outputs = session.run(None, feeds)[0]
    return np.swapaxes(outputs, 0, 1) if transposed else outputs


def halves(layer: str) -> ModelProto:
    """What has another type of numbers than any description."""
    return model([layer.partition("(")[0]], 2, [3], dtype=np.float16)


def _no_recurrent() -> ModelProto:
    graph = helper.make_graph([helper.make_node("Relu", ["X"], ["Y"])], "none", [], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


STRANGERS = [_no_recurrent(), helper.make_node("GRU", ["X"], ["Y"])]


def _changed(change: Callable[[ModelProto], object], *words: Any, **options: Any) -> ModelProto:
    made = model(*words, **options)
    change(made)
    return made


def _twice(made: ModelProto) -> None:
    made.graph.node.append(helper.make_node("RNN", ["X", "W0", "R0"], ["other"], name="other"))


def _state(made: ModelProto) -> None:
    state = numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "state")
    made.graph.initializer.append(state)
    made.graph.node[0].input.append("state")


def _peepholes(value: float) -> Callable[[ModelProto], None]:
    def change(made: ModelProto) -> None:
        array = np.full((1, 9), value, np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, "P"))
        made.graph.node[0].input.extend(["", "", "P"])

    return change


def _given_weights(made: ModelProto) -> None:
    made.graph.node[0].input[1] = "given"


def _claimed(made: ModelProto) -> None:
    made.graph.initializer[0].dims[:] = [10**12, 10**6, 1]


def _reshaped(made: ModelProto) -> None:
    tensor = next(each for each in made.graph.initializer if each.name == "merged")
    tensor.CopyFrom(numpy_helper.from_array(np.array([0, -1, 3]), "merged"))


def _short(made: ModelProto) -> None:
    made.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros((1, 9, 9), np.float32), "R0"))


#: What is no stack though all its nodes are known, and what the error says.
NO_STACKS = [
    (_changed(_twice, ["GRU"], 2, [3]), "2 recurrent stacks: choose one by --prefix, of 'node0', 'other'"),
    (_changed(_state, ["GRU"], 2, [3]), r"begins with a constant state \(initial_h\)"),
    (_changed(_peepholes(1), ["LSTM"], 2, [3]), r"peepholes \(P\).* Nearest is an LSTM without them"),
    (_changed(_given_weights, ["GRU"], 2, [3]), "W of the GRU 'node0' is no constant of the model"),
    (_changed(_claimed, ["GRU"], 2, [3]), "has the shape .*, which its 18 numbers do not fill"),
    (_changed(_reshaped, ["GRU", "GRU"], 2, [3, 3], both=True), "stands Transpose, Reshape, which does not"),
    (_changed(_short, ["GRU"], 2, [3]), r"R of the GRU 'node0' has the shape \[1, 9, 9\], not \[1, 9, 3\]"),
    (model(["LSTM"], 2, [3], options={"clip": 3.0}), r"cuts the inputs of its activations off at 3 \(clip\)"),
    (model(["LSTM"], 2, [3], options={"input_forget": 1}), "input gate of its forget gate .*trained anew"),
    (model(["RNN"], 2, [3], options={"activations": ["Softsign"]}), "activation Softsign, which no descrip"),
    (model(["LSTM"], 2, [3], options={"activations": ["Sigmoid", "Tanh", "Relu"]}), "Tanh for its candidate"),
    (
        model(["RNN"], 2, [3], options={"direction": "sideways"}),
        "the direction 'sideways', which",
    ),
    (model(["RNN"], 2, [3], options={"activations": ["Tanh", "Tanh"]}), "has 2 activations, and needs 1"),
    (
        model(["RNN"], 2, [3], options={"activations": ["Affine"], "activation_alpha": [2.0]}),
        "Affine with",
    ),
]


def ask_initial(convention: Convention) -> None:
    """Weights are inputs that a node must have."""
    kind = convention.layer.partition("(")[0]
    graph = helper.make_graph(
        [helper.make_node(kind, ["X"], ["Y"], hidden_size=3)], "none",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, None, 2])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 1, None, 3])],
    )  # fmt: skip
    with pytest.raises(onnx.checker.ValidationError, match="input"):
        onnx.checker.check_model(helper.make_model(graph))


def ask_dropout(convention: Convention) -> None:
    """Its nodes have no such attribute."""
    kind = convention.layer.partition("(")[0]
    assert convention.dropout == "none"
    assert not [name for name in onnx.defs.get_schema(kind).attributes if "drop" in name]


def ask_kernel(convention: Convention) -> None:
    """Where there is no GPU nothing can be asked; that the table promises nothing is all."""
    assert convention.kernel == ()


def _called_file(path: Path, like: Any, X: Any) -> Any:
    return called(onnx.load(path), X)


FILES = {"onnx": Files(lambda module, path: onnx.save(module, path), _called_file, lambda spec: True)}

HINTS = Hints()


def _beside(location: str) -> Callable[[Path], None]:
    """A model whose weights are to lie in another file."""

    def make(path: Path) -> None:
        made = model(["GRU"], 2, [3])
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (path.parent / "short.data").write_bytes(bytes(8))
        (path.parent.parent / "outside.data").write_bytes(bytes(72))
        if not (path.parent / "link.data").is_symlink():
            (path.parent / "link.data").symlink_to("/etc/passwd")
        path.write_bytes(made.SerializeToString())

    return make


REFUSED = [
    ("outside.onnx", _beside("../outside.data"), "is to lie in '../outside.data', which is not in"),
    ("absolute.onnx", _beside("/etc/passwd"), "is to lie in '/etc/passwd', which is not in the model's"),
    ("link.onnx", _beside("link.data"), "is to lie in 'link.data', which is a link"),
    ("short.onnx", _beside("short.data"), "needs 72 bytes, and its place has 8"),
    ("gone.onnx", _beside("gone.data"), "cannot be read: No such file"),
    ("none.onnx", _beside(""), "is to lie in '', which is not in the model's"),
    ("text.onnx", lambda path: path.write_text("no model"), "is damaged, or no ONNX model"),
    ("empty.onnx", lambda path: path.write_bytes(b""), "it has no graph"),
    ("old.onnx", lambda path: path.write_bytes(helper.make_model(
        model(["GRU"], 2, [3]).graph, opset_imports=[helper.make_opsetid("", 3)]).SerializeToString()),
     "operators of version 3: convert it to 7"),
]  # fmt: skip
