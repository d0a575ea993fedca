"""The book's current edition on JAX: data and trainer; what the tabs share is in `d2lrnn.book`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from d2lrnn.book import current_edition as book
from d2lrnn.errors import SpecError
from d2lrnn_jax.devices import cpu, gpu, num_gpus
from d2lrnn_jax.gradients import clip
from d2lrnn_jax.module import TrainState, compiled_apply, get_key


class ArrayLoader(book.TensorLoader):
    """Batches of rows as NumPy arrays, which compiled functions take.

    See `d2lrnn.book.current_edition.TensorLoader`.
    """

    def __init__(self, tensors: Sequence[Any], rows: book.RowNumbers, batch_size: int, shuffle: bool) -> None:
        super().__init__([np.asarray(tensor) for tensor in tensors], rows, batch_size, shuffle)

    def shuffled(self, rows: book.RowNumbers) -> book.RowNumbers:
        """The row numbers in an order drawn by Python."""
        return np.random.default_rng(random.getrandbits(64)).permutation(rows)

    def take(self, tensor: npt.NDArray[Any], rows: book.RowNumbers) -> npt.NDArray[Any]:
        """The rows, a copy as for any list of rows: JAX may read them after the call has returned."""
        return tensor[rows]


class DataModule(book.DataModule):
    """Data as two loaders; see `d2lrnn.book.current_edition.DataModule`."""

    tensor_loader = ArrayLoader


class TimeMachine(book.NovelWindows, DataModule):
    """The windows of the novel *The Time Machine*; see `d2lrnn.book.current_edition.NovelWindows`.

    Windows are NumPy's views of the text: JAX has none.

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
        tokens = self.check_windows(corpus).astype(np.int32)
        windows = np.lib.stride_tricks.sliding_window_view(tokens, num_steps + 1)
        self.X, self.Y = windows[:, :-1], windows[:, 1:]


class Trainer(book.Trainer):
    """Trains a `Module` on a `DataModule`; see `d2lrnn.book.current_edition.Trainer`.

    The steps that a chapter's cells define run uncompiled, once a batch. Compiled are the model's function
    (``state.apply_fn``, with its gradient), the loss of a `Classifier`, clipping and update.

    Attributes:
        state: parameters, optimizer state and dropout key after the last step.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> model = RNNLMScratch(RNNScratch(len(data.vocab), 32), len(data.vocab), lr=1)
        >>> trainer = Trainer(max_epochs=2, gradient_clip_val=1)
        >>> trainer.fit(model, data)
        >>> model.predict("it has", 10, data.vocab, trainer.state.params)  # doctest: +SKIP
    """

    state: TrainState

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        super().__init__(max_epochs, num_gpus, gradient_clip_val)
        self.gpus = _first_gpus(num_gpus)
        self.device = self.gpus[0] if self.gpus else cpu()

    def fit(self, model: Any, data: Any, key: jax.Array | None = None) -> None:
        """Trains for `max_epochs` epochs, from new parameters.

        Args:
            model: a `Module`.
            data: a `DataModule`.
            key: the random key of parameters and dropout; None takes a new one.

        Raises:
            DivergedError: a loss was NaN or infinite; `state` is the one from before that epoch.
        """
        self._key = get_key() if key is None else key
        super().fit(model, data)

    def prepare_model(self, model: Any) -> None:
        """Makes the model's parameters for the shapes of a batch, and puts them on the device."""
        super().prepare_model(model)
        params_key, dropout_key = jax.random.split(self._key)
        inputs = self.prepare_batch(next(iter(self.train_dataloader)))[:-1]
        variables = model.apply_init(inputs, key={"params": params_key, "dropout": dropout_key})
        # A model is applied in two ways, with and without dropout: each is a function of its own.
        self._apply = {training: compiled_apply(model) for training in (True, False)}
        state = TrainState.create(
            apply_fn=self._apply[False],
            params=variables["params"],
            tx=model.configure_optimizers(),
            dropout_rng=dropout_key,
        )
        self.state = jax.device_put(state, self.device)

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Moves a batch to the model's device."""
        return [jax.device_put(array, self.device) for array in batch]

    def clip_gradients(self, grad_clip_val: float, grads: Any) -> Any:
        """The gradients, scaled down to a norm of at most `grad_clip_val`."""
        return _clip(grads, grad_clip_val)

    def update(self, batch: Sequence[Any]) -> jax.Array:
        """Loss and gradient, clip, update.

        Raises:
            SpecError: the model's ``training_step`` does not return a loss and a gradient.
        """
        self._set_training(True)
        # By default a GPU multiplies float32 in fewer bits (TF32).
        with jax.default_matmul_precision("highest"):
            result = self.model.training_step(self.state.params, self.prepare_batch(batch), self.state)
            if not isinstance(result, tuple) or len(result) != 2:
                raise SpecError(
                    f"{type(self.model).__name__}.training_step must return a loss and the gradient of the "
                    f"parameters, as jax.value_and_grad does, and returned {type(result).__name__}"
                )
            value, gradient = result
            if self.gradient_clip_val > 0:
                gradient = self.clip_gradients(self.gradient_clip_val, gradient)
            self.state = _updated(self.state, gradient)
        return _loss_of(value)

    def evaluate(self, batch: Sequence[Any]) -> jax.Array | None:
        """The loss, without gradients or dropout."""
        self._set_training(False)
        with jax.default_matmul_precision("highest"):
            value = self.model.validation_step(self.state.params, self.prepare_batch(batch), self.state)
        return None if value is None else _loss_of(value)

    def copy_parameters(self) -> TrainState:
        """The state itself: a step makes a new one, and JAX's arrays are immutable."""
        return self.state

    def put_back_parameters(self, parameters: TrainState) -> None:
        """Restores that state."""
        self.state = parameters

    def _set_training(self, training: bool) -> None:
        """Sets the model's field of that name, and the function that was compiled for it."""
        self.model.training = training
        self.state = self.state.replace(apply_fn=self._apply[training])


def _first_gpus(most: int) -> list[jax.Device]:
    return [gpu(i) for i in range(min(most, num_gpus()))]


_clip = jax.jit(clip)


@jax.jit
def _updated(state: TrainState, gradient: Any) -> TrainState:
    """The state after a step of the optimizer, with a new dropout key."""
    key, _ = jax.random.split(state.dropout_rng)
    return state.apply_gradients(grads=gradient, dropout_rng=key)


def _loss_of(value: Any) -> jax.Array:
    """The loss, of a pair with auxiliary data the first."""
    return value[0] if isinstance(value, tuple) else value


def seed_everything(seed: int) -> None:
    """Seeds Python's generator, which draws the keys of `get_key` and the order of batches."""
    random.seed(seed)
