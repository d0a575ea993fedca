"""The book's first edition on MXNet. What is not MXNet is in `d2lrnn.book.first_edition`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, SupportsFloat

import mxnet as mx
from mxnet import autograd, gluon, init, npx
from mxnet.gluon import nn

from d2lrnn.book import first_edition as classic
from d2lrnn.contract.values import FloatArray, IntArray, StepResult
from d2lrnn.data.vocabulary import TokenArray, Vocab
from d2lrnn.generation import generate
from d2lrnn.training.epoch import LoadedBatch, run_epoch
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.devices import cpu
from d2lrnn_mxnet.gradients import clip, sgd
from d2lrnn_mxnet.layers import run_layers
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np
from d2lrnn_mxnet.states import detached

#: Takes a step, given the batch size by which gradients are divided.
Updater = Callable[[int], None]

# The chapter's largest norm of a gradient.
_THETA = 1.0


def seq_data_iter_random(
    corpus: Sequence[int] | TokenArray, batch_size: int, num_steps: int
) -> Iterator[tuple[Array, Array]]:
    """One epoch of random sampling: pairs (X, Y), each (B, T), in random order."""
    for X, Y in classic.random_epoch(corpus, batch_size, num_steps):
        yield on_device(X, "int32", cpu()), on_device(Y, "int32", cpu())


def seq_data_iter_sequential(
    corpus: Sequence[int] | TokenArray, batch_size: int, num_steps: int
) -> Iterator[tuple[Array, Array]]:
    """One epoch of sequential partitioning: pairs (X, Y), each (B, T), whose rows continue each other."""
    for X, Y in classic.sequential_epoch(corpus, batch_size, num_steps):
        yield on_device(X, "int32", cpu()), on_device(Y, "int32", cpu())


class SeqDataLoader(classic.SequenceLoader):
    """The novel in batches (X, Y); see `d2lrnn.book.first_edition.SequenceLoader`."""

    random = staticmethod(seq_data_iter_random)
    sequential = staticmethod(seq_data_iter_sequential)


def load_data_time_machine(
    batch_size: int, num_steps: int, use_random_iter: bool = False, max_tokens: int = 10000
) -> tuple[SeqDataLoader, Vocab]:
    """Batches of the novel's first `max_tokens` characters, and the vocabulary of all of it.

    Example:
        >>> train_iter, vocab = load_data_time_machine(32, 35)
        >>> next(iter(train_iter))[0].shape
        (32, 35)
    """
    loader = SeqDataLoader(batch_size, num_steps, use_random_iter, max_tokens)
    return loader, loader.vocab


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
    """

    def __init__(self, rnn_layer: Any, vocab_size: int) -> None:
        super().__init__()
        self.rnn, self.vocab_size = rnn_layer, vocab_size
        self.dense = nn.Dense(vocab_size)

    def forward(self, inputs: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        outputs, state = run_layers(self.rnn, npx.one_hot(inputs.T, self.vocab_size), state)
        return self.dense(outputs.reshape(-1, outputs.shape[-1])), state

    def begin_state(self, batch_size: int, ctx: Any = None) -> list[Array]:
        """Zeros, (L · directions, B, h); for an LSTM two of them."""
        return self.rnn.begin_state(batch_size, ctx=ctx)


def predict_ch8(prefix: str, num_preds: int, net: Any, vocab: Vocab, device: Any) -> str:
    """Continues `prefix` by the likeliest characters: no graph, dropout off.

    Args:
        prefix: the beginning; it is turned to lower case, as the novel is.
        num_preds: how many characters to add.
        net: called with tokens (1, 1) and a state; it has ``begin_state``.
        vocab: what it was trained with.
        device: where it is.

    Raises:
        PromptError: the prefix is empty.
    """
    return generate(_Predictor(net, device), vocab, prefix, num_preds)


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
    record = run_epoch(_Steps(net, loss, updater, device), train_iter, carries_state=not use_random_iter)
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
    """Trains with SGD on clipped gradients, draws the perplexity, and prints what came of it.

    As in the book a Gluon block begins anew, at N(0, 0.01²), and a model of functions goes on.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite.
    """
    updater: Updater
    if isinstance(net, gluon.Block):
        net.initialize(ctx=device, force_reinit=True, init=init.Normal(0.01))
        X, _ = next(iter(train_iter))
        net(X.as_in_ctx(device), net.begin_state(batch_size=len(X), ctx=device))  # layers learn their sizes
        updater = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr}).step
    else:

        def updater(batch_size: int) -> None:
            sgd(net.params, lr, batch_size)

    steps = _Steps(net, gluon.loss.SoftmaxCrossEntropyLoss(), updater, device)
    classic.train_epochs(
        num_epochs,
        lambda before: run_epoch(steps, train_iter, before=before, carries_state=not use_random_iter),
        lambda prefix: predict_ch8(prefix, 50, net, vocab, device),
        str(device),
    )


@use_np
class _Steps:
    """A network and its updater as what the core's loop calls (`d2lrnn.training.epoch.Steps`)."""

    def __init__(
        self, net: Any, loss: Callable[[Array, Array], Array], updater: Updater, device: Any
    ) -> None:
        self._net, self._loss, self._updater, self._device = net, loss, updater, device
        self.step = 0

    def initial_state(self, batch_size: int) -> Any:
        return self._net.begin_state(batch_size=batch_size, ctx=self._device)

    def train_step(self, batch: LoadedBatch, state: Any) -> tuple[StepResult, Any]:
        X, Y = (array.as_in_ctx(self._device) for array in batch.tensors)
        with autograd.record():
            outputs, state = self._net(X, state)
            loss = self._loss(outputs, Y.T.reshape(-1)).mean()
        loss.backward()
        grad_clipping(self._net, _THETA)
        self._updater(1)  # the loss is a mean already
        self.step += 1
        return StepResult(loss.detach(), math.nan), detached(state)

    def eval_step(self, batch: LoadedBatch, state: Any) -> tuple[SupportsFloat, Any]:
        raise NotImplementedError  # the first edition does not validate

    def export_parameters(self) -> list[Array]:
        return [parameter.copy() for parameter in _parameters(self._net)]

    def import_parameters(self, parameters: list[Array]) -> None:
        for parameter, value in zip(_parameters(self._net), parameters, strict=True):
            parameter[:] = value

    def synchronize(self) -> None:
        """The loop has read every loss by now."""


@use_np
class _Predictor:
    """A network as what `d2lrnn.generation.generate` asks."""

    def __init__(self, net: Any, device: Any) -> None:
        self._net, self._device = net, device

    def initial_state(self, batch_size: int) -> Any:
        return self._net.begin_state(batch_size=batch_size, ctx=self._device)

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        with autograd.pause():
            logits, state = self._net(on_device(tokens[:, None], "int32", self._device), state)
        return logits.asnumpy(), state


def _parameters(net: Any) -> list[Array]:
    """What is trained: of a Gluon block its parameters, of a model of functions its ``params``."""
    if isinstance(net, gluon.Block):
        return [parameter.data() for parameter in net.collect_params().values()]
    return list(net.params)
