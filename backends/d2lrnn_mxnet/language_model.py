"""The language models: one-hot tokens, recurrent layers, and one output layer over all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
from mxnet import autograd, init, np
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import generate
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.module import Classifier, device_of, move
from d2lrnn_mxnet.recurrence import Array, linear, value_of
from d2lrnn_mxnet.semantics import use_np


@use_np
class RNNLMScratch(Classifier):
    """A language model on recurrent layers, with an output layer spelt out: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with (T, B, `vocab_size`) and a state; it has `num_hiddens`.
        vocab_size: V.
        lr: the learning rate that a trainer may read.

    Attributes:
        W_hq: (h, V).
        b_q: (V,).

    Example:
        >>> RNNLMScratch(RNNScratch(28, 32), vocab_size=28)(np.zeros((2, 5), dtype="int32")).shape
        (2, 5, 28)
    """

    def __init__(self, rnn: Any, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self._dtype = "float32"
        self.save_hyperparameters()
        with self.name_scope():
            self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's parameters: N(0, σ²) with the layers' σ, and zeros.

        The arrays of layers that a chapter made get gradients, and blocks without values get some.
        """
        sigma = getattr(self.rnn, "sigma", 0.01)
        shape = self.rnn.num_hiddens, self.vocab_size
        self.W_hq = self.params.get("W_hq", shape=shape, init=init.Normal(sigma))
        self.b_q = self.params.get("b_q", shape=shape[1:], init=init.Zero())
        self._begin()

    def _begin(self) -> None:
        for array in self.get_scratch_params():
            array.attach_grad()
        self.initialize()

    def cast(self, dtype: Any) -> None:
        """As Gluon's."""
        super().cast(dtype)
        self._dtype = dtype

    def forward(self, tokens: Array, state: Any = None) -> Array:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(self, tokens: Array, state: Any = None) -> tuple[Array, Any]:
        """Logits (B, T, V) for tokens (B, T), and the final state.

        Args:
            tokens: (B, T), indices in [0, V).
            state: what `rnn` returned before; None is zeros. It is not changed.
        """
        hiddens, state = self.rnn(self.one_hot(tokens), state)
        return self.output_layer(hiddens), state

    def unroll_by_step(self, tokens: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """As `unroll`, time steps first: tokens (T, B) to logits (T, B, V). No large array is turned.

        Args:
            tokens: (T, B), an array or the symbol of one.
            state: as for `unroll`.
            masks: for a concise `rnn`: see `d2lrnn_mxnet.concise.RNN.forward`.
        """
        inputs = self._vectors(tokens)
        hiddens, state = self.rnn(inputs, state) if masks is None else self.rnn(inputs, state, masks)
        return self._logits(hiddens), state

    def one_hot(self, tokens: Array) -> Array:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return self._vectors(tokens.T)

    def output_layer(self, hiddens: Array | Sequence[Array]) -> Array:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        # The states of all steps as one array; a chapter's layers return a list of them.
        H = np.stack(hiddens) if isinstance(hiddens, (list, tuple)) else hiddens
        return self._logits(H).swapaxes(0, 1)

    def _vectors(self, tokens: Array) -> Array:
        F = mx.nd if isinstance(tokens, NDArray) else mx.sym
        return F.npx.one_hot(tokens, self.vocab_size, dtype=self._dtype)

    def _logits(self, hiddens: Array) -> Array:
        """(…, h) to (…, V)."""
        F = mx.nd if isinstance(hiddens, NDArray) else mx.sym
        W_hq, b_q = value_of(self.W_hq, hiddens), value_of(self.b_q, hiddens)
        return linear(F, hiddens, W_hq.T, b_q, num_outputs=self.vocab_size)

    def training_step(self, batch: Sequence[Array]) -> Array:
        """The loss of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", np.exp(loss.detach()), train=True)
        return loss

    def validation_step(self, batch: Sequence[Array]) -> Array:
        """Likewise, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", np.exp(loss), train=False)
        return loss

    def predict(self, prefix: str, num_preds: int, vocab: Vocab, device: Any = None) -> str:
        """Continues `prefix` by the likeliest characters: no graph, dropout off.

        Args:
            prefix: the beginning; it is turned to lower case, as the novel is.
            num_preds: how many characters to add.
            vocab: what the model was trained with.
            device: where to compute; the model is moved there. None is where it is.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        if device is not None:
            move(self, device)
        return generate(_Predictor(self), vocab, prefix, num_preds)


@use_np
class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with Gluon's ``nn.Dense`` as output layer.

    Attributes:
        linear: hidden states to logits.
    """

    def init_params(self) -> None:
        """Makes the dense layer, with Gluon's initial values."""
        # Of layers that do not say their size, Gluon finds it out at the first call.
        num_hiddens = getattr(self.rnn, "num_hiddens", 0)
        self.linear = nn.Dense(self.vocab_size, flatten=False, in_units=num_hiddens)
        self._begin()

    def _logits(self, hiddens: Array) -> Array:
        return self.linear(hiddens)


@use_np
class _Predictor:
    """A language model as what `d2lrnn.generation.generate` asks."""

    def __init__(self, model: RNNLMScratch) -> None:
        self._model, self._device = model, device_of(model)

    def initial_state(self, batch_size: int) -> Any:
        return None

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        with autograd.pause():
            logits, state = self._model.unroll(on_device(tokens[:, None], "int32", self._device), state)
        return logits.asnumpy()[:, 0], state
