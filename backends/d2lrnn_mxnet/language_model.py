"""The language models: one-hot tokens, recurrent layers, and one output layer over all steps at once."""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet import init
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from d2lrnn_mxnet.recurrence import Array, linear


@mx.util.use_np
class OutputLayer(nn.HybridBlock):
    """hiddens W_hq + b_q.

    Args:
        num_hiddens: h.
        vocab_size: V.
        sigma: standard deviation of the initial weights.

    Attributes:
        W_hq: (h, V).
        b_q: (V,).
    """

    def __init__(self, num_hiddens: int, vocab_size: int, sigma: float) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        with self.name_scope():
            self.W_hq = self.params.get("W_hq", shape=(num_hiddens, vocab_size), init=init.Normal(sigma))
            self.b_q = self.params.get("b_q", shape=(vocab_size,), init=init.Zero())
        self.initialize()

    def hybrid_forward(self, F: Any, hiddens: Array, W_hq: Array, b_q: Array) -> Array:
        """(…, h) to (…, V)."""
        return linear(F, hiddens, W_hq.T, b_q, num_outputs=self.vocab_size)


@mx.util.use_np
class RNNLMScratch(nn.HybridBlock):
    """A language model over recurrent layers that take one-hot vectors.

    Args:
        rnn: any model of this tab; its inputs have `vocab_size` entries.
        vocab_size: V.
        lr: kept for the book's trainer.

    Attributes:
        output_layer: hidden states to logits.

    Example:
        >>> RNNLMScratch(RNNScratch(28, 32), vocab_size=28)(np.zeros((2, 5), dtype="int32")).shape
        (2, 5, 28)
    """

    def __init__(self, rnn: Any, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.vocab_size, self.lr = vocab_size, lr
        self._dtype = "float32"
        with self.name_scope():
            self.rnn = rnn
            self.output_layer = self._output_layer()

    def _output_layer(self) -> Any:
        return OutputLayer(self.rnn.num_hiddens, self.vocab_size, sigma=0.01)

    def cast(self, dtype: Any) -> None:
        """As Gluon's."""
        super().cast(dtype)
        self._dtype = dtype

    def forward(self, tokens: Array, state: Any = None) -> Array:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(self, tokens: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """Logits and the final state.

        Args:
            tokens: (B, T), indices in [0, V).
            state: what `rnn` returned before; None is zeros. It is not changed.
            masks: for a concise `rnn`: see `d2lrnn_mxnet.concise.RNN.forward`.

        Returns:
            Logits (B, T, V) and the state.
        """
        logits, state = self.unroll_by_step(tokens.T, state, masks)
        return logits.swapaxes(0, 1), state

    def unroll_by_step(self, tokens: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """As `unroll`, time steps first: tokens (T, B) to logits (T, B, V). No large array is turned."""
        F = mx.nd if isinstance(tokens, NDArray) else mx.sym
        inputs = F.npx.one_hot(tokens, self.vocab_size, dtype=self._dtype)
        hiddens, state = self.rnn(inputs, state) if masks is None else self.rnn(inputs, state, masks)
        return self.output_layer(hiddens), state


@mx.util.use_np
class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with Gluon's ``nn.Dense`` as output layer."""

    def _output_layer(self) -> Any:
        dense = nn.Dense(self.vocab_size, flatten=False, in_units=self.rnn.num_hiddens)
        dense.initialize()
        return dense
