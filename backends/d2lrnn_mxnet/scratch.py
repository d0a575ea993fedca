"""The scratch models: the formulas spelt out.

A cell is a class with the formula of one step; its base class, `ScratchCell`, makes a layer of it. The
formula itself runs, in training and in prediction, on the CPU and on a GPU: no operator of MXNet's for whole
recurrences. The formulas with their sources are in `d2lrnn.contract.cells`.

T = time steps, B = batch size, h = hidden units, G = gates, σ the logistic function, ∘ the element-wise
product. The gates of a layer lie side by side in ``W_xh`` (in, G·h), ``W_hh`` (h, G·h) and ``b_h`` (G·h,);
X = x W_xh + b_h is computed for all time steps at once. The formulas below are what is added at every step,
where W_r stands for the columns of ``W_hh`` that belong to the gate r.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from mxnet import init, np
from mxnet.gluon import nn
from mxnet.symbol import Symbol

from d2lrnn.book.current_edition import sole_state
from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn.errors import SpecError
from d2lrnn_mxnet.activations import relu, sigmoid, tanh
from d2lrnn_mxnet.dropout import drop
from d2lrnn_mxnet.module import Module
from d2lrnn_mxnet.recurrence import Array, Gates, LayerState, steps_and_batch, unroll
from d2lrnn_mxnet.semantics import use_np


@use_np
class ScratchCell(Module, nn.HybridBlock):
    """A recurrent layer; a subclass gives its cell and the formula of one `step`.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; biases and further vectors start at zero.
        reset_after: for a cell with a reset gate; see `d2lrnn.contract.cells.Cell.reset_bias`.

    Attributes:
        W_xh: (num_inputs, G·h).
        W_hh: (h, G·h).
        b_h: (G·h,).

    Further parameters are attributes (h,) with their names in `d2lrnn.contract.cells`.
    """

    cell: ClassVar[Cell]

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, *, reset_after: bool | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        shapes = self.cell.shapes(num_inputs, num_hiddens, reset_after=reset_after)
        with self.name_scope():
            self.W_xh = self.params.get("W_xh", shape=shapes.pop("w_x"), init=init.Normal(sigma))
            self.W_hh = self.params.get("W_hh", shape=shapes.pop("w_h"), init=init.Normal(sigma))
            self.b_h = self.params.get("b_h", shape=shapes.pop("b"), init=init.Zero())
            for name, shape in shapes.items():
                setattr(self, name, self.params.get(name, shape=shape, init=init.Zero()))
        self.initialize()

    @staticmethod
    def step(gates: Gates, state: LayerState) -> LayerState:
        """One time step.

        Args:
            gates: ``gates(H, "r", "z")`` are X_r + H W_r and X_z + H W_z, ``gates(H)`` those of all gates;
                for the two parts, and for further vectors, see `Gates`.
            state: the state before, each part (B, h).

        Returns:
            The next state. Its first part is the output.
        """
        raise NotImplementedError

    def forward(self, inputs: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """Runs the layer over all time steps.

        Args:
            inputs: (T, B, num_inputs), or T arrays (B, num_inputs), also ``reversed(…)`` of such.
            state: (B, h), for an LSTM ``(H, C)``, each (B, h); None is zeros. It is not changed.
            masks: not used; a single layer has no dropout.

        Returns:
            The outputs (T, B, h) and the final state.
        """
        if not isinstance(inputs, (np.ndarray, Symbol)):
            inputs = np.stack(list(inputs))
        single = len(self.cell.states) == 1
        if state is None:
            shape = inputs.shape[1], self.num_hiddens
            parts = [np.zeros(shape, dtype=inputs.dtype, ctx=inputs.ctx) for _ in self.cell.states]
        else:
            parts = [sole_state(state)] if single else state
        outputs, final = nn.HybridBlock.forward(self, inputs, *parts)
        return outputs, final[0] if single else tuple(final)

    def hybrid_forward(
        self, F: Any, inputs: Array, *state: Array, W_xh: Array, W_hh: Array, b_h: Array, **vectors: Array
    ) -> tuple[Array, list[Array]]:
        """`forward` for Gluon, which passes `F` (``mx.nd`` or ``mx.sym``) and the parameters."""
        shape = steps_and_batch(F, inputs)
        if shape is None:
            raise SpecError(
                "a scratch layer cannot be part of a hybridised block: a symbol has no number of steps. "
                "Do not call hybridize() on the block, or use a concise layer"
            )
        outputs, final = unroll(
            F,
            self.cell,
            self.step,
            inputs,
            state,
            W_xh,
            W_hh,
            b_h,
            vectors,
            num_steps=shape[0],
            batch_size=shape[1],
            num_hiddens=self.num_hiddens,
        )
        return outputs, list(final)

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Does nothing: the layer's loop needs the number of steps, which a symbol does not have.

        The learner of `d2lrnn_mxnet.adapter` compiles it nevertheless, one graph for each number of steps.
        """


@use_np
class RNNScratch(ScratchCell):
    """A tanh RNN (Elman 1990).

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.

    Attributes:
        W_xh: (num_inputs, h).
        W_hh: (h, h).
        b_h: (h,).

    Example:
        >>> outputs, state = RNNScratch(28, 32)(np.ones((5, 2, 28)))
        >>> outputs.shape, state.shape
        ((5, 2, 32), (2, 32))
    """

    cell = cells.RNN

    @staticmethod
    def step(gates: Gates, state: LayerState) -> LayerState:
        """H' = tanh(X + H W_hh)."""
        (H,) = state
        (A,) = gates(H)
        return (tanh(A),)


@use_np
class ReluRNNScratch(ScratchCell):
    """A ReLU RNN (Le, Jaitly and Hinton 2015); arguments and attributes are those of `RNNScratch`."""

    cell = cells.RELU_RNN

    @staticmethod
    def step(gates: Gates, state: LayerState) -> LayerState:
        """H' = max(0, X + H W_hh)."""
        (H,) = state
        (A,) = gates(H)
        return (relu(A),)


@use_np
class GRUScratch(ScratchCell):
    """A gated recurrent unit (Cho et al. 2014).

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
        reset_after: where the reset gate is applied: before the product as in the book, or after it as in
            cuDNN and Gluon, which has one more bias, ``b_hn`` (h,).

    Attributes:
        W_xh: (num_inputs, 3h), gates r, z, n.
        W_hh: (h, 3h).
        b_h: (3h,).

    Example:
        >>> outputs, state = GRUScratch(28, 32, reset_after=True)(np.ones((5, 2, 28)))
        >>> outputs.shape, state.shape
        ((5, 2, 32), (2, 32))
    """

    cell = cells.GRU

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, *, reset_after: bool = False
    ) -> None:
        super().__init__(num_inputs, num_hiddens, sigma, reset_after=reset_after)

    @staticmethod
    def step(gates: Gates, state: LayerState) -> LayerState:
        """H' = Z ∘ H + (1 - Z) ∘ N.

        - R = σ(X_r + H W_r);  Z = σ(X_z + H W_z)
        - N = tanh(X_n + (R ∘ H) W_n), or with ``b_hn`` tanh(X_n + R ∘ (H W_n + b_hn))
        """
        (H,) = state
        b_hn = gates.vector("b_hn")
        if b_hn is None:
            r, z = gates(H, "r", "z")
            R, Z = sigmoid(r), sigmoid(z)
            (n,) = gates(R * H, "n")
        else:
            x_r, x_z, x_n = gates.inputs()
            h_r, h_z, h_n = gates.products(H)
            R, Z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            n = x_n + R * (h_n + b_hn)
        N = tanh(n)
        return (N + Z * (H - N),)


@use_np
class LSTMScratch(ScratchCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    The arguments are those of `RNNScratch`. Its state is ``(H, C)``.

    Attributes:
        W_xh: (num_inputs, 4h), gates i, f, g, o.
        W_hh: (h, 4h).
        b_h: (4h,).

    Example:
        >>> outputs, (H, C) = LSTMScratch(28, 32)(np.ones((5, 2, 28)))
        >>> outputs.shape, C.shape
        ((5, 2, 32), (2, 32))
    """

    cell = cells.LSTM

    @staticmethod
    def step(gates: Gates, state: LayerState) -> LayerState:
        """C' = F ∘ C + I ∘ G;  H' = O ∘ tanh(C').

        - I = σ(X_i + H W_i);  F = σ(X_f + H W_f);  G = tanh(X_g + H W_g);  O = σ(X_o + H W_o)
        """
        H, C = state
        i, f, g, o = gates(H)
        C = sigmoid(f) * C + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(C), C


@use_np
class MGUScratch(ScratchCell):
    """A minimal gated unit (Zhou et al. 2016); the arguments are those of `RNNScratch`.

    Attributes:
        W_xh: (num_inputs, 2h), gates f, n.
        W_hh: (h, 2h).
        b_h: (2h,).
    """

    cell = cells.MGU

    @staticmethod
    def step(gates: Gates, state: LayerState) -> LayerState:
        """F = σ(X_f + H W_f);  N = tanh(X_n + (F ∘ H) W_n);  H' = (1 - F) ∘ H + F ∘ N."""
        (H,) = state
        (f,) = gates(H, "f")
        F = sigmoid(f)
        (n,) = gates(F * H, "n")
        return (H + F * (tanh(n) - H),)


#: The library's own scratch layers, by the name of their cell.
SCRATCH: dict[str, type[ScratchCell]] = {
    kind.cell.name: kind for kind in (RNNScratch, ReluRNNScratch, GRUScratch, LSTMScratch, MGUScratch)
}


def find_scratch(cell: str) -> type[ScratchCell]:
    """The scratch layer of a cell, the library's own or another package's.

    Raises:
        SpecError: there is none for this backend.

    Example:
        >>> find_scratch("lstm").__name__
        'LSTMScratch'
    """
    if cell in SCRATCH:
        return SCRATCH[cell]
    theirs: type[ScratchCell] = cells.find_formula("mxnet", cell)
    return theirs


@use_np
class StackedRNNScratch(Module, nn.HybridBlock):
    """`num_layers` scratch layers, each fed with the outputs of the one below it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: makes a layer from ``(num_inputs, num_hiddens, sigma)``: a `ScratchCell` or a function.
        dropout: the rate between layers while training, never after the last.

    Attributes:
        rnns: the layers, registered with Gluon, so that a ``gluon.Trainer`` trains all of them.

    Example:
        >>> outputs, states = StackedRNNScratch(28, 32, num_layers=2, layer=LSTMScratch)(np.ones((5, 3, 28)))
        >>> outputs.shape, [[part.shape for part in state] for state in states]
        ((5, 3, 32), [[(3, 32), (3, 32)], [(3, 32), (3, 32)]])
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int,
        sigma: float = 0.01,
        *,
        layer: Callable[[int, int, float], ScratchCell] = RNNScratch,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["layer"])
        with self.name_scope():
            self.rnns = nn.HybridSequential()
            for l in range(num_layers):
                self.rnns.add(layer(num_inputs if l == 0 else num_hiddens, num_hiddens, sigma))

    def forward(
        self, inputs: Array, states: Sequence[Any] | None = None, masks: Sequence[Array] | None = None
    ) -> tuple[Array, list[Any]]:
        """Runs all layers over all time steps.

        Args:
            inputs: (T, B, num_inputs).
            states: the state of every layer; None is zeros. It is not changed.
            masks: see `d2lrnn_mxnet.concise.RNN.forward`.

        Returns:
            The outputs of the last layer (T, B, h), and the final state of every layer.
        """
        outputs, final = inputs, []
        for l, (rnn, state) in enumerate(zip(self.rnns, states or [None] * len(self.rnns), strict=True)):
            if l > 0:
                outputs = drop(outputs, self.dropout, masks, l - 1)
            outputs, state = rnn(outputs, state)
            final.append(state)
        return outputs, final
