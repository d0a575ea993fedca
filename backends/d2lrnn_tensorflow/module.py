"""The book's `Module` and `Classifier` on Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from d2lrnn.book import current_edition as book
from d2lrnn.book.figures import ProgressBoard
from d2lrnn_tensorflow.recurrence import Tensor


class Module(book.Module, keras.Model):
    """A `keras.Model` with the book's steps and board; see `d2lrnn.book.current_edition.Module`.

    Its ``forward`` is Keras' ``call``. A ``tf.Variable`` that is an attribute, or an element of a list or
    tuple that is one, is trained like a Keras variable.

    Args:
        plot_train_per_epoch: how many points an epoch gets on the board for training.
        plot_valid_per_epoch: and for validation.
        **kwargs: those of `keras.Model`: ``dtype``, ``name``.

    Attributes:
        training: whether a `Trainer` is training it (True) or validating (False); None is neither.

    Example:
        >>> class Linear(Module):
        ...     def __init__(self, lr):
        ...         super().__init__()
        ...         self.save_hyperparameters()
        ...         self.net = keras.layers.Dense(1)
        >>> Linear(lr=0.1)(tf.ones((2, 3))).shape
        TensorShape([2, 1])
    """

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1, **kwargs: Any) -> None:
        # `book.Module.__init__` is skipped: it does not take Keras' arguments.
        super(book.Module, self).__init__(**kwargs)
        # Keras sets an attribute `loss` to None, which would hide the book's method of that name.
        del self.loss
        self.save_hyperparameters(ignore=["kwargs"])
        self.board = ProgressBoard()
        self.training: bool | None = None

    def __call__(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward`; a ``reversed(…)`` input becomes a tensor, and dropout is on while training."""
        if isinstance(X, reversed):
            X = tf.stack(list(X))
        if self.training is not None:
            kwargs.setdefault("training", self.training)
        return super().__call__(X, *args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: the parts of a model make their weights at their first use."""

    def call(self, X: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Keras' name of `forward`. Keras passes `training` on to inner layers."""
        return self.forward(X, *args, **kwargs)

    def forward(self, X: Tensor) -> Tensor:
        """``self.net(X)``."""
        return self.net(X)

    def configure_optimizers(self) -> Any:
        """Stochastic gradient descent at the rate ``self.lr``."""
        return keras.optimizers.SGD(float(self.lr))  # Keras takes no integer

    def plot(self, key: str, value: Any, train: bool) -> None:
        """Puts a batch's value on the board; see `d2lrnn.book.current_edition.Module.plot`."""
        if tf.executing_eagerly():
            super().plot(key, value, train)
        else:  # a step that is traced has no values yet: the trainer plots those that it returns
            self.trainer.traced[key] = value  # type: ignore[attr-defined]

    @property
    def variables(self) -> list[Any]:
        """All variables, also a ``tf.Variable`` that Keras does not track."""
        own = [
            part
            for name, value in vars(self).items()
            if not name.startswith("_")
            for part in tf.nest.flatten(value)
            if isinstance(part, tf.Variable)
        ]
        return list({id(variable): variable for variable in [*super().variables, *own]}.values())


class Classifier(Module):
    """A model whose outputs are the logits of classes, the last axis.

    Example:
        >>> model, Y_hat, Y = Classifier(), tf.zeros((2, 4)), tf.constant([0, 1])
        >>> round(float(model.loss(Y_hat, Y)), 4), float(model.accuracy(Y_hat, Y))
        (1.3863, 0.5)
    """

    def loss(self, Y_hat: Tensor, Y: Tensor, averaged: bool = True) -> Tensor:
        """Cross-entropy in nats: the mean, or one for every prediction.

        Args:
            Y_hat: logits (…, V).
            Y: classes (…).
            averaged: whether to take the mean.
        """
        Y_hat, Y = tf.reshape(Y_hat, (-1, Y_hat.shape[-1])), tf.reshape(Y, (-1,))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(Y, tf.int64), Y_hat)
        return tf.reduce_mean(losses) if averaged else losses

    def accuracy(self, Y_hat: Tensor, Y: Tensor, averaged: bool = True) -> Tensor:
        """The share of logits (…, V) whose largest is the class in Y (…); or for every prediction 0 or 1."""
        predicted = tf.reshape(tf.argmax(Y_hat, axis=-1), (-1,))
        correct = tf.cast(predicted == tf.reshape(tf.cast(Y, tf.int64), (-1,)), tf.float32)
        return tf.reduce_mean(correct) if averaged else correct

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """Loss and accuracy of a batch."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss

    def layer_summary(self, X_shape: Sequence[int]) -> None:
        """Prints the output shape of each layer of ``self.net`` for random inputs of this shape."""
        X = tf.random.normal(X_shape)
        for layer in self.net.layers:
            X = layer(X)
            print(f"{type(layer).__name__} output shape:\t {X.shape}")
