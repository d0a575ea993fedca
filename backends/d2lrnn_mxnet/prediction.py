"""A single time step of a whole model, with which text is generated.

The learner and a language model's ``predict`` use `GraphPredictor`. In a step of batch 1 arithmetic is the
least work: the time goes into calling the graph and starting its operators, most of all those that wake
OpenMP's threads. Running the model itself, as `d2lrnn_mxnet.program` does for more steps, would also
transpose and split all weights anew. So the cells' formulas (`d2lrnn_mxnet.scratch`, for concise models too)
become one small graph with few other operators, which reads the model's own weights: no copy can be out of
date. `EagerPredictor` runs models that are not made of the library's layers.

B = batch size, V = vocabulary size, L = layers, h = hidden units, G = gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import mxnet as mx
import numpy
from mxnet import autograd, sym

from d2lrnn.contract.cells import Cell, find_cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.engine import COMPUTING
from d2lrnn_mxnet.parameters import Place
from d2lrnn_mxnet.recurrence import Array, Gates, LayerState
from d2lrnn_mxnet.scratch import find_scratch
from d2lrnn_mxnet.semantics import use_np
from d2lrnn_mxnet.states import Layers, by_layer, zero_state


class GraphPredictor:
    """Single steps of a model with a specification; see `d2lrnn.generation.Predictor`.

    Args:
        spec: the model.
        places: its parameters; they are read at every step.
        context: MXNet's device.
    """

    def __init__(self, spec: ModelSpec, places: Mapping[str, Place], context: Any) -> None:
        self._spec, self._places, self._context = spec, places, context
        self._predictions: dict[int, Prediction] = {}

    def initial_state(self, batch_size: int) -> Any:
        """Zeros, as the model takes and returns states."""
        return zero_state(self._spec, batch_size, self._context)

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) and the next state, for tokens (B,)."""
        size = len(tokens)
        with COMPUTING:
            if size not in self._predictions:
                self._predictions[size] = Prediction(self._spec, self._places, size, self._context)
            return self._predictions[size](tokens, state)


@use_np
class EagerPredictor:
    """Single steps of any function from tokens (B, 1) and a state to logits and a state, dropout off.

    Args:
        run: the function.
        initial_state: from B to the state before the first token.
        context: MXNet's device.
    """

    def __init__(
        self,
        run: Callable[[Array, Any], tuple[Array, Any]],
        initial_state: Callable[[int], Any],
        context: Any,
    ) -> None:
        self._run, self.initial_state, self._context = run, initial_state, context

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) and the next state, for tokens (B,)."""
        with COMPUTING, autograd.pause():
            logits, state = self._run(on_device(tokens[:, None], "int32", self._context), state)
            return logits.asnumpy().reshape(len(tokens), -1), state


# benchmarks/tricks: mxnet, single step as a graph
class Prediction:
    """The model's graph for one time step and one batch size.

    Args:
        spec: the model.
        places: its parameters; they are read at every step.
        batch_size: B.
        context: MXNet's device.
    """

    def __init__(self, spec: ModelSpec, places: Mapping[str, Place], batch_size: int, context: Any) -> None:
        graph, self._given = step_graph(spec, places)
        inputs = graph.list_inputs()
        self._spec, self._context = spec, context
        self._inputs = [(name, places[name].parameter if name in places else None) for name in inputs]
        # Given which inputs are parameters, MXNet plans all memory and prepares all operators once. A call
        # through Gluon would take as long as the graph itself.
        self._graph = mx.nd.CachedOp(
            graph,
            [
                ("static_alloc", True),
                ("static_shape", True),
                ("data_indices", [i for i, name in enumerate(inputs) if name not in places]),
                ("param_indices", [i for i, name in enumerate(inputs) if name in places]),
            ],
        )
        # An array of MXNet on NumPy's memory, as a new one at every step takes half as long as the graph. It
        # is written through a view: MXNet makes the array that it is given read-only.
        memory = numpy.zeros(batch_size, numpy.int32)
        self._memory = memory[:]
        self._tokens = mx.nd.from_numpy(memory, array_cls=mx.np.ndarray)

    def __call__(self, tokens: IntArray, state: Any) -> tuple[numpy.ndarray[Any, Any], Any]:
        """Logits (B, V) as NumPy and the next state, for tokens (B,)."""
        # The step before reads it no longer: Python has waited for its logits.
        # benchmarks/tricks: mxnet, tokens written into the array of the step before
        self._memory[:] = tokens
        with autograd.pause():
            values = [self._tokens.as_in_ctx(self._context), *by_layer(self._spec, state)]
            given = dict(zip(self._given, values, strict=True))
            arguments = [
                given[name] if parameter is None else parameter.data(self._context)
                for name, parameter in self._inputs
            ]
            logits, *final = self._graph(*arguments)
        return logits.asnumpy(), Layers(final)


def step_graph(spec: ModelSpec, places: Mapping[str, Place]) -> tuple[Any, list[str]]:
    """The graph of one step.

    Args:
        spec: the model.
        places: its parameters.

    Returns:
        A symbol with the outputs logits (B, V) and the parts of the next state in the order of
        `d2lrnn_mxnet.states.by_layer`; and the names of its inputs other than parameters: tokens (B,) and the
        state's parts. Parameters have their canonical names and the layout in `places`.
    """
    cell, step = find_cell(spec.cell), find_scratch(spec.cell).step
    tokens = _variable("tokens")
    states = [[_variable(f"state.{l}.{part}") for part in cell.states] for l in range(spec.num_layers)]

    def product(x: Array, name: str) -> Array:
        """The product of (B, in) with the weight (in, out) of this name."""
        weight, transposed = sym.Variable(name), places[name].is_transposed
        return sym.dot(x.as_nd_ndarray(), weight, transpose_b=transposed).as_np_ndarray()

    def rows(name: str) -> Array:
        """The rows (B, n) of the tokens in a weight (V, n): the product with their one-hot vectors."""
        transposed = places[name].is_transposed
        picked = sym.take(sym.Variable(name), tokens.as_nd_ndarray(), axis=int(transposed)).as_np_ndarray()
        return picked.T if transposed else picked

    below: Any = None if spec.embedding_size is None else rows("embedding.w")
    finals: list[LayerState] = []
    for l in range(spec.num_layers):
        w_x, w_h, b = f"rnn.{l}.w_x", f"rnn.{l}.w_h", f"rnn.{l}.b"
        vectors = {}
        for name in cell.shapes(1, 1, reset_after=spec.reset_after):
            if f"rnn.{l}.{name}" not in (w_x, w_h, b):
                vectors[name] = _vector(f"rnn.{l}.{name}", places)
        X = (rows(w_x) if below is None else product(below, w_x)) + _variable(b)
        gates = _WholeGates(cell, X, partial(product, name=w_h), vectors)
        finals.append(step(gates, tuple(states[l])))
        below = finals[-1][0]
    if spec.tied:
        logits = sym.dot(below.as_nd_ndarray(), sym.Variable("embedding.w"), transpose_b=True).as_np_ndarray()
    else:
        logits = product(below, "head.w")
    logits = logits + _variable("head.b")
    outputs = [logits, *(part for layer in finals for part in layer)]
    given = ["tokens", *(part.name for layer in states for part in layer)]
    return sym.Group(outputs, create_fn=type(logits)), given


class _WholeGates(Gates):
    """All gates side by side: X (B, G·h), and products with all of w_h.

    If a formula needs some of the gates, all are computed: slicing their weights out would take longer.
    """

    def __init__(
        self, cell: Cell, X: Array, product: Callable[[Array], Array], vectors: Mapping[str, Array]
    ) -> None:
        super().__init__(cell, vectors)
        self._X, self._product = X, product

    def __call__(self, H: Array, *gates: str) -> list[Array]:
        return self._pick(self._X + self._product(H), gates)

    def inputs(self, *gates: str) -> list[Array]:
        return self._pick(self._X, gates)

    def products(self, H: Array, *gates: str) -> list[Array]:
        return self._pick(self._product(H), gates)

    def _pick(self, whole: Array, gates: Sequence[str]) -> list[Array]:
        count = len(self._cell.gates)
        pieces = [whole] if count == 1 else sym.np.split(whole, count, axis=1)
        return [pieces[k] for k in self._numbers(gates)]


def _vector(name: str, places: Mapping[str, Place]) -> Array:
    """A parameter (h,)."""
    vector = _variable(name)
    return sym.np.split(vector, 3, axis=0)[2] if places[name].is_last_third else vector


def _variable(name: str) -> Array:
    return sym.Variable(name).as_np_ndarray()
