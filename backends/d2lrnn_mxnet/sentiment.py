"""Is a review good or bad? The data, vectors of words, and the training of the book's chapters on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, Protocol

import mxnet as mx
from mxnet import autograd, gluon

from d2lrnn.book import sentiment as book
from d2lrnn.book.figures import Animator
from d2lrnn.book.first_edition import Accumulator, Timer
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError
from d2lrnn_mxnet.arrays import index_array, on_device
from d2lrnn_mxnet.devices import cpu, try_all_gpus
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.regression import load_array

#: From inputs, labels and devices to their parts, one of each for every device.
Split = Callable[[Array, Array, Sequence[Any]], tuple[list[Array], list[Array]]]

#: How many points an epoch gets in the figure.
_POINTS_PER_EPOCH = 5


class _Batches(Sized, Iterable[Sequence[Array]], Protocol):
    """Pairs (inputs, labels), and how many there are."""


class Reviews(book.Reviews):
    """The reviews in batches; see `d2lrnn.book.sentiment.Reviews`."""

    tensor = staticmethod(index_array)
    load_array = staticmethod(load_array)


load_data_imdb = Reviews.load


class TokenEmbedding(book.TokenEmbedding):
    """Vectors of words that were learned before; see `d2lrnn.book.sentiment.TokenEmbedding`."""

    @staticmethod
    def tensor(values: FloatArray | IntArray) -> Array:
        """NumPy's vectors or indices as an MXNet array of the same type."""
        return on_device(values, str(values.dtype), cpu())


@mx.util.use_np
def accuracy(y_hat: Array, y: Array) -> float:
    """How many predictions are right.

    Args:
        y_hat: scores (B, C), of which the largest is the prediction, or the predictions themselves (B,).
        y: classes (B,).

    Example:
        >>> from mxnet import np
        >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        1.0
    """
    predicted = y_hat.argmax(axis=1) if y_hat.ndim > 1 and y_hat.shape[1] > 1 else y_hat
    # Counted in float32: in the type of the classes a sum could be too large.
    return float((predicted.astype(y.dtype) == y).astype("float32").sum())


@mx.util.use_np
def split_batch(X: Array, y: Array, devices: Sequence[Any]) -> tuple[list[Array], list[Array]]:
    """A batch as one part for every device, of the same size.

    Args:
        X: inputs (B, …).
        y: labels (B, …).
        devices: MXNet's contexts.

    Raises:
        SpecError: there are not as many labels as inputs.
    """
    if len(X) != len(y):
        raise SpecError(f"a batch of {len(X)} inputs has {len(y)} labels")
    return gluon.utils.split_and_load(X, devices), gluon.utils.split_and_load(y, devices)


@mx.util.use_np
def evaluate_accuracy_gpus(
    net: Any, data_iter: Iterable[Sequence[Array]], split_f: Split = split_batch
) -> float:
    """The share of right predictions, computed on the devices of the network.

    Args:
        net: a block from inputs to scores (B, C).
        data_iter: pairs (inputs, labels).
        split_f: splits a batch.
    """
    devices = _devices_of(net)
    metric = Accumulator(2)  # right predictions, and all
    for features, labels in data_iter:
        parts = zip(*split_f(features, labels, devices), strict=True)
        scores = [(net(X), y) for X, y in parts]  # on all devices at once
        metric.add(sum(accuracy(y_hat, y) for y_hat, y in scores), labels.size)
    return metric[0] / metric[1]


@mx.util.use_np
def train_batch_ch13(
    net: Any,
    features: Array,
    labels: Array,
    loss: Callable[[Array, Array], Array],
    trainer: Any,
    devices: Sequence[Any],
    split_f: Split = split_batch,
) -> tuple[float, float]:
    """A training step on all devices.

    Args:
        net: a block from inputs to scores (B, C).
        features: inputs (B, …).
        labels: classes (B,).
        loss: from scores and classes to the losses (B,).
        trainer: a ``gluon.Trainer``.
        devices: where the network is.
        split_f: splits the batch.

    Returns:
        The sum of the losses, and how many predictions were right.
    """
    X_shards, y_shards = split_f(features, labels, devices)
    with autograd.record():
        scores = [net(X) for X in X_shards]
        losses = [loss(y_hat, y) for y_hat, y in zip(scores, y_shards, strict=True)]
    autograd.backward(losses)
    # Parts of a network that was learned before may take no part in a step.
    trainer.step(len(labels), ignore_stale_grad=True)
    right = sum(accuracy(y_hat, y) for y_hat, y in zip(scores, y_shards, strict=True))
    return sum(float(part.sum()) for part in losses), right


def train_ch13(
    net: Any,
    train_iter: _Batches,
    test_iter: Iterable[Sequence[Array]],
    loss: Callable[[Array, Array], Array],
    trainer: Any,
    num_epochs: int,
    devices: Sequence[Any] | None = None,
    split_f: Split = split_batch,
) -> None:
    """Trains a classifier on all devices, plots loss and accuracy, and prints them with the speed.

    Args:
        net: a block from inputs to scores (B, C), initialised on the devices.
        train_iter: pairs (inputs, labels) to train with.
        test_iter: those to test with after every epoch.
        loss: from scores and classes to the losses (B,).
        trainer: a ``gluon.Trainer``.
        num_epochs: how many epochs.
        devices: MXNet's contexts; None takes all GPUs, or the CPU where there is none.
        split_f: splits a batch.

    Raises:
        SpecError: `num_epochs` is below 1, or there is no batch.
    """
    num_batches = len(train_iter)
    if num_epochs < 1 or num_batches < 1:
        raise SpecError(f"{num_epochs} epochs of {num_batches} batches: there must be at least one of each")
    devices = try_all_gpus() if devices is None else devices
    animator = Animator(
        xlabel="epoch", xlim=[1, num_epochs], ylim=[0, 1], legend=["train loss", "train acc", "test acc"]
    )
    timer, num_examples = Timer(), 0
    for epoch in range(num_epochs):
        metric = Accumulator(4)  # losses, right predictions, examples, predictions
        for number, (features, labels) in enumerate(train_iter, start=1):
            timer.start()
            sums = train_batch_ch13(net, features, labels, loss, trainer, devices, split_f)
            timer.stop()
            metric.add(*sums, len(labels), labels.size)
            if number % max(1, num_batches // _POINTS_PER_EPOCH) == 0 or number == num_batches:
                done = epoch + number / num_batches
                animator.add(done, [metric[0] / metric[2], metric[1] / metric[3], None])
        num_examples += int(metric[2])
        test_accuracy = evaluate_accuracy_gpus(net, test_iter, split_f)
        animator.add(epoch + 1, [None, None, test_accuracy])
    train_loss, train_accuracy = metric[0] / metric[2], metric[1] / metric[3]
    print(f"loss {train_loss:.3f}, train acc {train_accuracy:.3f}, test acc {test_accuracy:.3f}")
    print(f"{num_examples / timer.sum():.1f} examples/sec on {devices}")


@mx.util.use_np
def predict_sentiment(net: Any, vocab: Vocab, sequence: str) -> str:
    """Whether a text is ``'positive'`` or ``'negative'``.

    Args:
        net: a block from tokens (1, T) to the scores of bad and good (1, 2).
        vocab: what it was trained with.
        sequence: words with spaces between them.

    Raises:
        SpecError: the text has no word.
    """
    words = sequence.split()
    if not words:
        raise SpecError("the text has no word: there is nothing to judge")
    tokens = on_device([vocab[words]], "int32", _devices_of(net)[0])
    return "positive" if int(net(tokens).argmax(axis=1).item()) == 1 else "negative"


def _devices_of(net: gluon.Block) -> list[Any]:
    parameters = list(net.collect_params().values())
    return list(parameters[0].list_ctx())
