"""One time step of a whole model as one small graph: what text is written with.

In a step of batch 1 the numbers are the least work. Time goes where the graph is called and where operators
start: a microsecond or two for each, and near ten for those that wake OpenMP's threads however little there
is to do. To run the model itself, as `d2lrnn_mxnet.program` does for more steps, also transposes, cuts and
packs all weights anew. Here the formulas of `d2lrnn_mxnet.scratch`, the concise models' too, are written with
few operators and on the weights as they lie in the model, so that no copy of them can be out of date.

B = batch size, V = vocabulary size, L = layers, h = hidden units, G = gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import mxnet as mx
import numpy
from mxnet import autograd, sym

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import IntArray
from d2lrnn_mxnet.parameters import Slot
from d2lrnn_mxnet.recurrence import Array, LayerState
from d2lrnn_mxnet.states import Layers, by_layer

#: The product of a state (B, h) with the recurrent weights of all gates, side by side (B, G·h).
_Product = Callable[[Array], Array]

#: A layer's next state, from what its inputs add to all gates (B, G·h), the state before, the product, and
#: ``b_hn`` (1, h) if there is one.
_Step = Callable[[Array, LayerState, _Product, Array | None], LayerState]


class Prediction:
    """The model's function for one time step and one size of batch.

    Args:
        spec: the model.
        slots: where its parameters are; they are read at every step.
        batch_size: B.
        context: MXNet's device.
    """

    def __init__(self, spec: ModelSpec, slots: Mapping[str, Slot], batch_size: int, context: Any) -> None:
        graph, self._given = step_graph(spec, batch_size)
        inputs = graph.list_inputs()
        self._spec, self._context = spec, context
        self._inputs = [(name, slots[name].parameter if name in slots else None) for name in inputs]
        # With the inputs told apart MXNet plans all memory, and prepares all operators, once. Called without
        # Gluon, whose own way to a graph takes as long as the graph.
        self._graph = mx.nd.CachedOp(
            graph,
            [
                ("static_alloc", True),
                ("static_shape", True),
                ("data_indices", [i for i, name in enumerate(inputs) if name not in slots]),
                ("param_indices", [i for i, name in enumerate(inputs) if name in slots]),
            ],
        )
        # MXNet's array lies in NumPy's memory: to make a new one takes longer than half of the graph. A view,
        # since MXNet forbids to write to the array that it is given.
        memory = numpy.zeros(batch_size, numpy.int32)
        self._memory = memory[:]
        self._tokens = mx.nd.from_numpy(memory, array_cls=mx.np.ndarray)

    def __call__(self, tokens: IntArray, state: Any) -> tuple[numpy.ndarray[Any, Any], Any]:
        """Logits (B, V) as NumPy and the next state, for tokens (B,)."""
        # No step before is still reading: its logits have been waited for.
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


def step_graph(spec: ModelSpec, batch_size: int) -> tuple[Any, list[str]]:
    """The graph of one step.

    Args:
        spec: the model.
        batch_size: B.

    Returns:
        A symbol with the outputs logits (B, V) and the parts of the next state in the order of
        `d2lrnn_mxnet.states.by_layer`; and the names of its inputs beside the parameters: of tokens (B,) and
        of the state's parts. Parameters have their canonical names; their layout is that of the model's
        implementation (`d2lrnn_mxnet.parameters`).
    """
    concise, kinds = spec.implementation == "concise", 2 if spec.cell == "lstm" else 1
    tokens, step = _variable("tokens"), _STEPS[spec.cell, spec.reset_after]
    states = [[_variable(f"state.{l}.{kind}") for kind in range(kinds)] for l in range(spec.num_layers)]

    def product(x: Array, name: str) -> Array:
        """Of (B, in) with (in, out), which a concise model keeps as (out, in)."""
        weight = sym.Variable(name)
        return sym.dot(x.as_nd_ndarray(), weight, transpose_b=concise).as_np_ndarray()

    below, finals = tokens, []
    for l in range(spec.num_layers):
        w_h, b_hn = f"rnn.{l}.w_h", None
        if l == 0:
            # Looked up, which is what the product with a one-hot vector is.
            X = sym.take(sym.Variable("rnn.0.w_x"), tokens.as_nd_ndarray(), axis=1 if concise else 0)
            X = X.as_np_ndarray()
            if concise:
                X = _as_row(X) if batch_size == 1 else X.T
        else:
            X = product(below, f"rnn.{l}.w_x")
        if spec.reset_after:
            b_hn = _variable(f"rnn.{l}.b_hn")
            if concise:
                _, _, b_hn = _cut(b_hn, 3, axis=0)
            b_hn = _as_row(b_hn)
        X = X + _as_row(_variable(f"rnn.{l}.b"))
        finals.append(step(X, tuple(states[l]), partial(product, name=w_h), b_hn))
        below = finals[-1][0]
    logits = product(below, "head.w") + _as_row(_variable("head.b"))
    outputs = [logits, *(part for layer in finals for part in layer)]
    given = ["tokens", *(part.name for layer in states for part in layer)]
    return sym.Group(outputs, create_fn=type(logits)), given


def _rnn_step(X: Array, state: LayerState, product: _Product, b_hn: Array | None) -> LayerState:
    (H,) = state
    return (sym.np.tanh(X + product(H)),)


def _gru_step(X: Array, state: LayerState, product: _Product, b_hn: Array | None) -> LayerState:
    (H,) = state
    R, Z, _ = _cut(sym.npx.sigmoid(X + product(H)), 3)
    # All columns again, of which one third is used: to cut that third of the weights out takes longer.
    _, _, N = _cut(sym.np.tanh(X + product(R * H)), 3)
    return (N + Z * (H - N),)


def _gru_reset_after_step(X: Array, state: LayerState, product: _Product, b_hn: Array | None) -> LayerState:
    (H,) = state
    X_r, X_z, X_n = _cut(X, 3)
    HW_r, HW_z, HW_n = _cut(product(H), 3)
    R = sym.npx.sigmoid(X_r + HW_r)
    Z = sym.npx.sigmoid(X_z + HW_z)
    N = sym.np.tanh(X_n + R * (HW_n + b_hn))
    return (N + Z * (H - N),)


def _lstm_step(X: Array, state: LayerState, product: _Product, b_hn: Array | None) -> LayerState:
    H, C = state
    A_i, A_f, A_g, A_o = _cut(X + product(H), 4)
    input_gate, forget_gate, output_gate = (sym.npx.sigmoid(A) for A in (A_i, A_f, A_o))
    C = forget_gate * C + input_gate * sym.np.tanh(A_g)
    return output_gate * sym.np.tanh(C), C


_STEPS: dict[tuple[str, bool | None], _Step] = {
    ("rnn", None): _rnn_step,
    ("gru", False): _gru_step,
    ("gru", True): _gru_reset_after_step,
    ("lstm", None): _lstm_step,
}


def _variable(name: str) -> Array:
    return sym.Variable(name).as_np_ndarray()


def _cut(x: Array, pieces: int, *, axis: int = 1) -> list[Array]:
    """`x` in equal pieces, by the operator that wakes OpenMP's threads once and not for every piece."""
    return [piece.as_np_ndarray() for piece in sym.split_v2(x.as_nd_ndarray(), pieces, axis=axis)]


def _as_row(x: Array) -> Array:
    """(n,) as (1, n): to a batch of 1 that adds without broadcasting, which would wake OpenMP's threads."""
    return sym.np.reshape(x, (1, -1))
