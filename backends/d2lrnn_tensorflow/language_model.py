"""The language-model head: recurrent layers between tokens and logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import generate
from d2lrnn_tensorflow.module import Classifier
from d2lrnn_tensorflow.recurrence import Tensor
from d2lrnn_tensorflow.tokens import can_take_tokens


class RNNLMScratch(Classifier):
    """A language model with an output layer of its own: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with (T, B, `vocab_size`) and a state; it has `num_hiddens`.
        vocab_size: V, the size of the inputs of `rnn` and of the outputs.
        lr: the learning rate that a trainer may read.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(tf.zeros((2, 5), tf.int32)).shape
        TensorShape([2, 5, 28])
    """

    def __init__(self, rnn: keras.layers.Layer, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__(dtype=rnn.dtype_policy)
        self.save_hyperparameters()
        if not rnn.built:
            rnn.build((None, None, vocab_size))
        self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's weights: N(0, σ²) with the layers' σ, and zeros."""
        shape = (self.rnn.num_hiddens, self.vocab_size)
        normal = keras.initializers.RandomNormal(stddev=getattr(self.rnn, "sigma", 0.01))
        self.W_hq = self.add_weight(shape=shape, initializer=normal, name="W_hq")
        self.b_q = self.add_weight(shape=shape[1:], initializer="zeros", name="b_q")

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        return tf.transpose(tf.tensordot(_stacked(hiddens), self.W_hq, axes=1) + self.b_q, (1, 0, 2))

    def one_hot(self, tokens: Tensor) -> Tensor:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return tf.one_hot(tf.transpose(tokens), self.vocab_size, dtype=self.compute_dtype)

    def unroll(
        self,
        tokens: Tensor,
        state: Any = None,
        masks: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the state after the last step.

        Args:
            tokens: indices in [0, V).
            state: what it returned before; None is zeros.
            masks: dropout masks for concise layers, see `d2lrnn_tensorflow.concise.RNN`.
            training: whether dropout is on; None is what Keras knows of the call around this one.
        """
        # To Keras an argument that is None is given, and hides what it knows.
        options = {"masks": masks, "training": training}
        options = {name: value for name, value in options.items() if value is not None}
        # Layers look tokens up by themselves, unless a subclass has vectors of its own for them.
        as_they_are = can_take_tokens(self.rnn) and type(self).one_hot is _ONE_HOT
        inputs = tf.transpose(tokens) if as_they_are else self.one_hot(tokens)
        outputs, state = self.rnn(inputs, state, **options)
        return self.output_layer(outputs), state

    def forward(self, tokens: Tensor, state: Any = None) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        """The loss of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", tf.exp(loss), train=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """Likewise, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", tf.exp(loss), train=False)
        return loss

    def predict(
        self, prefix: str, num_preds: int, vocab: Vocab, device: AbstractContextManager[Any] | None = None
    ) -> str:
        """Continues `prefix` by the likeliest characters, without dropout. It is not Keras' ``predict``.

        Args:
            prefix: the beginning; it is turned to lower case, as the novel is.
            num_preds: how many characters to add.
            vocab: what the model was trained with.
            device: where to compute, what `d2lrnn_tensorflow.devices.try_gpu` returns; None leaves it to
                TensorFlow.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        with device or nullcontext():
            return generate(_Predictor(self), vocab, prefix, num_preds)


_ONE_HOT = RNNLMScratch.one_hot


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with a `keras.layers.Dense` as its output layer."""

    def init_params(self) -> None:
        """Makes the dense layer."""
        self.linear = keras.layers.Dense(self.vocab_size, dtype=self.dtype_policy)
        self.linear.build((None, None, self.rnn.num_hiddens))

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        return tf.transpose(self.linear(_stacked(hiddens)), (1, 0, 2))


class _Predictor:
    """A language model as what `d2lrnn.generation.generate` asks."""

    def __init__(self, model: RNNLMScratch) -> None:
        self._model = model

    def initial_state(self, batch_size: int) -> Any:
        return None

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        logits, state = self._model.unroll(tf.constant(tokens[:, None]), state, training=False)
        return logits[:, 0].numpy(), state


def _stacked(hiddens: Tensor | Sequence[Tensor]) -> Tensor:
    """The states of all steps as one tensor; a chapter's layers return a list of them."""
    return tf.stack(hiddens) if isinstance(hiddens, (list, tuple)) else hiddens
