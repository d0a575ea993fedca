"""Linear regression, as the chapters on sequences use it, and the first edition's batches and mean losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.book.first_edition import Accumulator
from d2lrnn.errors import SpecError
from d2lrnn_tensorflow.module import Module
from d2lrnn_tensorflow.recurrence import Tensor


class LinearRegression(Module):
    """Linear regression: ``y = X w + b``, learned by the squared error.

    Args:
        lr: the learning rate of `configure_optimizers`, stochastic gradient descent.

    Example:
        >>> model = LinearRegression(lr=0.03)
        >>> model(tf.ones((5, 4))).shape
        TensorShape([5, 1])
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.net = keras.layers.Dense(1, kernel_initializer=normal)

    def loss(self, y_hat: Tensor, y: Tensor) -> Tensor:
        """The mean squared error.

        Args:
            y_hat: predictions (B, 1).
            y: what they should be (B, 1).
        """
        return keras.losses.MeanSquaredError()(y, y_hat)

    def get_w_b(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Weight (n, 1) and bias (1,), as NumPy.

        Raises:
            SpecError: the model has not been used yet, and so does not know its n.
        """
        if not self.net.built:
            raise SpecError("the model has no weights yet: call it with a batch of inputs first")
        w, b = self.net.get_weights()
        return w, b


def load_array(data_arrays: Sequence[Any], batch_size: int, is_train: bool = True) -> tf.data.Dataset:
    """Batches of rows that belong together.

    Args:
        data_arrays: tensors or arrays with as many rows each.
        batch_size: B; the last batch has what is left.
        is_train: whether each epoch has an order of its own.

    Example:
        >>> batches = load_array((tf.range(5), tf.range(5) ** 2), batch_size=2, is_train=False)
        >>> [y.numpy().tolist() for x, y in batches]
        [[0, 1], [4, 9], [16]]
    """
    rows = tf.data.Dataset.from_tensor_slices(tuple(data_arrays))
    if is_train:
        rows = rows.shuffle(max(1, len(rows)))
    return rows.batch(batch_size)


def evaluate_loss(
    net: Callable[[Tensor], Tensor],
    data_iter: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """The mean loss over a data set.

    Args:
        net: from inputs to predictions.
        data_iter: pairs of inputs and targets.
        loss: from predictions and targets to the losses of a batch, or to their mean. A mean counts once,
            whatever the size of its batch.

    Example:
        >>> batches = load_array((tf.ones((3, 1)), tf.zeros((3, 1))), batch_size=2)
        >>> evaluate_loss(lambda x: 2 * x, batches, lambda y_hat, y: (y_hat - y) ** 2)
        4.0
    """
    metric = Accumulator(2)
    for X, y in data_iter:
        losses = loss(net(X), y)
        metric.add(tf.reduce_sum(losses), tf.size(losses))
    return metric[0] / metric[1]
