"""The book's current edition on TensorFlow: data and trainer; what the tabs share is in `d2lrnn.book`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.book import current_edition as book
from d2lrnn_tensorflow.compiled import Compiled
from d2lrnn_tensorflow.gradients import clipped, dense
from d2lrnn_tensorflow.recurrence import Tensor


class TensorLoader(book.TensorLoader):
    """Batches of rows; see `d2lrnn.book.current_edition.TensorLoader`. Views are NumPy's."""

    def shuffled(self, rows: book.RowNumbers) -> book.RowNumbers:
        """The row numbers in an order drawn by TensorFlow."""
        return tf.random.shuffle(rows).numpy()

    def take(self, tensor: Any, rows: book.RowNumbers) -> Tensor:
        """The rows of a tensor or a NumPy array, as a tensor."""
        return tf.gather(tensor, rows) if tf.is_tensor(tensor) else tf.constant(tensor[rows])


class DataModule(book.DataModule):
    """Data as two loaders; see `d2lrnn.book.current_edition.DataModule`."""

    tensor_loader = TensorLoader


class TimeMachine(book.NovelWindows, DataModule):
    """The windows of the novel *The Time Machine*; see `d2lrnn.book.current_edition.NovelWindows`.

    Windows are NumPy's views of the text: TensorFlow has none.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> X, Y = next(iter(data.train_dataloader()))
        >>> X.shape, len(data.vocab)
        (TensorShape([1024, 32]), 28)
    """

    def __init__(self, batch_size: int, num_steps: int, num_train: int = 10000, num_val: int = 5000) -> None:
        super().__init__()
        self.save_hyperparameters()
        corpus, self.vocab = self.build(self._download())
        tokens = self.check_windows(corpus).astype(np.int32)
        windows = np.lib.stride_tricks.sliding_window_view(tokens, num_steps + 1)
        self.X, self.Y = windows[:, :-1], windows[:, 1:]


class Trainer(book.Trainer):
    """Trains a `Module` on a `DataModule`; see `d2lrnn.book.current_edition.Trainer`.

    TensorFlow itself computes on a GPU where there is one, whatever `num_gpus` is; ``with try_gpu():`` around
    model and training chooses the device.

    The library's own training and validation steps are compiled (`d2lrnn_tensorflow.compiled`): a `forward`
    from a chapter's cell is then traced, once for every shape of a batch. A step from a cell runs eagerly.

    Attributes:
        traced: the values that a step plots while it is traced, by key.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> model = RNNLMScratch(RNNScratch(len(data.vocab), 32), len(data.vocab), lr=1)
        >>> Trainer(max_epochs=2, gradient_clip_val=1).fit(model, data)
    """

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        super().__init__(max_epochs, num_gpus, gradient_clip_val)
        self.traced: dict[str, Tensor] = {}

    def prepare_model(self, model: Any) -> None:
        """Takes the model, and runs it on one row of a batch, so that its layers make their weights."""
        super().prepare_model(model)
        model.training = None
        first = self.prepare_batch(next(iter(self.train_dataloader)))
        model(*(tensor[:1] for tensor in first[:-1]))
        self._differentiate = _step(model.training_step, self._loss_and_gradients)
        self._validate = _step(model.validation_step, self._validation)

    def clip_gradients(self, grad_clip_val: float, grads: Sequence[Any]) -> list[Tensor]:
        """The gradients scaled down to a norm of at most `grad_clip_val`."""
        return clipped(grads, grad_clip_val)

    def update(self, batch: Sequence[Tensor]) -> Tensor:
        """Loss, gradient, clip, update."""
        self.model.training = True
        loss, gradients, plotted = self._differentiate(self.prepare_batch(batch))
        self._plot(plotted, train=True)
        pairs = zip(gradients, self.model.trainable_variables, strict=True)
        gradients, variables = zip(*(pair for pair in pairs if pair[0] is not None), strict=True)
        gradients = dense(gradients)
        if self.gradient_clip_val > 0:
            gradients = self.clip_gradients(self.gradient_clip_val, gradients)
        self.optim.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    def evaluate(self, batch: Sequence[Tensor]) -> Tensor | None:
        """The loss, without gradients or dropout."""
        self.model.training = False
        loss, plotted = self._validate(self.prepare_batch(batch))
        self._plot(plotted, train=False)
        return loss

    def copy_parameters(self) -> list[np.ndarray[Any, Any]]:
        """Copies of all variables."""
        return [variable.numpy() for variable in self.model.variables]

    def put_back_parameters(self, parameters: list[np.ndarray[Any, Any]]) -> None:
        """Copies them back into the model."""
        for variable, value in zip(self.model.variables, parameters, strict=True):
            variable.assign(value)

    def _loss_and_gradients(self, batch: Sequence[Tensor]) -> tuple[Tensor, list[Any], dict[str, Tensor]]:
        self.traced = {}
        with tf.GradientTape() as tape:
            loss = self.model.training_step(batch)
        return loss, tape.gradient(loss, self.model.trainable_variables), self.traced

    def _validation(self, batch: Sequence[Tensor]) -> tuple[Tensor | None, dict[str, Tensor]]:
        self.traced = {}
        return self.model.validation_step(batch), self.traced

    def _plot(self, plotted: dict[str, Tensor], train: bool) -> None:
        for key, value in plotted.items():
            self.model.plot(key, value, train)


def _step(step: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function around a model's step: compiled where the step is the library's."""
    # A step from a chapter's cell may print or count: compiled, it would do so once, not once a batch.
    return Compiled(function) if step.__module__.startswith("d2lrnn") else function


def seed_everything(seed: int) -> None:
    """Seeds the generators of TensorFlow and Keras, and those of Python and NumPy, which Keras uses."""
    keras.utils.set_random_seed(seed)
