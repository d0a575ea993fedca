"""The recurrences of the scratch models: a formula repeated step by step, and the fused operator beside it.

`unroll` is the plain version: it projects all inputs at once and then applies a cell's formula to one time
step after the other. `fused` computes the same function (a test holds one to the other) with one call of
``npx.rnn``, in about half the time forwards and backwards. For a single step `unroll` is the faster one,
since the operator wants all weights copied into one vector (`d2lrnn_mxnet.prediction` is faster still); and a
GRU that resets before the product has no operator.

Both are written for `F`, which is ``mx.nd`` while code runs directly and ``mx.sym`` while a graph is traced.
T = time steps, B = batch size, h = hidden units, G = gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mxnet import symbol
from mxnet.ndarray import NDArray

#: An ``mx.np.ndarray``, or the symbol that stands for one.
Array = Any

#: The state of one layer: ``(H,)``, for an LSTM ``(H, C)``, each (B, h).
LayerState = tuple[Array, ...]

#: A matrix product, ``dot(H, W)``, or ``dot(H, W, b)`` to add b.
Dot = Callable[..., Array]

#: One time step: F, dot, the projected inputs of the G gates (each (B, h)), the state and the recurrent
#: weights of the G gates (for `dot`) to the next state. Its first part is the output. Inputs and states are
#: legacy arrays, ``mx.nd.NDArray`` or their symbols.
Step = Callable[[Any, Dot, Sequence[Array], LayerState, Sequence[Array]], LayerState]

_shape_while_tracing: ContextVar[tuple[int, int] | None] = ContextVar("_shape_while_tracing", default=None)

#: Rows up to which OpenBLAS's product, ``dot``, is faster than oneDNN's, ``FullyConnected``: from 1.1 times
#: for 32 x 512 x 512 to 1.8 times for 32 x 2048 x 512, while for 1120 x 512 x 2048 it takes twice the time.
FEW_ROWS = 64


@contextmanager
def tracing(num_steps: int, batch_size: int) -> Iterator[None]:
    """Graphs traced inside this scope are for inputs (T, B, …): a symbol does not know its shape."""
    token = _shape_while_tracing.set((num_steps, batch_size))
    try:
        yield
    finally:
        _shape_while_tracing.reset(token)


def steps_and_batch(F: Any, inputs: Array) -> tuple[int, int] | None:
    """T and B; None in a graph that is traced outside `tracing`."""
    return _shape_while_tracing.get() if F is symbol else inputs.shape[:2]


def unroll(
    F: Any,
    step: Step,
    inputs: Array,
    state: LayerState,
    W_xh: Array,
    W_hh: Array,
    b_h: Array,
    *,
    num_steps: int,
    batch_size: int,
    num_gates: int,
    num_hiddens: int,
) -> tuple[Array, LayerState]:
    """Applies a cell's formula to every time step.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        step: the formula.
        inputs: (T, B, in).
        state: the state before the first step.
        W_xh: (in, G·h).
        W_hh: (h, G·h).
        b_h: (G·h,).
        num_steps: T.
        batch_size: B.
        num_gates: G.
        num_hiddens: h.

    Returns:
        The outputs (T, B, h) and the final state.
    """
    # To turn the weights for OpenBLAS pays over several steps.
    by_openblas = num_steps > 1 and batch_size <= FEW_ROWS

    def dot(H: Array, W: Array, b: Array | None = None) -> Array:
        if by_openblas:
            product = F.dot(H, W)
            if b is None:
                return product
            return F.broadcast_add(product, F.expand_dims(b.as_nd_ndarray(), axis=0))
        product = linear(F, H.as_np_ndarray(), W.as_np_ndarray(), b, num_outputs=num_hiddens)
        return product.as_nd_ndarray()

    # Weights are cut into gates before the products and not what comes of them: it is far larger.
    weights_x, weights_h, biases = (cut(F, part, num_gates) for part in (W_xh.T, W_hh.T, b_h))
    # OpenBLAS takes weights as (in, out): told to turn them at every step it was slower (64 x 1024: by 30%).
    weights_h = [(W.T if by_openblas else W).as_nd_ndarray() for W in weights_h]
    projected = [
        cut(F, linear(F, inputs, weight, bias, num_outputs=num_hiddens), num_steps, squeeze=True)
        for weight, bias in zip(weights_x, biases, strict=True)
    ]
    outputs = []
    # Legacy arrays in the loop: their sums and products need no broadcasting, whose gradient is slow.
    state = tuple(part.as_nd_ndarray() for part in state)
    for gates in zip(*projected, strict=True):
        state = step(F, dot, [X.as_nd_ndarray() for X in gates], state, weights_h)
        outputs.append(state[0].as_np_ndarray())
    return F.np.stack(outputs), tuple(part.as_np_ndarray() for part in state)


def fused(
    F: Any,
    mode: str,
    inputs: Array,
    state: LayerState,
    W_xh: Array,
    W_hh: Array,
    b_h: Array,
    b_hn: Array | None = None,
    *,
    num_hiddens: int,
) -> tuple[Array, LayerState]:
    """The same as `unroll` in one operator.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        mode: ``"rnn_tanh"``, ``"lstm"`` or ``"gru"`` (which resets after the product).
        inputs: (T, B, in).
        state: the state before the first step.
        W_xh: (in, G·h).
        W_hh: (h, G·h).
        b_h: (G·h,).
        b_hn: (h,), the bias inside a GRU's reset.
        num_hiddens: h.

    Returns:
        The outputs (T, B, h) and the final state.
    """
    # The operator has a second bias a gate. It stays zero, save where the reset gate multiplies it.
    second_bias = F.np.zeros_like(b_h)
    if b_hn is not None:
        second_bias = F.np.concatenate([F.np.zeros_like(b_hn), F.np.zeros_like(b_hn), b_hn], axis=0)
    packed = [W_xh.T.reshape(-1), W_hh.T.reshape(-1), b_h, second_bias]
    outputs, *final = F.npx.rnn(
        inputs,
        F.np.concatenate(packed, axis=0),
        *(F.np.expand_dims(part, axis=0) for part in state),
        state_size=num_hiddens,
        num_layers=1,
        mode=mode,
        state_outputs=True,
    )
    return outputs, tuple(F.np.squeeze(part, axis=0) for part in final)


def linear(F: Any, x: Array, weight: Array, bias: Array | None = None, *, num_outputs: int) -> Array:
    """``x @ weight.T + bias`` in one operator: the gradient of a broadcast sum costs more than the product.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        x: (…, in).
        weight: (out, in).
        bias: (out,).
        num_outputs: out.
    """
    operands = [x, weight] if bias is None else [x, weight, bias]
    return F.npx.fully_connected(*operands, num_hidden=num_outputs, no_bias=bias is None, flatten=False)


def value_of(parameter: Any, like: Array) -> Array:
    """A Gluon parameter as an array on the device of `like`, or as a symbol where `like` is one."""
    return parameter.data(like.ctx) if isinstance(like, NDArray) else parameter.var()


def cut(F: Any, x: Array, pieces: int, *, squeeze: bool = False) -> list[Array]:
    """`x` in equal pieces along its first axis; `squeeze` drops that axis, when every piece has length 1.

    By the legacy operator: ``np.split`` takes 30 ms for what this does in 1 (batch 1024, 32 steps), and the
    gradient of indexing writes the whole array for every index.
    """
    if pieces == 1:
        return [F.np.squeeze(x, axis=0) if squeeze else x]
    cut_up = F.SliceChannel(x.as_nd_ndarray(), num_outputs=pieces, axis=0, squeeze_axis=squeeze)
    return [piece.as_np_ndarray() for piece in cut_up]
