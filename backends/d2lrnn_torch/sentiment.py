"""Good reviews from bad ones: the book's data as tensors, and how a network is trained to tell.

What all tabs share is in `d2lrnn.book.sentiment`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from d2lrnn.book import sentiment as book
from d2lrnn.book.epochs import check_epochs, run_epochs
from d2lrnn.book.figures import Animator
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn_torch.devices import as_device, full_precision, try_all_gpus
from d2lrnn_torch.epochs import begin_epoch
from d2lrnn_torch.first_edition import Accumulator
from d2lrnn_torch.language_model import predicting
from d2lrnn_torch.loaders import load_array
from d2lrnn_torch.regression import evaluating

#: A network takes one tensor, or a list of several.
Inputs: TypeAlias = Tensor | list[Tensor]

# How many points of the figure an epoch gets while it is trained.
_POINTS_PER_EPOCH = 5


class _Reviews(book.Reviews):
    """See `d2lrnn.book.sentiment.Reviews`."""

    load_array = staticmethod(load_array)

    @staticmethod
    def tensor(indices: IntArray) -> Tensor:
        """NumPy's indices as a tensor of int64."""
        return torch.from_numpy(indices).long()


load_data_imdb = _Reviews.load


class TokenEmbedding(book.TokenEmbedding):
    """Vectors of words that were learned before; see `d2lrnn.book.sentiment.TokenEmbedding`.

    Example:
        >>> class OwnVectors(TokenEmbedding):
        ...     def _load_embedding(self, embedding_name):
        ...         return ["<unk>", "great"], torch.tensor([[0.0, 0.0], [0.5, 0.25]])
        >>> OwnVectors("own")[["great", "film"]]
        tensor([[0.5000, 0.2500],
                [0.0000, 0.0000]])
    """

    @staticmethod
    def tensor(values: FloatArray | IntArray) -> Tensor:
        """NumPy's numbers as a tensor."""
        return torch.from_numpy(values)


def accuracy(y_hat: Tensor, y: Tensor) -> float:
    """How many predictions are right.

    Args:
        y_hat: logits (B, V), or the predicted classes (B,).
        y: the right classes (B,).

    Example:
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        1.0
    """
    if y_hat.dim() > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.argmax(dim=1)
    return float((y_hat.to(y.dtype) == y).sum())


def evaluate_accuracy_gpu(
    net: Any, data_iter: Iterable[tuple[Inputs, Tensor]], device: torch.device | str | None = None
) -> float:
    """The share of right predictions on data: no graph, dropout off.

    Args:
        net: from inputs to logits (B, V).
        data_iter: batches of inputs and classes (B,).
        device: where to compute; None is where the network is.
    """
    if device is None and isinstance(net, nn.Module):
        device = next(net.parameters()).device
    device = as_device(device)
    counts = Accumulator(2)  # right predictions, predictions
    with evaluating(net), full_precision(device):
        for X, y in data_iter:
            counts.add(accuracy(net(_moved(X, device)), y.to(device)), y.numel())
    return counts[0] / counts[1]


def train_batch_ch13(
    net: nn.Module,
    X: Inputs,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    trainer: torch.optim.Optimizer,
    devices: Sequence[torch.device],
) -> tuple[Tensor, float]:
    """A training step: the sum of the losses, and how many predictions were right.

    Args:
        net: from inputs to logits (B, V).
        X: its inputs.
        y: the right classes (B,).
        loss: from logits and classes to the losses (B,); the gradient is that of their sum.
        trainer: takes the step.
        devices: the first one has the network.
    """
    device = as_device(devices[0])
    y = y.to(device)
    net.train()
    with full_precision(device):
        outputs = net(_moved(X, device))
        total = loss(outputs, y).sum()
        trainer.zero_grad()
        total.backward()
    trainer.step()
    return total.detach(), accuracy(outputs.detach(), y)


def train_ch13(
    net: nn.Module,
    train_iter: Any,
    test_iter: Iterable[tuple[Inputs, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    trainer: torch.optim.Optimizer,
    num_epochs: int,
    devices: Sequence[torch.device] | None = None,
) -> None:
    """Trains a network to tell classes; plots and prints the loss and the share of right predictions.

    Args:
        net: from inputs to logits (B, V).
        train_iter: batches of inputs and classes (B,); it has a length.
        test_iter: batches to test with after each epoch.
        loss: from logits and classes to the losses (B,).
        trainer: the optimiser of the network's parameters.
        num_epochs: how many epochs.
        devices: the network is moved to the first; each batch is split among all. None is `try_all_gpus`.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite; the parameters are those from before the epoch.
    """
    check_epochs(num_epochs)
    devices = try_all_gpus() if devices is None else list(devices)
    net.to(devices[0])
    model = nn.DataParallel(net, device_ids=devices) if len(devices) > 1 else net
    figure = _Figure(num_epochs, len(train_iter))

    def train_step(batch: tuple[Inputs, Tensor]) -> tuple[Tensor, int]:
        X, y = batch
        total, right = train_batch_ch13(model, X, y, loss, trainer, devices)
        figure.add(total, right, y)
        return total / len(y), len(y)

    for epoch in run_epochs(train_iter, num_epochs, train_step, partial(begin_epoch, model)):
        train_accuracy = figure.accuracy
        test_accuracy = evaluate_accuracy_gpu(model, test_iter)
        figure.end_epoch(epoch.number, test_accuracy)
    print(f"loss {epoch.loss:.3f}, train acc {train_accuracy:.3f}, test acc {test_accuracy:.3f}")
    print(f"{epoch.per_second:.1f} examples/sec on {devices}")


class _Figure:
    """The curves of `train_ch13`, and the sums of the epoch under way that they are drawn from."""

    def __init__(self, num_epochs: int, num_batches: int) -> None:
        legend = ["train loss", "train acc", "test acc"]
        self._animator = Animator(xlabel="epoch", xlim=[1, num_epochs], ylim=[0, 1], legend=legend)
        self._num_batches = num_batches
        # A short epoch has a point for every batch.
        self._every = max(1, num_batches // _POINTS_PER_EPOCH)
        self._begin(0)

    def _begin(self, number: int) -> None:
        self._epoch, self._done = number, 0
        self._sums = Accumulator(4)  # losses, examples, right predictions, predictions

    @property
    def accuracy(self) -> float:
        return self._sums[2] / self._sums[3]

    def add(self, total: Tensor, right: float, y: Tensor) -> None:
        """Counts a batch in."""
        self._done += 1
        self._sums.add(total, len(y), right, y.numel())
        if self._done % self._every == 0 or self._done == self._num_batches:
            x = self._epoch + self._done / self._num_batches
            self._animator.add(x, (self._sums[0] / self._sums[1], self.accuracy, None))

    def end_epoch(self, number: int, test_accuracy: float) -> None:
        """Draws what the test gave, and begins the next epoch."""
        self._animator.add(number, (None, None, test_accuracy))
        self._begin(number)


def predict_sentiment(net: nn.Module, vocab: Vocab, sequence: str) -> str:
    """``"positive"`` or ``"negative"``: what a network says of a review; dropout is off.

    Args:
        net: from tokens (1, T) to logits (1, 2).
        vocab: what it was trained with.
        sequence: the review, words with a space between them.
    """
    device = next(net.parameters()).device
    tokens = torch.tensor([vocab[sequence.split()]], device=device)
    with predicting(net), full_precision(device):
        return "positive" if int(net(tokens).argmax(dim=1)) == 1 else "negative"


def _moved(X: Inputs, device: torch.device) -> Inputs:
    return [part.to(device) for part in X] if isinstance(X, list) else X.to(device)
