"""The language-model head: recurrent layers between tokens and logits."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from d2lrnn_tensorflow.recurrence import Tensor


class RNNLMScratch(keras.Model):
    """A language model with an output layer of its own: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, a scratch or a concise model of this package.
        vocab_size: V, the size of the inputs of `rnn` and of the outputs.
        lr: the learning rate, for a trainer that asks the model for it.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(tf.zeros((2, 5), tf.int32)).shape
        TensorShape([2, 5, 28])
    """

    def __init__(self, rnn: keras.layers.Layer, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__(dtype=rnn.dtype_policy)
        self.rnn, self.vocab_size, self.lr = rnn, vocab_size, lr
        if not rnn.built:
            rnn.build((None, None, vocab_size))
        self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's weights."""
        shape = (self.rnn.num_hiddens, self.vocab_size)
        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.W_hq = self.add_weight(shape=shape, initializer=normal, name="W_hq")
        self.b_q = self.add_weight(shape=shape[1:], initializer="zeros", name="b_q")

    def output_layer(self, hiddens: Tensor) -> Tensor:
        """Hidden states (T, B, h) to logits (B, T, V), over all steps at once."""
        return tf.transpose(tf.tensordot(hiddens, self.W_hq, axes=1) + self.b_q, (1, 0, 2))

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
            training: whether dropout is on.
        """
        options = {} if masks is None else {"masks": masks}
        outputs, state = self.rnn(tf.transpose(tokens), state, training=training, **options)
        return self.output_layer(outputs), state

    def call(self, tokens: Tensor, state: Any = None, training: bool | None = None) -> Tensor:
        """Logits (B, T, V) alone, as in the book."""
        return self.unroll(tokens, state, training=training)[0]


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with a `keras.layers.Dense` as its output layer."""

    def init_params(self) -> None:
        """Makes the dense layer."""
        self.linear = keras.layers.Dense(self.vocab_size, dtype=self.dtype_policy)
        self.linear.build((None, None, self.rnn.num_hiddens))

    def output_layer(self, hiddens: Tensor) -> Tensor:
        """Hidden states (T, B, h) to logits (B, T, V), over all steps at once."""
        return tf.transpose(self.linear(hiddens), (1, 0, 2))
