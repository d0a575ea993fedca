"""A recurrence: a cell's formula, repeated for one time step after the other.

The functions take a namespace `F`, which is ``mx.nd`` while code runs eagerly and ``mx.sym`` while a graph is
traced. T = time steps, B = batch size, h = hidden units, G = gates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mxnet import symbol
from mxnet.ndarray import NDArray

from d2lrnn.contract.cells import Cell

#: An ``mx.np.ndarray``, or the symbol that stands for one.
Array = Any

#: The state of one layer: ``(H,)``, for an LSTM ``(H, C)``, each (B, h).
LayerState = tuple[Array, ...]

_shape_while_tracing: ContextVar[tuple[int, int] | None] = ContextVar("_shape_while_tracing", default=None)

#: The largest state, B · h, for which OpenBLAS's products, ``dot``, are faster than oneDNN's,
#: ``FullyConnected``.
SMALL = 4096


class Gates(ABC):
    """The arguments of one time step of a layer: its projected input, X = x w_x + b, and its weights.

    All arrays are (B, h), one for each gate that is named, in that order; no name means all gates, in the
    order of `d2lrnn.contract.cells.Cell.gates`.
    """

    def __init__(self, cell: Cell, vectors: Mapping[str, Array]) -> None:
        self._cell, self._vectors = cell, vectors

    def __call__(self, H: Array, *gates: str) -> list[Array]:
        """X + H w_h."""
        sums = zip(self.inputs(*gates), self.products(H, *gates), strict=True)
        return [X + product for X, product in sums]

    @abstractmethod
    def inputs(self, *gates: str) -> list[Array]:
        """X."""

    @abstractmethod
    def products(self, H: Array, *gates: str) -> list[Array]:
        """H w_h, for H (B, h)."""

    def vector(self, name: str) -> Array | None:
        """A further parameter of the cell, to be added to or multiplied with (B, h); None if it has none."""
        return self._vectors.get(name)

    def _numbers(self, gates: Sequence[str]) -> list[int]:
        return [self._cell.gates.index(gate) for gate in gates or self._cell.gates]


#: One time step, the formula of a cell: from the gates and the state to the next state. Its first part is the
#: output. The arrays are legacy ones, ``mx.nd.NDArray`` or ``mx.sym.Symbol``; in the graph of one step they
#: are NumPy symbols. All have the shape (B, h).
Step = Callable[[Gates, LayerState], LayerState]


class _CutGates(Gates):
    """X and the weights split by gate beforehand: X (B, h) and a weight (h, h) for each."""

    def __init__(
        self,
        cell: Cell,
        X: Sequence[Array],
        weights: Sequence[Array],
        vectors: Mapping[str, Array],
        dot: Callable[[Array, Array], Array],
    ) -> None:
        super().__init__(cell, vectors)
        self._X, self._weights, self._dot = X, weights, dot

    def inputs(self, *gates: str) -> list[Array]:
        return [self._X[k] for k in self._numbers(gates)]

    def products(self, H: Array, *gates: str) -> list[Array]:
        return [self._dot(H, self._weights[k]) for k in self._numbers(gates)]


@contextmanager
def tracing(num_steps: int, batch_size: int) -> Iterator[None]:
    """A context in which graphs are traced for inputs (T, B, …): a symbol has no known shape."""
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
    cell: Cell,
    step: Step,
    inputs: Array,
    state: LayerState,
    W_xh: Array,
    W_hh: Array,
    b_h: Array,
    vectors: Mapping[str, Array],
    *,
    num_steps: int,
    batch_size: int,
    num_hiddens: int,
) -> tuple[Array, LayerState]:
    """Projects all inputs at once, and then applies a cell's formula step by step.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        cell: the cell.
        step: its formula.
        inputs: (T, B, in).
        state: the state before the first step.
        W_xh: (in, G·h).
        W_hh: (h, G·h).
        b_h: (G·h,).
        vectors: the cell's further parameters, each (h,), by name.
        num_steps: T.
        batch_size: B.
        num_hiddens: h.

    Returns:
        The outputs (T, B, h) and the final state.
    """
    # Transposing the weights for OpenBLAS pays only over several steps.
    # benchmarks/tricks: mxnet, products by OpenBLAS, and by oneDNN
    by_openblas = num_steps > 1 and batch_size * num_hiddens <= SMALL

    def dot(H: Array, W: Array) -> Array:
        if by_openblas:
            return F.dot(H, W)
        return linear(F, H.as_np_ndarray(), W.as_np_ndarray(), num_outputs=num_hiddens).as_nd_ndarray()

    # benchmarks/tricks: mxnet, weights cut by gates before the products
    # The weights are split by gate before the products, not the results, which are far larger.
    weights_x, weights_h, biases = (cut(F, part, len(cell.gates)) for part in (W_xh.T, W_hh.T, b_h))
    # OpenBLAS takes weights as (in, out): one copy here, as a transposed factor at every step is slower.
    weights_h = [(W.T if by_openblas else W).as_nd_ndarray() for W in weights_h]
    projected = [
        cut(F, linear(F, inputs, weight, bias, num_outputs=num_hiddens), num_steps, squeeze=True)
        for weight, bias in zip(weights_x, biases, strict=True)
    ]
    # Legacy arrays in the loop: their sums and products do not broadcast, whose gradient is slow.
    rows = {name: _repeated(F, vector, batch_size, num_hiddens) for name, vector in vectors.items()}
    state = tuple(part.as_nd_ndarray() for part in state)
    outputs = []
    for X in zip(*projected, strict=True):
        state = step(_CutGates(cell, [part.as_nd_ndarray() for part in X], weights_h, rows, dot), state)
        outputs.append(state[0].as_np_ndarray())
    return F.np.stack(outputs), tuple(part.as_np_ndarray() for part in state)


# benchmarks/tricks: mxnet, a product and a bias in one operator
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


# benchmarks/tricks: mxnet, time steps cut apart by the legacy operator
def cut(F: Any, x: Array, pieces: int, *, squeeze: bool = False) -> list[Array]:
    """`x` in equal pieces along its first axis; `squeeze` drops that axis, when every piece has length 1.

    By the legacy operator: ``np.split`` takes 20 times as long, and the gradient of indexing writes the whole
    array for every index.
    """
    if pieces == 1:
        return [F.np.squeeze(x, axis=0) if squeeze else x]
    cut_up = F.SliceChannel(x.as_nd_ndarray(), num_outputs=pieces, axis=0, squeeze_axis=squeeze)
    return [piece.as_np_ndarray() for piece in cut_up]


def _repeated(F: Any, vector: Array, batch_size: int, num_hiddens: int) -> Array:
    """A vector (h,) as B equal rows (B, h)."""
    row = F.expand_dims(vector.as_nd_ndarray(), axis=0)
    return F.broadcast_to(row, shape=(batch_size, num_hiddens))
