"""The book's first edition on PyTorch. What all tabs share is in `d2lrnn.book.first_edition`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot

from d2lrnn.book import first_edition as book
from d2lrnn.contract.values import IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import continue_prefix
from d2lrnn_torch.concise import is_plain, run_cells
from d2lrnn_torch.devices import as_device, full_precision
from d2lrnn_torch.gradients import clip
from d2lrnn_torch.language_model import predicting
from d2lrnn_torch.stepper import Stepper
from d2lrnn_torch.tokens import check_tensor

__all__ = [
    "Accumulator", "RNNModel", "RNNModelScratch", "SeqDataLoader", "grad_clipping", "load_data_time_machine",
    "predict_ch8", "seq_data_iter_random", "seq_data_iter_sequential", "sgd", "train_ch8", "train_epoch_ch8",
]  # fmt: skip

#: Takes a step: an optimiser, or a function of the batch size by which gradients are divided.
Updater: TypeAlias = torch.optim.Optimizer | Callable[..., None]

# The chapter's largest norm of a gradient.
_THETA = 1.0


class SeqDataLoader(book.SeqDataLoader):
    """The novel in batches (X, Y); see `d2lrnn.book.first_edition.SeqDataLoader`."""

    @staticmethod
    def tensor(indices: IntArray) -> Tensor:
        """NumPy's indices as a tensor of int64."""
        return torch.from_numpy(indices).long()


seq_data_iter_random, seq_data_iter_sequential = SeqDataLoader.random, SeqDataLoader.sequential
load_data_time_machine = SeqDataLoader.load


class Accumulator(book.Accumulator):
    """`d2lrnn.book.first_edition.Accumulator`, with tensors detached before they are added."""

    def add(self, *args: Any) -> None:
        """Adds a number to every sum."""
        super().add(*(value.detach() if isinstance(value, Tensor) else value for value in args))


class RNNModelScratch:
    """A recurrent model of functions, as the first edition builds it.

    Args:
        vocab_size: V.
        num_hiddens: h.
        device: where its parameters are made.
        get_params: from (V, h, device) to a list of parameters.
        init_state: from (B, h, device) to a tuple of states.
        forward_fn: from one-hot vectors (T, B, V), state and parameters to logits (T·B, V) and state.
    """

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        device: torch.device,
        get_params: Callable[[int, int, torch.device], list[Tensor]],
        init_state: Callable[[int, int, torch.device], tuple[Tensor, ...]],
        forward_fn: Callable[[Tensor, Any, list[Tensor]], tuple[Tensor, Any]],
    ) -> None:
        self.vocab_size, self.num_hiddens = vocab_size, num_hiddens
        self.params = get_params(vocab_size, num_hiddens, device)
        self.init_state, self.forward_fn = init_state, forward_fn

    def __call__(self, X: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        check_tensor(X)
        vectors = one_hot(X.t().long(), self.vocab_size).to(self.params[0].dtype)
        return self.forward_fn(vectors, state, self.params)

    def begin_state(self, batch_size: int, device: torch.device) -> tuple[Tensor, ...]:
        """The state before the first token."""
        return self.init_state(batch_size, self.num_hiddens, device)


class RNNModel(nn.Module):
    """A recurrent layer of PyTorch with an output layer.

    Args:
        rnn_layer: a `torch.nn.RNN`, `torch.nn.GRU` or `torch.nn.LSTM` that takes V inputs.
        vocab_size: V.

    Example:
        >>> net = RNNModel(nn.RNN(28, 32), vocab_size=28)
        >>> X, state = torch.zeros(2, 5), net.begin_state(torch.device("cpu"), batch_size=2)
        >>> net(X, state)[0].shape
        torch.Size([10, 28])
    """

    def __init__(self, rnn_layer: nn.RNNBase, vocab_size: int) -> None:
        super().__init__()
        self.rnn, self.vocab_size = rnn_layer, vocab_size
        self.num_hiddens = rnn_layer.hidden_size
        self.num_directions = 2 if rnn_layer.bidirectional else 1
        self.linear = nn.Linear(self.num_directions * self.num_hiddens, vocab_size)

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (T·B, V) for tokens (B, T), step by step, and the final state."""
        check_tensor(inputs)
        vectors = one_hot(inputs.t().long(), self.vocab_size).to(self.linear.weight.dtype)
        outputs, state = self.rnn(vectors, state)
        return self.linear(outputs.flatten(0, 1)), state

    def next_logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) after one token each (B,), and the next state: a single step of `forward`, faster.

        On a CPU, for layers that `d2lrnn_torch.concise.is_plain` describes.
        """
        H, state = run_cells(self.rnn, tokens, state)
        return linear(H, self.linear.weight, self.linear.bias), state

    def begin_state(self, device: torch.device, batch_size: int = 1) -> Any:
        """Zeros (directions · layers, B, h); for an LSTM two of them."""
        shape = (self.num_directions * self.rnn.num_layers, batch_size, self.num_hiddens)
        zeros = self.linear.weight.new_zeros(shape, device=device)
        return (zeros, zeros.clone()) if isinstance(self.rnn, nn.LSTM) else zeros


def predict_ch8(
    prefix: str | Sequence[str], num_preds: int, net: Any, vocab: Vocab, device: torch.device | str | None
) -> Any:
    """Continues `prefix` by the likeliest tokens: no graph, dropout off.

    Args:
        prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
            `vocab` is of was. Of a list of texts each is continued, and a list comes back.
        num_preds: how many tokens to add.
        net: called with tokens (1, 1) and a state; it has ``begin_state``.
        vocab: what it was trained with.
        device: where it is; None is where PyTorch makes its tensors.

    Raises:
        PromptError: the prefix is empty.
    """
    stepper = _stepper(net, as_device(device))
    if isinstance(net, nn.Module):
        with predicting(net):
            return continue_prefix(stepper, vocab, prefix, num_preds)
    with torch.no_grad():
        return continue_prefix(stepper, vocab, prefix, num_preds)


def grad_clipping(net: Any, theta: float) -> None:
    """Scales the gradient of all parameters down to a norm of at most `theta`."""
    clip(_parameters(net), theta)


def sgd(params: Iterable[Tensor], lr: float, batch_size: int) -> None:
    """A step of stochastic gradient descent on gradients that are sums over a batch; then they are zero.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> (3 * w).sum().backward()
        >>> sgd([w], lr=0.5, batch_size=2)
        >>> w.item(), w.grad.item()
        (0.25, 0.0)
    """
    with torch.no_grad():
        for param in params:
            param -= lr * param.grad / batch_size
            param.grad.zero_()


def train_epoch_ch8(
    net: Any,
    train_iter: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    updater: Updater,
    device: torch.device | str | None,
    use_random_iter: bool,
) -> tuple[float, float]:
    """One epoch: the perplexity of its tokens, and tokens per second.

    Args:
        net: called with tokens (B, T) and a state, gives logits (T·B, V) and a state.
        train_iter: pairs (X, Y), each (B, T).
        loss: from logits and targets (T·B,) to the losses, or their mean.
        updater: takes a step; a function gets ``batch_size=1``, since the loss is a mean.
        device: where `net` is.
        use_random_iter: whether every batch begins with a fresh state; else the state is carried over.
    """
    record = _Training(net, loss, updater, device).train_epoch(train_iter, use_random_iter)
    return record.train_perplexity, record.tokens_per_second


def train_ch8(
    net: Any,
    train_iter: Iterable[tuple[Tensor, Tensor]],
    vocab: Vocab,
    lr: float,
    num_epochs: int,
    device: torch.device | str | None,
    use_random_iter: bool = False,
) -> None:
    """Trains with SGD on clipped gradients, plots the perplexity, and prints it, the speed and two samples.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite.
    """
    updater: Updater
    if isinstance(net, nn.Module):
        updater = torch.optim.SGD(net.parameters(), lr)
    else:

        def updater(batch_size: int) -> None:
            sgd(net.params, lr, batch_size)

    training = _Training(net, nn.CrossEntropyLoss(), updater, device)
    predict = partial(predict_ch8, num_preds=50, net=net, vocab=vocab, device=device)
    training.train(num_epochs, train_iter, use_random_iter, predict, device)


def _stepper(net: Any, device: torch.device) -> Stepper:
    """Single steps of a network: an `RNNModel`'s by `next_logits`, a chapter's own by its call."""

    def initial_state(batch_size: int) -> Any:
        return net.begin_state(batch_size=batch_size, device=device)

    if type(net) is RNNModel and device.type == "cpu" and is_plain(net.rnn) and type(net.linear) is nn.Linear:
        return Stepper(net.next_logits, initial_state, device, makes_parameters=False)
    return Stepper(lambda tokens, state: net(tokens.unsqueeze(1), state), initial_state, device)


class _Training(book.Training):
    """A network and its updater; see `d2lrnn.book.first_edition.Training` for the methods."""

    def __init__(
        self,
        net: Any,
        loss: Callable[[Tensor, Tensor], Tensor],
        updater: Updater,
        device: torch.device | str | None,
    ) -> None:
        self._net, self._loss, self._updater, self._device = net, loss, updater, as_device(device)

    def initial_state(self, batch_size: int) -> Any:
        return self._net.begin_state(batch_size=batch_size, device=self._device)

    def train_step(self, X: Tensor, Y: Tensor, state: Any) -> tuple[Tensor, Any]:
        X, Y = X.to(self._device), Y.to(self._device)
        if isinstance(self._net, nn.Module):
            self._net.train()
        with full_precision(self._device):
            outputs, state = self._net(X, state)
            loss = self._loss(outputs, Y.t().flatten().long()).mean()
            for parameter in _parameters(self._net):
                parameter.grad = None
            loss.backward()
        grad_clipping(self._net, _THETA)
        if isinstance(self._updater, torch.optim.Optimizer):
            self._updater.step()
        else:
            self._updater(batch_size=1)  # the loss is a mean already
        return loss.detach(), book.map_state(_detached, state)

    def copy_parameters(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in _parameters(self._net)]

    @torch.no_grad()
    def put_back_parameters(self, parameters: list[Tensor]) -> None:
        for parameter, value in zip(_parameters(self._net), parameters, strict=True):
            parameter.copy_(value)


def _parameters(net: Any) -> list[Tensor]:
    """What is trained: of a module its parameters, of a model of functions its ``params``."""
    return list(net.parameters() if isinstance(net, nn.Module) else net.params)


def _detached(part: Any) -> Any:
    """A part of a state, detached; the caller's own is not changed, nor is what is no tensor."""
    return part.detach() if isinstance(part, Tensor) else part
