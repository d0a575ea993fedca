"""The language-model head: recurrent layers between tokens and logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import KindError
from d2lrnn.generation import continue_prefix
from d2lrnn_tensorflow.devices import on_device
from d2lrnn_tensorflow.dropout import drop
from d2lrnn_tensorflow.module import Classifier
from d2lrnn_tensorflow.prediction import SingleStep
from d2lrnn_tensorflow.recurrence import Tensor, look_up
from d2lrnn_tensorflow.tokens import can_take_tokens


class RNNLMScratch(Classifier):
    """A language model with an output layer of its own: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with vectors (T, B, V), or of an embedding (T, B, E), and a state;
            it has `num_hiddens`.
        vocab_size: V, the number of tokens.
        lr: the learning rate of `configure_optimizers`.
        embedding_size: E, the size of the embedding vectors; None takes one-hot vectors.
        tied: whether the head's weight is the embedding's, transposed (Press and Wolf 2017); E is then h.
        input_dropout: the rate at the embedding, while training.
        output_dropout: the rate between the layers and the head, while training.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(tf.zeros((2, 5), tf.int32)).shape
        TensorShape([2, 5, 28])
    """

    def __init__(
        self,
        rnn: keras.layers.Layer,
        vocab_size: int,
        lr: float = 0.01,
        *,
        embedding_size: int | None = None,
        tied: bool = False,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__(dtype=rnn.dtype_policy)
        self.save_hyperparameters()
        self.input_dropout = keras.layers.Dropout(input_dropout, dtype=self.dtype_policy)
        self.output_dropout = keras.layers.Dropout(output_dropout, dtype=self.dtype_policy)
        if not rnn.built:
            rnn.build((None, None, embedding_size or vocab_size))
        if embedding_size is not None:
            self.init_embedding()
        self.init_params()

    def init_embedding(self) -> None:
        """Makes the embedding: of variance 1, or where the head is tied to it uniform in ±1/sqrt(h)."""
        shape = (self.vocab_size, self.embedding_size)
        self.W_e = self.add_weight(shape=shape, initializer=self._uniform(), name="W_e")

    def _uniform(self) -> keras.initializers.Initializer:
        limit = self.rnn.num_hiddens**-0.5 if self.tied else 3**0.5
        return keras.initializers.RandomUniform(-limit, limit)

    def init_params(self) -> None:
        """Makes the output layer's weights: N(0, σ²) with the layers' σ, and zeros."""
        shape = (self.rnn.num_hiddens, self.vocab_size)
        if not self.tied:
            normal = keras.initializers.RandomNormal(stddev=getattr(self.rnn, "sigma", 0.01))
            self.W_hq = self.add_weight(shape=shape, initializer=normal, name="W_hq")
        self.b_q = self.add_weight(shape=shape[1:], initializer="zeros", name="b_q")

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        W_hq = tf.transpose(self.embedding_matrix()) if self.tied else self.W_hq
        return tf.transpose(tf.tensordot(_stacked(hiddens), W_hq, axes=1) + self.b_q, (1, 0, 2))

    def one_hot(self, tokens: Tensor) -> Tensor:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return tf.one_hot(tf.transpose(tokens), self.vocab_size, dtype=self.compute_dtype)

    def embedding_matrix(self) -> Tensor:
        """The embedding (V, E), a row for each token."""
        return tf.convert_to_tensor(self.W_e)

    def unroll(
        self,
        tokens: Tensor,
        state: Any = None,
        masks: DropoutMasks | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the state after the last step.

        Args:
            tokens: indices in [0, V).
            state: what it returned before; None is zeros.
            masks: dropout masks; where there is none, Keras draws its own while training.
            training: whether dropout is on; None takes it from the Keras call around this one.
        """
        masks = masks or DropoutMasks()
        # Keras fills in `training` from the outer call only if it is left out, not if it is None.
        options = {"masks": masks.between, "training": training}
        options = {name: value for name, value in options.items() if value is not None}
        inputs = drop(self.input_dropout, self._inputs(tokens), masks.inputs, training)
        outputs, state = self.rnn(inputs, state, **options)
        if masks.outputs is not None or self.output_dropout.rate:
            outputs = drop(self.output_dropout, _stacked(outputs), masks.outputs, training)
        return self.output_layer(outputs), state

    def _inputs(self, tokens: Tensor) -> Tensor:
        """The layers' inputs for tokens (B, T)."""
        if self.embedding_size is not None:
            return look_up(self.embedding_matrix(), tf.transpose(tokens))
        # The library's layers look tokens up; a subclass with its own `one_hot` gets its vectors.
        as_they_are = can_take_tokens(self.rnn) and type(self).one_hot is _ONE_HOT
        return tf.transpose(tokens) if as_they_are else self.one_hot(tokens)

    def forward(self, tokens: Tensor, state: Any = None) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        """The loss of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", tf.exp(loss), train=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """As `training_step`, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", tf.exp(loss), train=False)
        return loss

    def predict(
        self,
        prefix: str | Sequence[str],
        num_preds: int,
        vocab: Vocab,
        device: AbstractContextManager[Any] | str | None = None,
    ) -> Any:
        """Continues `prefix` by the likeliest tokens, without dropout. It is not Keras' ``predict``.

        Args:
            prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
                `vocab` is of was. Of a list of texts each is continued, and a list comes back.
            num_preds: how many tokens to add.
            vocab: what the model was trained with.
            device: where to compute, what `d2lrnn_tensorflow.devices.try_gpu` returns or TensorFlow's name of
                a device; None leaves it to TensorFlow.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        with on_device(device):
            return continue_prefix(_Predictor(self), vocab, prefix, num_preds)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a pickle are built anew from what the model computes.

        Raises:
            KindError: it is a chapter's own, which no specification describes.
        """
        from d2lrnn_tensorflow.adapter import TensorFlowBackend, rebuilt_model  # which imports this module

        if getattr(self, "spec", None) is None:
            raise KindError(
                f"this {type(self).__name__} was not built by a backend's build(…), and cannot be copied or "
                "pickled: keep its parameters with get_weights(), and give them to a new model of the same "
                "class with set_weights(weights)"
            )
        return rebuilt_model, TensorFlowBackend().export_model(self), {"lr": self.lr}


_ONE_HOT = RNNLMScratch.one_hot


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with a `keras.layers.Dense` as its output layer, and a `keras.layers.Embedding`.

    A tied head has no dense layer: its weight is the embedding's, and it has only a bias of its own, ``b_q``.

    Example:
        >>> RNNLM(GRU(32, num_layers=2), vocab_size=28)(tf.zeros((2, 5), tf.int32)).shape
        TensorShape([2, 5, 28])
    """

    def init_embedding(self) -> None:
        """Makes the embedding layer."""
        self.embedding = keras.layers.Embedding(
            self.vocab_size,
            self.embedding_size,
            embeddings_initializer=self._uniform(),
            dtype=self.dtype_policy,
        )
        self.embedding.build()

    def embedding_matrix(self) -> Tensor:
        """The embedding (V, E), a row for each token."""
        return tf.convert_to_tensor(self.embedding.embeddings)

    def init_params(self) -> None:
        """Makes the dense layer."""
        if self.tied:
            super().init_params()
            return
        self.linear = keras.layers.Dense(self.vocab_size, dtype=self.dtype_policy)
        self.linear.build((None, None, self.rnn.num_hiddens))

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        if self.tied:
            return super().output_layer(hiddens)
        return tf.transpose(self.linear(_stacked(hiddens)), (1, 0, 2))


class _Predictor:
    """A language model in the form that `d2lrnn.generation.generate` takes."""

    def __init__(self, model: RNNLMScratch) -> None:
        self._model = model
        self.predict_step = SingleStep(self._logits)

    def initial_state(self, batch_size: int) -> Any:
        return None

    def _logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self._model.unroll(tokens, state, training=False)
        return logits[:, 0], state


def _stacked(hiddens: Tensor | Sequence[Tensor]) -> Tensor:
    """The states of all steps as one tensor; a chapter's layers return a list of them."""
    return tf.stack(hiddens) if isinstance(hiddens, (list, tuple)) else hiddens
