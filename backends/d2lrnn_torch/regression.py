"""Linear regression of the current edition, and how the first edition measures a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from d2lrnn_torch.first_edition import Accumulator
from d2lrnn_torch.language_model import predicting
from d2lrnn_torch.module import Module


class LinearRegression(Module):
    """``X w + b``, with the mean squared error.

    The first batch tells how many features there are. The weight then is N(0, 0.01²), the bias zero.

    Args:
        lr: the learning rate of `configure_optimizers`.

    Example:
        >>> model = LinearRegression(lr=0.03)
        >>> model(torch.ones(5, 4)).shape
        torch.Size([5, 1])
        >>> [part.shape for part in model.get_w_b()]
        [torch.Size([1, 4]), torch.Size([1])]
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = _SmallLinear(1)

    def loss(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """The mean of ``(y_hat - y)²``; both are (B, 1)."""
        return mse_loss(y_hat, y)

    def get_w_b(self) -> tuple[Tensor, Tensor]:
        """The weight (1, number of features) and the bias (1,), without their graph."""
        return self.net.weight.detach(), self.net.bias.detach()


class _SmallLinear(nn.LazyLinear):
    """A linear layer that begins near zero. It becomes a `torch.nn.Linear` with its first batch."""

    def reset_parameters(self) -> None:
        # PyTorch calls it when the sizes are known, and would draw larger weights. It also does before.
        if self.in_features:
            nn.init.normal_(self.weight, std=0.01)
            nn.init.zeros_(self.bias)


def evaluate_loss(
    net: Any, data_iter: Iterable[tuple[Tensor, Tensor]], loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """The mean loss on data: no graph, dropout off.

    Args:
        net: from inputs to predictions.
        data_iter: batches of inputs and targets; the targets get the shape of the predictions.
        loss: from predictions and targets to the losses, or to their mean.

    Example:
        >>> batch = torch.ones(2, 3), torch.zeros(2, 3)
        >>> evaluate_loss(nn.Identity(), [batch], nn.MSELoss(reduction="none"))
        1.0
    """
    losses = Accumulator(2)  # their sum, their number
    with evaluating(net):
        for X, y in data_iter:
            outputs = net(X)
            of_batch = loss(outputs, y.reshape(outputs.shape))
            losses.add(of_batch.sum(), of_batch.numel())
    return losses[0] / losses[1]


def evaluating(net: Any) -> AbstractContextManager[None]:
    """A context without a graph, and for a module without dropout; its mode is restored afterwards."""
    return predicting(net) if isinstance(net, nn.Module) else torch.no_grad()
