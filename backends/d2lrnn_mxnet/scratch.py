"""The models from scratch: each cell's formula in plain sight.

T = time steps, B = batch size, h = hidden units, G = gates, σ the logistic function, ∘ the element-wise
product. The gates of a layer lie side by side in ``W_xh`` (in, G·h), ``W_hh`` (h, G·h) and ``b_h`` (G·h,); X
W_xh + b_h is computed for all time steps at once. The formulas below are what is added at every step. Where
MXNet has a fused operator for a formula, that is used in its place for sequences of more than one step
(`d2lrnn_mxnet.recurrence`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mxnet import init, np
from mxnet.gluon import nn
from mxnet.symbol import Symbol

from d2lrnn.errors import SpecError
from d2lrnn_mxnet.module import Module
from d2lrnn_mxnet.recurrence import Array, Dot, LayerState, Step, fused, steps_and_batch, unroll
from d2lrnn_mxnet.semantics import use_np


def rnn_step(F: Any, dot: Dot, X: Sequence[Array], state: LayerState, W: Sequence[Array]) -> LayerState:
    """H' = tanh(X W_xh + b_h + H W_hh) (Elman 1990)."""
    (H,) = state
    return (_tanh(F, X[0] + dot(H, W[0])),)


def gru_step(F: Any, dot: Dot, X: Sequence[Array], state: LayerState, W: Sequence[Array]) -> LayerState:
    """The gated recurrent unit as the book has it: reset before the product (Cho et al. 2014).

    - R = σ(X_r + H W_r);  Z = σ(X_z + H W_z)
    - N = tanh(X_n + (R ∘ H) W_n)
    - H' = Z ∘ H + (1 - Z) ∘ N
    """
    (H,) = state
    R = _sigmoid(F, X[0] + dot(H, W[0]))
    Z = _sigmoid(F, X[1] + dot(H, W[1]))
    N = _tanh(F, X[2] + dot(R * H, W[2]))
    return (N + Z * (H - N),)


def gru_reset_after_step(b_hn: Array) -> Step:
    """The gated recurrent unit as cuDNN has it: N = tanh(X_n + R ∘ (H W_n + b_hn)); else as `gru_step`."""

    def step(F: Any, dot: Dot, X: Sequence[Array], state: LayerState, W: Sequence[Array]) -> LayerState:
        (H,) = state
        R = _sigmoid(F, X[0] + dot(H, W[0]))
        Z = _sigmoid(F, X[1] + dot(H, W[1]))
        N = _tanh(F, X[2] + R * dot(H, W[2], b_hn))
        return (N + Z * (H - N),)

    return step


def lstm_step(F: Any, dot: Dot, X: Sequence[Array], state: LayerState, W: Sequence[Array]) -> LayerState:
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000).

    - I = σ(X_i + H W_i);  F = σ(X_f + H W_f);  G = tanh(X_g + H W_g);  O = σ(X_o + H W_o)
    - C' = F ∘ C + I ∘ G
    - H' = O ∘ tanh(C')
    """
    H, C = state
    input_gate = _sigmoid(F, X[0] + dot(H, W[0]))
    forget_gate = _sigmoid(F, X[1] + dot(H, W[1]))
    candidate = _tanh(F, X[2] + dot(H, W[2]))
    output_gate = _sigmoid(F, X[3] + dot(H, W[3]))
    C = forget_gate * C + input_gate * candidate
    return output_gate * _tanh(F, C), C


@use_np
class RNNScratch(Module, nn.HybridBlock):
    """A tanh RNN of one layer; the formula is `rnn_step`.

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

    num_gates = 1
    num_states = 1
    mode = "rnn_tanh"

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        width = self.num_gates * num_hiddens
        with self.name_scope():
            self.W_xh = self.params.get("W_xh", shape=(num_inputs, width), init=init.Normal(sigma))
            self.W_hh = self.params.get("W_hh", shape=(num_hiddens, width), init=init.Normal(sigma))
            self.b_h = self.params.get("b_h", shape=(width,), init=init.Zero())
        self.initialize()

    def forward(self, inputs: Array, state: Any = None) -> tuple[Array, Any]:
        """Runs the layer over all time steps.

        Args:
            inputs: (T, B, num_inputs), or T arrays (B, num_inputs), also ``reversed(…)`` of such.
            state: (B, h), for an LSTM ``(H, C)``, each (B, h); None is zeros. It is not changed.

        Returns:
            The outputs (T, B, h) and the final state.
        """
        if not isinstance(inputs, (np.ndarray, Symbol)):
            inputs = np.stack(list(inputs))
        if state is None:
            shape = inputs.shape[1], self.num_hiddens
            parts = [np.zeros(shape, dtype=inputs.dtype, ctx=inputs.ctx) for _ in range(self.num_states)]
        else:
            parts = [state] if self.num_states == 1 else state
        outputs, final = nn.HybridBlock.forward(self, inputs, *parts)
        return outputs, final[0] if self.num_states == 1 else tuple(final)

    def hybrid_forward(
        self, F: Any, inputs: Array, *state: Array, b_hn: Array | None = None, **weights: Array
    ) -> tuple[Array, list[Array]]:
        """The same for Gluon, which hands over `F` (``mx.nd`` or ``mx.sym``) and the parameters."""
        shape = steps_and_batch(F, inputs)
        if shape is None and not self._has_operator():
            raise SpecError(
                "a GRU that resets before the product cannot be part of a hybridised block: a "
                "symbol does not tell the number of steps. Take reset_after=True, or leave "
                "the block as it is"
            )
        if shape is not None and (shape[0] == 1 or not self._has_operator()):
            num_steps, batch_size = shape
            outputs, final = unroll(
                F,
                self._formula(b_hn),
                inputs,
                state,
                **weights,
                num_steps=num_steps,
                batch_size=batch_size,
                num_gates=self.num_gates,
                num_hiddens=self.num_hiddens,
            )
        else:
            outputs, final = fused(
                F, self.mode, inputs, state, **weights, b_hn=b_hn, num_hiddens=self.num_hiddens
            )
        return outputs, list(final)

    def _formula(self, b_hn: Array | None) -> Step:
        return rnn_step

    def _has_operator(self) -> bool:
        return True


@use_np
class GRUScratch(RNNScratch):
    """A gated recurrent unit of one layer.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
        reset_after: where the reset gate is applied: before the product as in the book (`gru_step`), or after
            it as in cuDNN and Gluon (`gru_reset_after_step`), which has one more bias, ``b_hn`` (h,).

    Attributes:
        W_xh: (num_inputs, 3h), gates r, z, n.
        W_hh: (h, 3h).
        b_h: (3h,).
    """

    num_gates = 3
    mode = "gru"

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, *, reset_after: bool = False
    ) -> None:
        super().__init__(num_inputs, num_hiddens, sigma)
        self.reset_after = reset_after
        if reset_after:
            with self.name_scope():
                self.b_hn = self.params.get("b_hn", shape=(num_hiddens,), init=init.Zero())
            self.b_hn.initialize()

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """As Gluon's; the form that resets before the product stays as it is.

        Its loop needs the number of steps, which a symbol does not tell. The learner of
        `d2lrnn_mxnet.adapter` compiles it all the same, one graph for every number of steps.
        """
        super().hybridize(active and self.reset_after, **kwargs)

    def _formula(self, b_hn: Array | None) -> Step:
        return gru_step if b_hn is None else gru_reset_after_step(b_hn)

    def _has_operator(self) -> bool:
        return self.reset_after


@use_np
class LSTMScratch(RNNScratch):
    """Long short-term memory of one layer; the formula is `lstm_step`. Its state is ``(H, C)``.

    The arguments are those of `RNNScratch`.

    Attributes:
        W_xh: (num_inputs, 4h), gates i, f, g, o.
        W_hh: (h, 4h).
        b_h: (4h,).
    """

    num_gates = 4
    num_states = 2
    mode = "lstm"

    def _formula(self, b_hn: Array | None) -> Step:
        return lstm_step


@use_np
class StackedRNNScratch(Module, nn.HybridBlock):
    """`num_layers` scratch layers, each fed with the outputs of the one below it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: what makes a layer of ``(num_inputs, num_hiddens, sigma)``: `RNNScratch`, `GRUScratch`,
            `LSTMScratch` or a function.

    Attributes:
        rnns: the layers. They are registered with Gluon, so that a ``gluon.Trainer`` trains all of them.

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
        layer: Callable[[int, int, float], RNNScratch] = RNNScratch,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["layer"])
        with self.name_scope():
            self.rnns = nn.HybridSequential()
            for l in range(num_layers):
                self.rnns.add(layer(num_inputs if l == 0 else num_hiddens, num_hiddens, sigma))

    def forward(self, inputs: Array, states: Sequence[Any] | None = None) -> tuple[Array, list[Any]]:
        """Runs all layers over all time steps.

        Args:
            inputs: (T, B, num_inputs).
            states: the state of every layer; None is zeros. It is not changed.

        Returns:
            The outputs of the last layer (T, B, h), and the final state of every layer.
        """
        outputs, final = inputs, []
        for rnn, state in zip(self.rnns, states or [None] * len(self.rnns), strict=True):
            outputs, state = rnn(outputs, state)
            final.append(state)
        return outputs, final


# Activation is the operator that oneDNN accelerates: np.tanh takes eight times as long.
def _tanh(F: Any, x: Array) -> Array:
    return F.Activation(x, act_type="tanh")


def _sigmoid(F: Any, x: Array) -> Array:
    return F.Activation(x, act_type="sigmoid")
