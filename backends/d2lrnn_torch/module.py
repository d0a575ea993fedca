"""The book's `Module` and `Classifier` on PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from d2lrnn.book import current_edition as book


class Module(book.Module, nn.Module):
    """A `torch.nn.Module` with the book's steps and board; see `d2lrnn.book.current_edition.Module`.

    Example:
        >>> class Linear(Module):
        ...     def __init__(self, lr):
        ...         super().__init__()
        ...         self.save_hyperparameters()
        ...         self.net = nn.LazyLinear(1)
        >>> Linear(lr=0.1)(torch.ones(2, 3)).shape
        torch.Size([2, 1])
    """

    def forward(self, X: Tensor) -> Tensor:
        """``self.net(X)``."""
        return self.net(X)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Stochastic gradient descent at the rate ``self.lr``."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def apply_init(self, inputs: Sequence[Tensor], init: Callable[[nn.Module], None] | None = None) -> None:
        """Runs the model once, so that lazy layers know their sizes, and applies `init` to ``self.net``."""
        self.forward(*inputs)
        if init is not None:
            self.net.apply(init)

    def detach(self, value: Any) -> Any:
        """The value, detached."""
        return value.detach() if isinstance(value, Tensor) else value


class Classifier(Module):
    """A model whose outputs are the logits of classes, the last axis.

    Example:
        >>> Y_hat, Y = torch.zeros(2, 4), torch.tensor([0, 1])
        >>> Classifier().loss(Y_hat, Y), Classifier().accuracy(Y_hat, Y)
        (tensor(1.3863), tensor(0.5000))
    """

    def loss(self, Y_hat: Tensor, Y: Tensor, averaged: bool = True) -> Tensor:
        """Cross-entropy in nats: the mean, or one for every prediction.

        Args:
            Y_hat: logits (…, V).
            Y: classes (…).
            averaged: whether to take the mean.
        """
        reduction = "mean" if averaged else "none"
        return cross_entropy(_rows(Y_hat), Y.flatten().long(), reduction=reduction)

    def accuracy(self, Y_hat: Tensor, Y: Tensor, averaged: bool = True) -> Tensor:
        """The share of logits (…, V) whose largest is the class in Y (…); or for every prediction 0 or 1."""
        correct = (_rows(Y_hat).argmax(dim=1) == Y.flatten()).float()
        return correct.mean() if averaged else correct

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """Loss and accuracy of a batch."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss

    def layer_summary(self, X_shape: Sequence[int]) -> None:
        """Prints the output shape of each layer of ``self.net`` for random inputs of this shape."""
        X = torch.randn(*X_shape)
        for layer in self.net:
            X = layer(X)
            print(f"{type(layer).__name__} output shape:\t {X.shape}")


def _rows(logits: Tensor) -> Tensor:
    """Logits (…, V) as rows (n, V)."""
    return logits.reshape(-1, logits.shape[-1])
