"""The book's first edition on MXNet. What all tabs share is in `d2lrnn.book.first_edition`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import mxnet as mx
from mxnet import autograd, gluon, init, np, npx
from mxnet.gluon import nn

from d2lrnn.book import first_edition as book
from d2lrnn.book.first_edition import Accumulator
from d2lrnn.contract.values import IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import continue_prefix
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.devices import cpu
from d2lrnn_mxnet.gradients import clip, sgd
from d2lrnn_mxnet.layers import run_layers
from d2lrnn_mxnet.prediction import EagerPredictor
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np

__all__ = [
    "Accumulator", "RNNModel", "RNNModelScratch", "SeqDataLoader", "grad_clipping", "load_data_time_machine",
    "predict_ch8", "seq_data_iter_random", "seq_data_iter_sequential", "sgd", "train_ch8", "train_epoch_ch8",
]  # fmt: skip

#: Takes a step, given the batch size, which divides the gradients.
Updater = Callable[..., None]

# The chapter's largest norm of a gradient.
_THETA = 1.0


class SeqDataLoader(book.SeqDataLoader):
    """The novel in batches (X, Y); see `d2lrnn.book.first_edition.SeqDataLoader`."""

    @staticmethod
    def tensor(indices: IntArray) -> Array:
        """NumPy's indices as an MXNet array of int32."""
        return on_device(indices, "int32", cpu())


seq_data_iter_random, seq_data_iter_sequential = SeqDataLoader.random, SeqDataLoader.sequential
load_data_time_machine = SeqDataLoader.load


@use_np
class RNNModelScratch:
    """A recurrent model of functions, as the first edition builds it.

    Args:
        vocab_size: V.
        num_hiddens: h.
        device: where its parameters are made.
        get_params: from (V, h, device) to a list of parameters with gradients.
        init_state: from (B, h, device) to a tuple of states.
        forward_fn: from one-hot vectors (T, B, V), state and parameters to logits (T·B, V) and state.
    """

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: Any,
        get_params: Callable[[int, int, Any], list[Array]],
        init_state: Callable[[int, int, Any], tuple[Array, ...]],
        forward_fn: Callable[[Array, Any, list[Array]], tuple[Array, Any]],
    ) -> None:
        self.vocab_size, self.num_hiddens = vocab_size, num_hiddens
        self.params = get_params(vocab_size, num_hiddens, device)
        self.init_state, self.forward_fn = init_state, forward_fn

    def __call__(self, X: Array, state: Any) -> tuple[Array, Any]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        return self.forward_fn(npx.one_hot(X.T, self.vocab_size), state, self.params)

    def begin_state(self, batch_size: int, ctx: Any) -> tuple[Array, ...]:
        """The state before the first token."""
        return self.init_state(batch_size, self.num_hiddens, ctx)


@use_np
class RNNModel(nn.Block):
    """A recurrent layer of Gluon with an output layer.

    Args:
        rnn_layer: a ``gluon.rnn.RNN``, ``GRU`` or ``LSTM``, of any number of layers.
        vocab_size: V.
        **kwargs: those of ``gluon.Block``.
    """

    def __init__(self, rnn_layer: Any, vocab_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rnn, self.vocab_size = rnn_layer, vocab_size
        self.dense = nn.Dense(vocab_size)

    def forward(self, inputs: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        outputs, state = run_layers(self.rnn, npx.one_hot(inputs.T, self.vocab_size), state)
        return self.dense(outputs.reshape(-1, outputs.shape[-1])), state

    def begin_state(self, batch_size: int, ctx: Any = None, **kwargs: Any) -> list[Array]:
        """Zeros, (L · directions, B, h); for an LSTM two of them. Other arguments go to the layer's own."""
        return self.rnn.begin_state(batch_size, ctx=ctx, **kwargs)


def predict_ch8(prefix: str | Sequence[str], num_preds: int, net: Any, vocab: Vocab, device: Any) -> Any:
    """Continues `prefix` by the likeliest tokens: no graph, dropout off.

    Args:
        prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
            `vocab` is of was. Of a list of texts each is continued, and a list comes back.
        num_preds: how many tokens to add.
        net: called with tokens (1, 1) and a state; it has ``begin_state``.
        vocab: what it was trained with.
        device: where it is.

    Raises:
        PromptError: the prefix is empty.
    """
    return continue_prefix(_Predictor(net, device), vocab, prefix, num_preds)


def grad_clipping(net: Any, theta: float) -> None:
    """Scales the gradient of all parameters down to a norm of at most `theta`."""
    clip(_parameters(net), theta)


def train_epoch_ch8(
    net: Any,
    train_iter: Iterable[tuple[Array, Array]],
    loss: Callable[[Array, Array], Array],
    updater: Updater,
    device: Any,
    use_random_iter: bool,
) -> tuple[float, float]:
    """One epoch: the perplexity of its tokens, and tokens per second.

    Args:
        net: called with tokens (B, T) and a state, gives logits (T·B, V) and a state.
        train_iter: pairs (X, Y), each (B, T).
        loss: from logits and targets (T·B,) to the losses.
        updater: takes a step.
        device: where `net` is.
        use_random_iter: whether every batch begins with a fresh state; else the state is carried over.
    """
    record = _Training(net, loss, updater, device).train_epoch(train_iter, use_random_iter)
    return record.train_perplexity, record.tokens_per_second


@mx.util.use_np
def train_ch8(
    net: Any,
    train_iter: Iterable[tuple[Array, Array]],
    vocab: Vocab,
    lr: float,
    num_epochs: int,
    device: Any,
    use_random_iter: bool = False,
) -> None:
    """Trains with SGD on clipped gradients, plots the perplexity, and prints it, the speed and two samples.

    As in the book a Gluon block is initialised again, from N(0, 0.01²); a model of functions is not.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite.
    """
    updater: Updater
    if isinstance(net, gluon.Block):
        net.initialize(ctx=device, force_reinit=True, init=init.Normal(0.01))
        X, _ = next(iter(train_iter))
        net(X.as_in_ctx(device), net.begin_state(batch_size=len(X), ctx=device))  # layers infer their sizes
        updater = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr}).step
    else:

        def updater(batch_size: int) -> None:
            sgd(net.params, lr, batch_size)

    training = _Training(net, gluon.loss.SoftmaxCrossEntropyLoss(), updater, device)
    predict = partial(predict_ch8, num_preds=50, net=net, vocab=vocab, device=device)
    training.train(num_epochs, train_iter, use_random_iter, predict, device)


@use_np
class _Predictor(EagerPredictor):
    """A network in the form that `d2lrnn.generation.generate` takes."""

    def __init__(self, net: Any, device: Any) -> None:
        where = cpu() if device is None else device
        super().__init__(net, lambda size: net.begin_state(batch_size=size, ctx=device), where)
        self._net, self._device = net, device


@use_np
class _Training(_Predictor, book.Training):
    """A network and its updater; see `d2lrnn.book.first_edition.Training` for the methods."""

    writes_between = False

    def __init__(
        self, net: Any, loss: Callable[[Array, Array], Array], updater: Updater, device: Any
    ) -> None:
        super().__init__(net, device)
        self._loss, self._updater = loss, updater

    def train_step(self, X: Array, Y: Array, state: Any) -> tuple[Array, Any]:
        X, Y = X.as_in_ctx(self._device), Y.as_in_ctx(self._device)
        with autograd.record():
            outputs, state = self._net(X, state)
            loss = self._loss(outputs, Y.T.reshape(-1)).mean()
        loss.backward()
        grad_clipping(self._net, _THETA)
        self._updater(batch_size=1)  # the loss is a mean already
        return loss.detach(), book.map_state(_detached, state)

    def copy_parameters(self) -> list[Array]:
        return [parameter.copy() for parameter in _parameters(self._net)]

    def put_back_parameters(self, parameters: list[Array]) -> None:
        for parameter, value in zip(_parameters(self._net), parameters, strict=True):
            parameter[:] = value


def _detached(part: Any) -> Any:
    """A part of a state, detached; what is no array stays as it is."""
    return part.detach() if isinstance(part, np.ndarray) else part


def _parameters(net: Any) -> list[Array]:
    """What is trained: of a Gluon block its parameters, of a model of functions its ``params``."""
    if isinstance(net, gluon.Block):
        return [parameter.data() for parameter in net.collect_params().values()]
    return list(net.params)
