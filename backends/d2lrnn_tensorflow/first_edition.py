"""The book's first edition on TensorFlow. What all tabs share is in `d2lrnn.book.first_edition`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.book import first_edition as book
from d2lrnn.book.first_edition import Accumulator
from d2lrnn.contract.values import IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import continue_prefix
from d2lrnn_tensorflow.compiled import Compiled
from d2lrnn_tensorflow.devices import try_gpu
from d2lrnn_tensorflow.gradients import clipped
from d2lrnn_tensorflow.prediction import SingleStep
from d2lrnn_tensorflow.recurrence import Tensor

__all__ = [
    "Accumulator", "RNNModel", "RNNModelScratch", "SeqDataLoader", "grad_clipping", "load_data_time_machine",
    "predict_ch8", "seq_data_iter_random", "seq_data_iter_sequential", "sgd", "train_ch8", "train_epoch_ch8",
]  # fmt: skip

#: Takes a step: a Keras optimiser, or a function of the batch size, which divides the gradients, and of them.
Updater: TypeAlias = Any

# The chapter's largest norm of a gradient.
_THETA = 1.0


class SeqDataLoader(book.SeqDataLoader):
    """The novel in batches (X, Y); see `d2lrnn.book.first_edition.SeqDataLoader`."""

    @staticmethod
    def tensor(indices: IntArray) -> Tensor:
        """NumPy's indices as a tensor of int32."""
        return tf.constant(indices, tf.int32)


seq_data_iter_random, seq_data_iter_sequential = SeqDataLoader.random, SeqDataLoader.sequential
load_data_time_machine = SeqDataLoader.load


class RNNModelScratch:
    """A recurrent model of functions, as the first edition builds it.

    Args:
        vocab_size: V.
        num_hiddens: h.
        init_state: from (B, h) to a tuple of states.
        forward_fn: from one-hot vectors (T, B, V), state and parameters to logits (T·B, V) and state.
        get_params: from (V, h) to a list of `tf.Variable`.
    """

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        init_state: Callable[[int, int], tuple[Tensor, ...]],
        forward_fn: Callable[[Tensor, Any, list[Any]], tuple[Tensor, Any]],
        get_params: Callable[[int, int], list[Any]],
    ) -> None:
        self.vocab_size, self.num_hiddens = vocab_size, num_hiddens
        self.init_state, self.forward_fn = init_state, forward_fn
        self.trainable_variables = get_params(vocab_size, num_hiddens)

    def __call__(self, X: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        vectors = tf.one_hot(tf.transpose(X), self.vocab_size, dtype=self.trainable_variables[0].dtype)
        return self.forward_fn(vectors, state, self.trainable_variables)

    def begin_state(self, batch_size: int, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """The state before the first token; other arguments, such as a chapter's dtype, are ignored."""
        return self.init_state(batch_size, self.num_hiddens)


class RNNModel(keras.layers.Layer):
    """A recurrent layer of Keras with an output layer.

    Args:
        rnn_layer: a `keras.layers.RNN`, or one of its kin, that returns sequences and states.
        vocab_size: V.
        **kwargs: those of `keras.layers.Layer`.

    Example:
        >>> rnn_layer = keras.layers.SimpleRNN(32, return_sequences=True, return_state=True)
        >>> net = RNNModel(rnn_layer, vocab_size=28)
        >>> net(tf.zeros((2, 5), tf.int32), net.begin_state(batch_size=2))[0].shape
        TensorShape([10, 28])
    """

    def __init__(self, rnn_layer: keras.layers.RNN, vocab_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rnn, self.vocab_size = rnn_layer, vocab_size
        self.dense = keras.layers.Dense(vocab_size)
        rnn_layer.build((None, None, vocab_size))
        self.dense.build((None, _output_size(rnn_layer)))
        self.built = True

    def call(self, inputs: Tensor, state: Any) -> tuple[Tensor, list[Any]]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        # Keras 3's layers take (B, T, V) only; a chapter's own layer may need (T, B, V).
        time_major = getattr(self.rnn, "time_major", False)
        tokens = tf.transpose(inputs) if time_major else inputs
        outputs, *state = self.rnn(tf.one_hot(tokens, self.vocab_size, dtype=self.compute_dtype), state)
        if not time_major:
            outputs = tf.transpose(outputs, (1, 0, 2))
        return self.dense(tf.reshape(outputs, (-1, outputs.shape[-1]))), state

    def begin_state(self, batch_size: int, *args: Any, **kwargs: Any) -> list[Any]:
        """Zeros, as the layer takes them."""
        return self.rnn.get_initial_state(batch_size)


def _output_size(rnn_layer: keras.layers.RNN) -> int:
    shape = rnn_layer.compute_output_shape((None, None, 1))
    return shape[0][-1]


def predict_ch8(prefix: str | Sequence[str], num_preds: int, net: Any, vocab: Vocab) -> Any:
    """Continues `prefix` by the likeliest tokens.

    Args:
        prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
            `vocab` is of was. Of a list of texts each is continued, and a list comes back.
        num_preds: how many tokens to add.
        net: called with tokens (1, 1) and a state; it has ``begin_state``.
        vocab: what it was trained with.

    Raises:
        PromptError: the prefix is empty.
    """
    return continue_prefix(_Predictor(net), vocab, prefix, num_preds)


def grad_clipping(grads: Sequence[Any], theta: float) -> list[Tensor]:
    """The gradients scaled down to a common norm of at most `theta`."""
    return clipped(grads, theta)


def sgd(params: Iterable[Any], grads: Iterable[Tensor], lr: float, batch_size: int) -> None:
    """A step of stochastic gradient descent on gradients that are sums over a batch.

    Example:
        >>> w = tf.Variable([1.0])
        >>> sgd([w], [tf.constant([3.0])], lr=0.5, batch_size=2)
        >>> w.numpy()
        array([0.25], dtype=float32)
    """
    for param, grad in zip(params, grads, strict=True):
        param.assign_sub(lr * grad / batch_size)


def train_epoch_ch8(
    net: Any,
    train_iter: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    updater: Updater,
    use_random_iter: bool,
) -> tuple[float, float]:
    """One epoch: the perplexity of its tokens, and tokens per second.

    Args:
        net: called with tokens (B, T) and a state, gives logits (T·B, V) and a state.
        train_iter: pairs (X, Y), each (B, T).
        loss: from targets (T·B,) and logits to the losses, or their mean.
        updater: takes a step.
        use_random_iter: whether every batch begins with a fresh state; else the state is carried over.
    """
    record = _Training(net, loss, updater).train_epoch(train_iter, use_random_iter)
    return record.train_perplexity, record.tokens_per_second


def train_ch8(
    net: Any,
    train_iter: Iterable[tuple[Tensor, Tensor]],
    vocab: Vocab,
    lr: float,
    num_epochs: int,
    strategy: tf.distribute.Strategy,
    use_random_iter: bool = False,
) -> None:
    """Trains with SGD on clipped gradients, plots the perplexity, and prints it, the speed and two samples.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite.
    """
    with strategy.scope():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        updater = keras.optimizers.SGD(float(lr))
    training = _Training(net, loss, updater)
    predict = partial(continue_prefix, training, vocab, num_tokens=50)
    training.train(num_epochs, train_iter, use_random_iter, predict, try_gpu()._device_name)


class _Predictor:
    """A network in the form that `d2lrnn.generation.generate` takes."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self.predict_step = SingleStep(net)

    def initial_state(self, batch_size: int) -> Any:
        return self._net.begin_state(batch_size=batch_size, dtype=tf.float32)


class _Training(_Predictor, book.Training):
    """A network and its updater; see `d2lrnn.book.first_edition.Training` for the methods."""

    def __init__(self, net: Any, loss: Callable[[Tensor, Tensor], Tensor], updater: Updater) -> None:
        super().__init__(net)
        self._loss, self._updater = loss, updater
        if isinstance(net, keras.layers.Layer):
            # A cell's own layer makes its weights at its first use.
            net(tf.zeros((1, 1), tf.int32), self.initial_state(1))
        self._differentiate = Compiled(self._loss_and_gradients)

    def train_step(self, X: Tensor, Y: Tensor, state: Any) -> tuple[Tensor, Any]:
        loss, gradients, state = self._differentiate(X, Y, state)
        if hasattr(self._updater, "apply_gradients"):
            self._updater.apply_gradients(zip(gradients, self._net.trainable_variables, strict=True))
        else:
            self._updater(1, gradients)  # the loss is a mean already
        return loss, state

    def _loss_and_gradients(self, X: Tensor, Y: Tensor, state: Any) -> tuple[Tensor, list[Tensor], Any]:
        with tf.GradientTape() as tape:
            logits, state = self._net(X, state)
            loss = tf.reduce_mean(self._loss(tf.reshape(tf.transpose(Y), (-1,)), logits))
        gradients = tape.gradient(loss, self._net.trainable_variables)
        return loss, clipped(gradients, _THETA), state

    def copy_parameters(self) -> list[np.ndarray[Any, Any]]:
        return [variable.numpy() for variable in self._net.trainable_variables]

    def put_back_parameters(self, parameters: list[np.ndarray[Any, Any]]) -> None:
        for variable, value in zip(self._net.trainable_variables, parameters, strict=True):
            variable.assign(value)
