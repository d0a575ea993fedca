"""Linear regression, batches of rows, and the loss over data: what the chapters on sequences begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy
from mxnet import gluon, init, np
from mxnet.gluon import nn

from d2lrnn.book.first_edition import Accumulator
from d2lrnn.errors import SpecError
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.book import TensorLoader
from d2lrnn_mxnet.devices import cpu
from d2lrnn_mxnet.module import Module
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


@use_np
class LinearRegression(Module):
    """ŷ = X w + b, trained on the squared error by gradient descent.

    Args:
        lr: the learning rate.

    Attributes:
        net: a ``nn.Dense``, which takes the number of inputs from the first batch.

    Example:
        >>> model = LinearRegression(lr=0.03)
        >>> model(np.ones((2, 4))).shape, model.get_w_b()[0].shape
        ((2, 1), (1, 4))
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Dense(1)
        self.net.initialize(init.Normal(sigma=0.01))

    def loss(self, y_hat: Array, y: Array) -> Array:
        """The mean of (ŷ - y)² / 2.

        Args:
            y_hat: predictions (B, 1).
            y: what they should be, as many numbers.
        """
        return gluon.loss.L2Loss()(y_hat, y).mean()

    def get_w_b(self) -> tuple[Array, Array]:
        """The weights (1, inputs) and the bias (1,)."""
        return self.net.weight.data(), self.net.bias.data()


def load_array(data_arrays: Sequence[Any], batch_size: int, is_train: bool = True) -> TensorLoader:
    """Batches of rows that belong together.

    Args:
        data_arrays: arrays of MXNet or NumPy, or lists of numbers, all with the same number of rows.
        batch_size: B; the last batch has what is left.
        is_train: whether each epoch has an order of its own.

    Returns:
        What gives a list of arrays for every batch, each (B, …), whenever it is walked.

    Raises:
        SpecError: one array has more rows than another, or there is none.

    Example:
        >>> batches = load_array((np.ones((5, 2)), np.arange(5)), batch_size=2, is_train=False)
        >>> len(batches), [(X.shape, y.tolist()) for X, y in batches][-1]
        (3, ((1, 2), [4.0]))
    """
    if len({len(array) for array in data_arrays}) != 1:
        lengths = ", ".join(str(len(array)) for array in data_arrays) or "none"
        raise SpecError(f"arrays of one batch must have the same number of rows, not {lengths}")
    arrays = [_on_cpu(array) for array in data_arrays]
    return TensorLoader(arrays, numpy.arange(len(arrays[0])), batch_size, is_train)


def evaluate_loss(
    net: Callable[[Array], Array], data_iter: Iterable[Sequence[Array]], loss: Callable[[Array, Array], Array]
) -> float:
    """The mean loss of a network over data.

    Args:
        net: from inputs to predictions.
        data_iter: pairs (X, y).
        loss: from predictions and y to the losses of a batch, which count alike.
    """
    metric = Accumulator(2)  # losses, and their number
    for X, y in data_iter:
        losses = loss(net(X), y)
        metric.add(losses.sum(), losses.size)
    return metric[0] / metric[1]


def _on_cpu(values: Any) -> Array:
    if isinstance(values, np.ndarray):
        return values
    array = numpy.asarray(values)
    return on_device(array, str(array.dtype), cpu())
