"""The book's first edition on JAX, for which it has no tab: its names, in JAX's own style.

A network holds no parameters. Functions take them as a pytree, and return new ones if they change them.
What all tabs share is in `d2lrnn.book.first_edition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
from flax import linen as nn
from jax import numpy as jnp
from optax import softmax_cross_entropy_with_integer_labels

from d2lrnn.book import first_edition as book
from d2lrnn.book.first_edition import Accumulator
from d2lrnn.contract.values import IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import continue_prefix
from d2lrnn_jax.gradients import clip
from d2lrnn_jax.prediction import Predictor, compiled_step

__all__ = [
    "Accumulator", "RNNModel", "RNNModelScratch", "SeqDataLoader", "grad_clipping", "load_data_time_machine",
    "predict_ch8", "seq_data_iter_random", "seq_data_iter_sequential", "sgd", "train_ch8", "train_epoch_ch8",
]  # fmt: skip

#: Takes a step: from parameters, gradients and the batch size, which divides these, to new parameters.
Updater: TypeAlias = Callable[[Any, Any, int], Any]

# The chapter's largest norm of a gradient.
_THETA = 1.0


class SeqDataLoader(book.SeqDataLoader):
    """The novel in batches (X, Y); see `d2lrnn.book.first_edition.SeqDataLoader`."""

    @staticmethod
    def tensor(indices: IntArray) -> jax.Array:
        """NumPy's indices as JAX's array."""
        return jnp.array(indices)


seq_data_iter_random, seq_data_iter_sequential = SeqDataLoader.random, SeqDataLoader.sequential
load_data_time_machine = SeqDataLoader.load


class RNNModelScratch:
    """A recurrent model of functions; ``init`` and ``apply`` are called as flax's.

    Args:
        vocab_size: V.
        num_hiddens: h.
        get_params: from (V, h, a random key) to the parameters, any pytree.
        init_state: from (B, h) to a tuple of states.
        forward_fn: from one-hot vectors (T, B, V), state and parameters to logits (T·B, V) and state.
    """

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        get_params: Callable[[int, int, jax.Array], Any],
        init_state: Callable[[int, int], tuple[jax.Array, ...]],
        forward_fn: Callable[[jax.Array, Any, Any], tuple[jax.Array, Any]],
    ) -> None:
        self.vocab_size, self.num_hiddens = vocab_size, num_hiddens
        self.get_params, self.init_state, self.forward_fn = get_params, init_state, forward_fn

    def init(self, key: jax.Array, X: jax.Array | None = None, state: Any = None) -> Any:
        """New parameters; inputs and state, which flax needs, are ignored."""
        return self.get_params(self.vocab_size, self.num_hiddens, key)

    def apply(self, params: Any, X: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        return self.forward_fn(jax.nn.one_hot(X.T, self.vocab_size), state, params)

    def begin_state(self, batch_size: int) -> tuple[jax.Array, ...]:
        """The state before the first token."""
        return self.init_state(batch_size, self.num_hiddens)


class RNNModel(nn.Module):
    """A recurrent layer of flax with an output layer.

    Attributes:
        rnn_layer: an `flax.linen.RNN` of any cell.
        vocab_size: V.

    Example:
        >>> net = RNNModel(nn.RNN(nn.GRUCell(features=32)), vocab_size=28)
        >>> X, state = jnp.zeros((2, 5), int), net.begin_state(batch_size=2)
        >>> logits, state = net.apply(net.init(jax.random.key(0), X, state), X, state)
        >>> logits.shape
        (10, 28)
    """

    rnn_layer: nn.RNN
    vocab_size: int

    @nn.compact
    def __call__(self, inputs: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        vectors = jax.nn.one_hot(inputs.T, self.vocab_size)
        state, outputs = self.rnn_layer(vectors, initial_carry=state, time_major=True, return_carry=True)
        return nn.Dense(self.vocab_size)(outputs.reshape(-1, outputs.shape[-1])), state

    @nn.nowrap
    def begin_state(self, batch_size: int) -> Any:
        """The carry before the first token: zeros (B, h); for an LSTM two of them."""
        return self.rnn_layer.cell.initialize_carry(jax.random.key(0), (batch_size, self.vocab_size))


def predict_ch8(prefix: str | Sequence[str], num_preds: int, net: Any, vocab: Vocab, params: Any) -> Any:
    """Continues `prefix` by the likeliest tokens.

    Args:
        prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
            `vocab` is of was. Of a list of texts each is continued, and a list comes back.
        num_preds: how many tokens to add.
        net: has ``apply``, from parameters, tokens (1, 1) and a state to logits and a state, and
            ``begin_state``.
        vocab: what it was trained with.
        params: its parameters.

    Raises:
        PromptError: the prefix is empty.
    """
    return continue_prefix(_Predictor(net, params), vocab, prefix, num_preds)


def grad_clipping(grads: Any, theta: float) -> Any:
    """The gradients scaled down to a common norm of at most `theta`."""
    return clip(grads, theta)


def sgd(params: Any, grads: Any, lr: float, batch_size: int) -> Any:
    """The parameters after a step of stochastic gradient descent on gradients that are sums over a batch.

    Example:
        >>> sgd([1.0, 2.0], [3.0, -4.0], lr=0.5, batch_size=2)
        [0.25, 3.0]
    """
    return jax.tree.map(lambda param, grad: param - lr * grad / batch_size, params, grads)


def train_epoch_ch8(
    net: Any,
    train_iter: Iterable[tuple[jax.Array, jax.Array]],
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    updater: Updater,
    use_random_iter: bool,
    params: Any,
) -> tuple[float, float, Any]:
    """One epoch: the perplexity of its tokens, tokens per second, and the parameters after it.

    Args:
        net: see `predict_ch8`; for tokens (B, T) it gives logits (T·B, V).
        train_iter: pairs (X, Y), each (B, T).
        loss: from logits and targets (T·B,) to the losses, or their mean.
        updater: takes a step; it is compiled as a part of the training step.
        use_random_iter: whether every batch begins with a fresh state; else the state is carried over.
        params: the parameters to begin with.
    """
    training = _Training(net, params, loss, updater)
    record = training.train_epoch(train_iter, use_random_iter)
    return record.train_perplexity, record.tokens_per_second, training.params


def train_ch8(
    net: Any,
    train_iter: Iterable[tuple[jax.Array, jax.Array]],
    vocab: Vocab,
    lr: float,
    num_epochs: int,
    params: Any,
    use_random_iter: bool = False,
) -> Any:
    """Trains with SGD on clipped gradients, plots the perplexity, and prints it, the speed and two samples.

    Returns:
        The parameters after the training.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite.
    """
    updater = partial(_sgd, lr)
    training = _Training(net, params, softmax_cross_entropy_with_integer_labels, updater)

    def predict(prefix: str) -> Any:
        return predict_ch8(prefix, 50, net, vocab, training.params)

    device = next(iter(jax.tree.leaves(params)[0].devices()))
    training.train(num_epochs, train_iter, use_random_iter, predict, device)
    return training.params


def _sgd(lr: float, params: Any, grads: Any, batch_size: int) -> Any:
    return sgd(params, grads, lr, batch_size)


class _Predictor(Predictor):
    """A network and its parameters in the form that `d2lrnn.generation.generate` takes."""

    def __init__(self, net: Any, params: Any) -> None:
        self._net = net
        super().__init__(compiled_step(net.apply), params)

    def initial_state(self, batch_size: int) -> Any:
        return self._net.begin_state(batch_size=batch_size)


class _Training(_Predictor, book.Training):
    """A network and its updater; see `d2lrnn.book.first_edition.Training` for the methods."""

    def __init__(
        self, net: Any, params: Any, loss: Callable[[jax.Array, jax.Array], jax.Array], updater: Updater
    ) -> None:
        super().__init__(net, params)

        @jax.jit
        def update(params: Any, X: jax.Array, Y: jax.Array, state: Any) -> tuple[Any, jax.Array, Any]:
            def mean_loss(params: Any) -> tuple[jax.Array, Any]:
                logits, after = net.apply(params, X, state)
                return loss(logits, Y.T.reshape(-1)).mean(), after

            (mean, after), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
            return updater(params, grad_clipping(grads, _THETA), 1), mean, after  # the loss is a mean already

        self._update = update

    def train_step(self, X: jax.Array, Y: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        # By default a GPU multiplies float32 in fewer bits (TF32).
        with jax.default_matmul_precision("highest"):
            self.params, loss, state = self._update(self.params, X, Y, state)
        return loss, state

    def copy_parameters(self) -> Any:
        return self.params  # JAX's arrays are immutable

    def put_back_parameters(self, parameters: Any) -> None:
        self.params = parameters
