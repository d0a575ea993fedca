"""The book's current edition on MXNet: data and trainer; what the tabs share is in `d2lrnn.book`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
from mxnet import autograd
from numpy.lib.stride_tricks import sliding_window_view

from d2lrnn.book import current_edition as book
from d2lrnn.data.vocabulary import TokenArray
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.devices import cpu, first_gpus
from d2lrnn_mxnet.gradients import clip
from d2lrnn_mxnet.layers import has_shape
from d2lrnn_mxnet.module import move, parameter_arrays
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


class Windows:
    """Windows of a text, the rows of (number of windows, T), made as MXNet's arrays when they are indexed.

    MXNet has no strided views. Only the text is stored: a copy of all windows would take T times its memory.

    Args:
        tokens: (n,).
        num_steps: T.

    Example:
        >>> windows = Windows(np.arange(100), num_steps=3)
        >>> windows.shape, windows[[0, 5]].tolist()
        ((98, 3), [[0, 1, 2], [5, 6, 7]])
    """

    def __init__(self, tokens: TokenArray, num_steps: int) -> None:
        self._rows = sliding_window_view(tokens, num_steps)
        self.shape = self._rows.shape

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Array:
        """The rows of an index, a slice or a list of indices, int32."""
        return on_device(self._rows[key], "int32", cpu())


class TensorLoader(book.TensorLoader):
    """Batches of rows; see `d2lrnn.book.current_edition.TensorLoader`."""

    batch = list

    def shuffled(self, rows: book.RowNumbers) -> book.RowNumbers:
        """The row numbers in an order drawn by MXNet."""
        return rows[mx.nd.random.shuffle(mx.nd.arange(len(rows), dtype="int64")).asnumpy()]


class DataModule(book.DataModule):
    """Data as two loaders; see `d2lrnn.book.current_edition.DataModule`."""

    tensor_loader = TensorLoader


class TimeMachine(book.NovelWindows, DataModule):
    """The windows of the novel *The Time Machine*; see `d2lrnn.book.current_edition.NovelWindows`.

    Windows are made when they are indexed: see `Windows`.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> X, Y = next(iter(data.train_dataloader()))
        >>> X.shape, len(data.vocab)
        ((1024, 32), 28)
    """

    def __init__(self, batch_size: int, num_steps: int, num_train: int = 10000, num_val: int = 5000) -> None:
        super().__init__()
        self.save_hyperparameters()
        corpus, self.vocab = self.build(self._download())
        tokens = self.check_windows(corpus)
        self.X, self.Y = Windows(tokens[:-1], num_steps), Windows(tokens[1:], num_steps)


@use_np
class Trainer(book.Trainer):
    """Trains a `Module` on a `DataModule`; see `d2lrnn.book.current_edition.Trainer`.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> model = RNNLMScratch(RNNScratch(len(data.vocab), 32), len(data.vocab), lr=1)
        >>> Trainer(max_epochs=2, gradient_clip_val=1).fit(model, data)
    """

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        super().__init__(max_epochs, num_gpus, gradient_clip_val)
        self.gpus = first_gpus(num_gpus)
        self.device = self.gpus[0] if self.gpus else cpu()

    def prepare_model(self, model: Any) -> None:
        """Moves the model to its device; layers infer the size of their inputs from a batch."""
        super().prepare_model(model)
        move(model, self.device)
        if not all(has_shape(parameter) for parameter in model.collect_params().values()):
            model(*self.prepare_batch(next(iter(self.train_dataloader)))[:-1])

    def prepare_batch(self, batch: Sequence[Array]) -> Sequence[Array]:
        """Moves a batch to the model's device."""
        return [array.as_in_ctx(self.device) for array in batch]

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scales the gradient down to a norm of at most `grad_clip_val`."""
        clip(parameter_arrays(model), grad_clip_val)

    def update(self, batch: Sequence[Array]) -> Array:
        """Loss, gradient, clip, update."""
        batch = self.prepare_batch(batch)
        with autograd.record():
            loss = self.model.training_step(batch)
        loss.backward()
        if self.gradient_clip_val > 0:
            self.clip_gradients(self.gradient_clip_val, self.model)
        self.optim.step(1)  # the loss is a mean already
        return loss.detach()

    def evaluate(self, batch: Sequence[Array]) -> Array | None:
        """The loss, without gradients or dropout."""
        return self.model.validation_step(self.prepare_batch(batch))

    def copy_parameters(self) -> list[tuple[Array, Array]]:
        """All parameters, each with a copy."""
        return [(array, array.copy()) for array in parameter_arrays(self.model)]

    def put_back_parameters(self, parameters: list[tuple[Array, Array]]) -> None:
        """Writes the copies over the parameters."""
        # Not over the model's arrays of now: a chapter's block can have kept results as attributes since.
        for array, value in parameters:
            array[:] = value


def seed_everything(seed: int) -> None:
    """Seeds MXNet's random number generators."""
    mx.random.seed(seed)
