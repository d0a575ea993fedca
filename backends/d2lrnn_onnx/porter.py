"""ONNX's recurrent nodes, for `d2lrnn.ports`; what they do is in ``conventions.toml``.

A module is an `onnx.ModelProto`; what is built is described in `d2lrnn_onnx.models`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto

from d2lrnn.contract.values import DType, FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.layout import part_of
from d2lrnn.ports.porter import Described
from d2lrnn.ports.proof import twin_of
from d2lrnn_onnx.graph import Graph, Node
from d2lrnn_onnx.models import Weights, assembled, by_evaluator, by_runtime
from d2lrnn_onnx.nodes import arrays_of, layer_of, node_of, weights_of


class OnnxPorter:
    """The methods are those of `d2lrnn.ports.porter.Porter`."""

    def describe(self, module: ModelProto) -> Described:
        """See `d2lrnn.ports.porter.Porter`. All recurrent nodes are to be one stack."""
        return describe(*chosen(module, None))

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> ModelProto:
        """See `d2lrnn.ports.porter.Porter`."""
        if spec.dtype != "float32":
            raise PortError(
                f"onnx cannot hold this: ONNX Runtime runs recurrent nodes in float32, and this is "
                f"{spec.dtype}. Convert it to float32 there, and port that"
            )
        parts = iter(spec.parts())
        nodes = []
        for l, (layer, row) in enumerate(zip(spec.layers, conventions, strict=True)):
            prefixes = [next(parts)[0] for _ in layer.directions]
            arrays = [part_of(parameters, prefix, list(layer.shapes())) for prefix in prefixes]
            nodes.append((node_of(row, layer, f"rnn.{l}"), weights_of(row, layer, arrays)))
        return assembled(nodes, spec)

    def twin(self, module: ModelProto) -> ModelProto:
        """See `d2lrnn.ports.porter.Porter`. What runs it is ONNX's own evaluator."""
        graph, chain = chosen(module, None)
        nodes, spec = graph.read(chain), describe(graph, chain).spec
        return assembled([(node.proto, _doubled(node.weights)) for node in nodes], twin_of(spec))

    def run(
        self,
        module: ModelProto,
        spec: StackSpec,
        inputs: FloatArray,
        state: Parameters | None = None,
        lengths: IntArray | None = None,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """See `d2lrnn.ports.porter.Porter`. ONNX Runtime runs the nodes, in float64 the evaluator."""
        nodes = [(node.proto, node.weights) for node in _nodes(module)]
        if spec.dtype == "float32":
            return by_runtime(nodes, spec, inputs, state, lengths)
        return by_evaluator(nodes, spec, inputs, state, lengths)


def chosen(module: ModelProto, prefix: str | None) -> tuple[Graph, list[NodeProto]]:
    """The chain of recurrent nodes of a model, or the one whose first node has this name.

    Raises:
        PortError: there is none, or no such one, or several.
    """
    if not isinstance(module, ModelProto):
        raise PortError(
            f"a {type(module).__module__}.{type(module).__name__} cannot be described: give one of "
            "onnx.ModelProto, with nodes RNN, GRU or LSTM"
        )
    graph = Graph(module)
    chains = graph.chains()
    listed = ", ".join(repr(name) for name in list(chains)[:8]) + (", …" if len(chains) > 8 else "")
    if not chains:
        raise PortError(
            "the model cannot be described: give one of RNN, GRU, LSTM among its nodes. It has none: a Scan, "
            "a Loop or steps that are written out are none"
        )
    if prefix is not None:
        if prefix not in chains:
            raise PortError(f"no recurrent node is called {prefix!r}: the model has {listed}")
        return graph, chains[prefix]
    if len(chains) > 1:
        raise PortError(f"the model has {len(chains)} recurrent stacks: choose one by --prefix, of {listed}")
    return graph, next(iter(chains.values()))


def describe(graph: Graph, chain: list[NodeProto]) -> Described:
    """What a chain of nodes computes."""
    nodes = graph.read(chain)
    rows = [layer_of(node) for node in nodes]
    dtypes = {str(array.dtype) for node in nodes for array in node.weights if array is not None}
    dtype: DType = "float64" if dtypes == {"float64"} else "float32"
    if dtypes != {dtype}:
        raise PortError(f"the nodes compute in {', '.join(sorted(dtypes))}: take one type for all")
    stack = StackSpec(tuple(layer for _, layer in rows), batch_first=nodes[0].batch_first, dtype=dtype)
    parts = iter(stack.parts())
    parameters: dict[str, FloatArray] = {}
    for node, (row, layer) in zip(nodes, rows, strict=True):
        for arrays in arrays_of(node, row, layer):
            prefix, _, _ = next(parts)
            parameters |= {prefix + name: array for name, array in arrays.items()}
    notes = [note for node in nodes for note in node.notes]
    if others := graph.others(chain):
        notes.append(f"the model's other operators are left out: {', '.join(others[:8])}")
    return Described(stack, parameters, tuple(dict.fromkeys(notes)))


def with_chain(module: ModelProto, prefix: str | None, spec: StackSpec) -> ModelProto:
    """The chain of a model as a model of its own, with its own nodes and weights."""
    graph, chain = chosen(module, prefix)
    return assembled([(node.proto, node.weights) for node in graph.read(chain)], spec)


def _doubled(weights: Weights) -> Weights:
    W, R, B = weights
    return W.astype(np.float64), R.astype(np.float64), None if B is None else B.astype(np.float64)


def _nodes(module: ModelProto) -> list[Node]:
    graph, chain = chosen(module, None)
    return graph.read(chain)
