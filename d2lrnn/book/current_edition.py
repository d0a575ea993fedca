"""The book's current edition, as far as no framework is in it.

How a tab is made of this. What is here is the logic that the tabs share; a backend's ``module.py`` and
``book.py`` put its framework under it, and its ``__init__`` offers the book's names (`d2lrnn.book.tab`):

- ``Module(current_edition.Module, <the framework's module>)``: adds ``forward``, ``configure_optimizers`` and
  `Module.detach`. The library's own models derive from it, so that they are the book's modules too.
- ``Classifier(Module)``: ``loss``, ``accuracy``, ``layer_summary``. ``RNNLMScratch(Classifier)`` has steps
  that plot ``"ppl"``, and ``predict``, which hands `d2lrnn.generation.generate` a `Predictor`.
- ``DataModule(current_edition.DataModule)`` with its `TensorLoader`, which shuffles and takes rows.
  ``TimeMachine(NovelWindows, DataModule)``: a constructor with the book's arguments.
- ``Trainer(current_edition.Trainer)``: ``prepare_model``, ``prepare_batch``, ``clip_gradients``, which cells
  override, and what a step is: `Trainer.update`, `Trainer.evaluate`, `Trainer.copy_parameters`,
  `Trainer.put_back_parameters`. The loop is the core's: `d2lrnn.training.epoch.run_epoch`.
- ``tensors.py``: the tensor helpers, the framework's own functions where they agree with the book's use.
- ``first_edition.py``: the first edition, see `d2lrnn.book.first_edition`.
- ``seed_everything(seed)``: seeds the framework's random numbers; the runner of chapters calls it.

Cells patch these classes with `add_to_class`. The runner of chapters restores every class at the end of a
chapter.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, SupportsFloat, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from d2lrnn.book.figures import ProgressBoard, arithmetic_mean, geometric_mean
from d2lrnn.contract.values import State
from d2lrnn.data.batches import SlidingWindows
from d2lrnn.data.corpus import normalize
from d2lrnn.data.downloads import cache_folder
from d2lrnn.data.time_machine import time_machine_text
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError
from d2lrnn.training.epoch import RunningEpoch, Scored, run_epoch, total_loss
from d2lrnn.training.history import EpochRecord
from d2lrnn.training.interrupts import interrupt_flag

#: The numbers of rows (n,).
RowNumbers: TypeAlias = npt.NDArray[np.int64]

_Object = TypeVar("_Object", bound=Callable[..., Any])

# What the book calls perplexity. Its mean over batches is a geometric one: see `d2lrnn.training.metrics`.
_PERPLEXITY = "ppl"


def add_to_class(Class: type) -> Callable[[_Object], _Object]:
    """A decorator that makes a function a method of a class that exists already.

    Example:
        >>> class A: pass
        >>> @add_to_class(A)
        ... def double(self, x): return 2 * x
        >>> A().double(4)
        8
    """

    def add(function: _Object) -> _Object:
        setattr(Class, function.__name__, function)
        return function

    return add


class HyperParameters:
    """Gives a class `save_hyperparameters`.

    Attributes:
        hparams: by name what was saved.
    """

    hparams: dict[str, Any]

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Makes attributes of the arguments of the method that calls this, and of its local variables.

        Args:
            ignore: names to leave out; so are those that begin with an underscore.

        Example:
            >>> class A(HyperParameters):
            ...     def __init__(self, units, rate=0.1):
            ...         twice = 2 * units
            ...         self.save_hyperparameters(ignore=["rate"])
            >>> A(32).hparams
            {'units': 32, 'twice': 64}
        """
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        self.hparams = {
            name: value
            for name, value in frame.f_back.f_locals.items()
            if value is not self and name not in ignore and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)


class Module(HyperParameters):
    """A model with its loss, its steps and its board.

    A tab puts its framework's module behind this class, and adds ``forward`` and ``configure_optimizers``.

    Args:
        plot_train_per_epoch: how many points an epoch gets on the board for training.
        plot_valid_per_epoch: and for validation.

    Attributes:
        board: the curves of the training.
        trainer: the `Trainer` that trains it, from `Trainer.prepare_model` on.
    """

    trainer: Trainer

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.board = ProgressBoard()

    def loss(self, y_hat: Any, y: Any) -> Any:
        """The mean loss of a batch.

        Raises:
            NotImplementedError: the model has no loss of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method loss(self, y_hat, y)")

    def training_step(self, batch: Sequence[Any]) -> Any:
        """The loss of a batch ``(inputs …, targets)``, to learn from."""
        loss = self.loss(self(*batch[:-1]), batch[-1])  # type: ignore[operator]
        self.plot("loss", loss, train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> Any:
        """The loss of a batch, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])  # type: ignore[operator]
        self.plot("loss", loss, train=False)
        return loss

    def plot(self, key: str, value: Any, train: bool) -> None:
        """Puts a batch's value on the board; the points are means over many tokens, each counted once.

        Args:
            key: what it is; ``"ppl"`` is perplexity, of which batches have a geometric mean.
            value: a number, or the framework's array without dimensions.
            train: whether it comes from training.

        Raises:
            SpecError: no trainer is at work.
        """
        trainer = getattr(self, "trainer", None)
        if trainer is None:
            raise SpecError(
                f"{type(self).__name__}.plot needs a trainer: call it from a step that Trainer.fit runs"
            )
        value = self.detach(value)
        self.board.xlabel = "epoch"
        if train:
            x = trainer.train_batch_idx / trainer.num_train_batches
            every_n = trainer.num_train_batches // self.plot_train_per_epoch  # type: ignore[attr-defined]
        else:
            x = trainer.epoch + 1
            every_n = trainer.num_val_batches // self.plot_valid_per_epoch  # type: ignore[attr-defined]
            trainer.logged[key] = value
        self.board.draw(
            x,
            value,
            ("train_" if train else "val_") + key,
            every_n=max(1, every_n),
            weight=trainer.batch_tokens,
            mean=geometric_mean if key == _PERPLEXITY else arithmetic_mean,
        )

    def detach(self, value: Any) -> SupportsFloat:
        """The value without the graph that it came from, still on its device."""
        number: SupportsFloat = value
        return number


class TensorLoader:
    """Batches of rows that belong together; each walk is an epoch. A tab adds `shuffled`, and `take`.

    Args:
        tensors: what has rows, also views: what is written out is the batch alone.
        rows: the numbers of the rows to take (n,).
        batch_size: B; the last batch has what is left.
        shuffle: whether each epoch has an order of its own.
    """

    #: What a batch is, a tuple or a list: as the book's loaders have it on this tab.
    batch: type[tuple[Any, ...]] | type[list[Any]] = tuple

    def __init__(self, tensors: Sequence[Any], rows: RowNumbers, batch_size: int, shuffle: bool) -> None:
        self._tensors, self._rows, self._batch_size, self._shuffle = tensors, rows, batch_size, shuffle

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        rows = self.shuffled(self._rows) if self._shuffle else self._rows
        for first in range(0, len(rows), self._batch_size):
            chosen = rows[first : first + self._batch_size]
            yield self.batch(self.take(tensor, chosen) for tensor in self._tensors)

    def shuffled(self, rows: RowNumbers) -> RowNumbers:
        """The rows in another order, by the random numbers that the tab's ``seed_everything`` seeds."""
        raise NotImplementedError

    def take(self, tensor: Any, rows: RowNumbers) -> Any:
        """These rows of one of the tensors, (B, …)."""
        return tensor[rows]


class DataModule(HyperParameters):
    """Data as two loaders. A tab adds its `TensorLoader`, a subclass `batch_size`.

    Args:
        root: the folder of the data; None is the user's cache, where the book has ``"../data"``.
        num_workers: kept as an attribute; loaders here cut batches out of memory and need none.
    """

    batch_size: int
    #: The tab's.
    tensor_loader: type[TensorLoader]

    def __init__(self, root: str | None = None, num_workers: int = 4) -> None:
        # A user without a home has no cache: for data that is not fetched there need not be one.
        root = root or str(cache_folder() or "../data")
        self.save_hyperparameters()

    def get_tensorloader(
        self, tensors: Sequence[Any], train: bool, indices: slice | Sequence[int] = slice(0, None)
    ) -> Any:
        """Batches of ``self.batch_size`` rows.

        Args:
            tensors: rows that belong together, also views.
            train: whether to shuffle them anew each time.
            indices: which rows.
        """
        rows = np.arange(len(tensors[0]))[indices]
        return self.tensor_loader(tensors, rows, self.batch_size, train)

    def get_dataloader(self, train: bool) -> Any:
        """The loader of the training or the validation part.

        Raises:
            NotImplementedError: the data has no loader of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method get_dataloader(self, train)")

    def train_dataloader(self) -> Any:
        """The training batches, in another order each time."""
        return self.get_dataloader(train=True)

    def val_dataloader(self) -> Any:
        """The validation batches, in order."""
        return self.get_dataloader(train=False)


class NovelWindows:
    """The windows of the novel *The Time Machine*, characters: what a tab's ``TimeMachine`` is made of.

    A mixin before the tab's `DataModule`. Its constructor takes and saves the four numbers, builds corpus and
    `vocab`, and makes ``X`` and ``Y`` of what `check_windows` returns, views where the framework has them.

    Args:
        batch_size: B.
        num_steps: T.
        num_train: how many windows to train on.
        num_val: how many to validate with: those that begin behind the training text.

    Attributes:
        X: (number of windows, T).
        Y: the same, one character later.
        vocab: what the indices mean.

    Raises:
        SpecError: a number is below 1.
        TextError: the novel cannot be had, or has not so many windows.
    """

    X: Any
    Y: Any
    vocab: Vocab
    batch_size: int
    num_steps: int
    num_train: int
    num_val: int
    get_tensorloader: Callable[..., Any]

    def _download(self) -> str:
        return time_machine_text()

    def _preprocess(self, text: str) -> str:
        return normalize(text)

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def build(self, raw_text: str, vocab: Vocab | None = None) -> tuple[list[int], Vocab]:
        """The tokens of a text as indices, and their vocabulary.

        Args:
            raw_text: a text, which `_preprocess` and `_tokenize` take apart.
            vocab: a vocabulary to encode with; None makes the text's own.
        """
        text = self._preprocess(raw_text)
        tokens = self._tokenize(text)
        if vocab is None:
            vocab = Vocab(tokens)
            # A cell may have put another `_preprocess` in place, whose text is what the model learns.
            vocab.lower = text != raw_text and text == text.lower()
        if isinstance(vocab, Vocab):
            return vocab.encode(tokens).tolist(), vocab
        return [vocab[token] for token in tokens], vocab  # a chapter's own

    def check_windows(self, corpus: Sequence[int]) -> npt.NDArray[np.int64]:
        """The corpus as an array (n,); it has the windows that were asked for.

        Raises:
            SpecError: a number is below 1.
            TextError: it is too short for them.
        """
        tokens = np.asarray(corpus, np.int64)
        SlidingWindows(
            tokens,
            batch_size=self.batch_size,
            num_steps=self.num_steps,
            num_train=self.num_train,
            num_val=self.num_val,
        )
        return tokens

    def get_dataloader(self, train: bool) -> Any:
        """Batches of windows: the first for training; for validation those that share no text with them."""
        first = 0 if train else self.num_train + self.num_steps
        count = self.num_train if train else self.num_val
        return self.get_tensorloader([self.X, self.Y], train, slice(first, first + count))


class Trainer(HyperParameters):
    """Trains a `Module` on a `DataModule`.

    Cells override any method. A tab adds what a step is on its framework: the methods that raise here.

    Args:
        max_epochs: how many epochs `fit` takes.
        num_gpus: how many GPUs to use at most: none, or one where there is one.
        gradient_clip_val: the largest norm that the gradient may have; 0 never clips.

    Attributes:
        history: a record of every epoch that the library's own `fit_epoch` ran.
        batch_tokens: the number of targets in the batch under way.
        logged: by key, what the validation step of that batch plotted.
        train_batch_idx: training steps taken so far; `epoch` and `val_batch_idx` count likewise.

    Raises:
        SpecError: `max_epochs` is below 1.
    """

    max_epochs: int
    num_gpus: int
    gradient_clip_val: float

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        self.save_hyperparameters()
        if max_epochs < 1:
            raise SpecError(f"max_epochs is {max_epochs}: it must be at least 1")
        self.history: list[EpochRecord] = []
        self.logged: dict[str, SupportsFloat] = {}
        self.batch_tokens = 1

    def prepare_data(self, data: Any) -> None:
        """Takes the loaders of `data`."""
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = 0 if self.val_dataloader is None else len(self.val_dataloader)

    def prepare_model(self, model: Any) -> None:
        """Takes the model, and gives it its place on the device."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """A batch as the model's steps get it."""
        return batch

    def fit(self, model: Any, data: Any) -> None:
        """Trains for `max_epochs` epochs.

        Raises:
            DivergedError: a loss was NaN or infinite; the model has the parameters from before that epoch.
        """
        self.prepare_data(data)
        self.prepare_model(model)
        self.optim = model.configure_optimizers()
        self.train_batch_idx = self.val_batch_idx = 0
        self.history = []
        for epoch in range(self.max_epochs):
            self.epoch = epoch
            self.fit_epoch()

    def fit_epoch(self) -> None:
        """One epoch: training, then validation, by the core's loop."""
        parameters = self.copy_parameters()
        validation: Iterable[Any] = () if self.val_dataloader is None else self.val_dataloader
        with interrupt_flag(reraise=True) as interrupted:
            record = run_epoch(
                RunningEpoch(len(self.history) + 1, self.train_batch_idx),
                self.train_dataloader,
                self._train_step,
                validate=lambda: total_loss(validation, self._eval_step),
                rollback=lambda: self.put_back_parameters(parameters),
                interrupted=interrupted.is_set,
            )
        assert record is not None  # an interrupt is raised by now
        self.history.append(record)

    def _train_step(self, batch: Sequence[Any], state: State) -> Scored:
        self.batch_tokens = num_targets(batch)
        loss = self.update(batch)
        self.train_batch_idx += 1
        return Scored(loss, self.batch_tokens)

    def _eval_step(self, batch: Sequence[Any], state: State) -> Scored:
        self.batch_tokens = num_targets(batch)
        self.logged.clear()
        loss = self.evaluate(batch)
        self.val_batch_idx += 1
        # The book's own steps return none.
        loss = self._logged_loss() if loss is None else loss
        return Scored(0.0, 0) if loss is None else Scored(loss, self.batch_tokens)

    def _logged_loss(self) -> SupportsFloat | None:
        """The loss that the validation step plotted, if it did."""
        if _PERPLEXITY in self.logged:
            return math.log(float(self.logged[_PERPLEXITY]))
        return self.logged.get("loss")

    def clip_gradients(self, grad_clip_val: float, model: Any) -> Any:
        """Scales the gradient down to a norm of at most `grad_clip_val`: `clip_scale`."""
        raise NotImplementedError

    def update(self, batch: Sequence[Any]) -> SupportsFloat:
        """The loss of ``training_step`` on a prepared batch, and the step: gradient, clip, update."""
        raise NotImplementedError

    def evaluate(self, batch: Sequence[Any]) -> SupportsFloat | None:
        """What ``validation_step`` returns for a prepared batch."""
        raise NotImplementedError

    def copy_parameters(self) -> Any:
        """The model's parameters, to come back to where the training diverges."""
        raise NotImplementedError

    def put_back_parameters(self, parameters: Any) -> None:
        """Replaces the model's parameters by what `copy_parameters` returned."""
        raise NotImplementedError


def sole_state(state: State) -> State:
    """The state H (B, h) of a layer that has no other, as chapters hand it over.

    The book's own layers take it packed: ``(H,)``, or an array (1, B, h).
    """
    if isinstance(state, (tuple, list)):
        (state,) = state
    elif len(getattr(state, "shape", ())) == 3:
        state = state[0]
    return state


def num_targets(batch: Sequence[Any]) -> int:
    """How many targets a batch ``(inputs …, targets)`` has."""
    return math.prod(batch[-1].shape)


def check_len(a: Any, n: int) -> None:
    """Raises AssertionError where `a` has not n entries."""
    assert len(a) == n, f"length {len(a)}, not {n}"


def check_shape(a: Any, shape: Sequence[int]) -> None:
    """Raises AssertionError where `a` has not this shape."""
    assert tuple(a.shape) == tuple(shape), f"shape {tuple(a.shape)}, not {tuple(shape)}"
