"""The training loop: the same for every backend, because the step is the backend's and the loop is not.

Top to bottom in the order in which it happens: an epoch of training steps, an epoch of validation, a record
of both. Nothing waits for the device inside an epoch: losses stay native scalars and are read a few steps
after they were asked for, when they are long done.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from types import FrameType
from typing import Any, Literal, SupportsFloat

from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import Batch, State, StateArrays
from d2lrnn.data.batches import DataModule
from d2lrnn.errors import DivergedError, SpecError
from d2lrnn.training.metrics import bits_per_token, perplexity

#: How many steps a loss stays unread: enough for a device that works ahead, few enough to stop soon at a NaN.
_LAG = 8


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch came to.

    Attributes:
        epoch: counted from 1.
        train_perplexity: over the tokens of the epoch, each scored before the update that learned from it.
        val_perplexity: over the validation tokens, after the epoch.
        train_bits_per_token: the cross-entropy in bits; bits per character for a character model.
        val_bits_per_token: likewise.
        tokens_per_second: training tokens by the time that training took, validation not counted.
        num_steps: training steps of this epoch; fewer than an epoch has where it was interrupted.
    """

    epoch: int
    train_perplexity: float
    val_perplexity: float
    train_bits_per_token: float
    val_bits_per_token: float
    tokens_per_second: float
    num_steps: int


@dataclass(frozen=True)
class Progress:
    """Where a run is, after a training step: what a progress bar shows."""

    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    perplexity: float
    tokens_per_second: float


@dataclass(frozen=True)
class EpochPart:
    """The part of an epoch that is done, to the last bit that the rest of it depends on.

    Attributes:
        num_batches: how many batches were trained on.
        nats: their total cross-entropy.
        num_tokens: their targets.
        seconds: how long that took.
        state: the state after them, where batches continue each other (`DataModule.carries_state`).
    """

    num_batches: int
    nats: float
    num_tokens: int
    seconds: float
    state: StateArrays | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Position:
    """Where a run stands: with the parameters, all that is needed to go on as if it had never stopped.

    The order of the batches and the dropout masks follow from seeds and these numbers; SGD has no memory.

    Attributes:
        step: training steps taken.
        epochs: the whole epochs.
        part: the epoch under way, where there is one.
    """

    step: int = 0
    epochs: tuple[EpochRecord, ...] = ()
    part: EpochPart | None = None


@dataclass
class History:
    """The epochs of a run so far, and how it ended.

    Attributes:
        epochs: one record a whole epoch.
        cut_short: the record of the epoch that Ctrl-C cut short; it is done anew, or to its end, when the
            run goes on.
        ended: ``"finished"``, or ``"interrupted"`` by Ctrl-C, or ``"diverged"`` (see `DivergedError`).
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    cut_short: EpochRecord | None = None
    ended: Literal["finished", "interrupted", "diverged"] = "finished"

    @property
    def records(self) -> list[EpochRecord]:
        """The whole epochs and, last, the one that was cut short."""
        return self.epochs + ([self.cut_short] if self.cut_short else [])

    def to_json(self) -> list[dict[str, Any]]:
        """All records as plain data; a number that is not finite becomes None."""
        return [record_to_json(record) for record in self.records]


def record_to_json(record: EpochRecord) -> dict[str, Any]:
    """A record as plain data; a number that is not finite becomes None."""
    values = asdict(record).items()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values}


class Trainer:
    """Trains a learner on data and keeps the history.

    Args:
        learner: the model to train, from `Backend.learner`.
        data: batches, from `d2lrnn.data.batches`.
        position: where to go on; the learner has the parameters that belong to it, and is set to its step.
        on_step: called after every training step.
        on_epoch: called after every epoch with its record, and after the epoch that Ctrl-C cut short: the
            place to save a run.

    Example:
        >>> trainer = Trainer(learner, data)                        # doctest: +SKIP
        >>> trainer.fit(num_epochs=10).epochs[-1].val_perplexity    # doctest: +SKIP
        8.9
    """

    def __init__(
        self,
        learner: Learner,
        data: DataModule,
        *,
        position: Position | None = None,
        on_step: Callable[[Progress], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        self.learner = learner
        self.data = data
        self.history = History()
        # Its state is the backend's own; `position` gives it as arrays.
        self._part: EpochPart | None = None
        self._running: _Epoch | None = None
        if position is not None:
            learner.step = position.step
            self.history.epochs = list(position.epochs)
            self._part = position.part
            if self._part is not None and self._part.state is not None:
                self._part = replace(self._part, state=learner.import_state(self._part.state))
        self._on_step = on_step
        self._on_epoch = on_epoch

    def position(self) -> Position:
        """Where the run stands now; `on_step` and `on_epoch` may ask, too. Waits for the losses under way."""
        part = self._running.part() if self._running else self._part
        if part is not None and part.state is not None:
            part = replace(part, state=self.learner.export_state(part.state))
        return Position(self.learner.step, tuple(self.history.epochs), part)

    def fit(self, num_epochs: int) -> History:
        """Trains until the run has `num_epochs` whole epochs, or until Ctrl-C.

        Ctrl-C lets the step under way end, validates, records the part of the epoch that was done and
        returns; a second one raises KeyboardInterrupt at once. A further `fit` goes on from there.

        Raises:
            SpecError: `num_epochs` is below 1, or the data has no batch.
            DivergedError: a loss was NaN or infinite. The learner holds the parameters that it had after the
                last whole epoch, or where this call began, and `history` the epochs up to there.
        """
        if num_epochs < 1:
            raise SpecError(f"the number of epochs is {num_epochs}: it must be at least 1")
        self.history.ended = "finished"
        with _interrupt_flag() as interrupted:
            while len(self.history.epochs) < num_epochs:
                self.history.cut_short = None
                record = self._epoch(len(self.history.epochs) + 1, num_epochs, interrupted)
                if record is not None:
                    if self._part is None:
                        self.history.epochs.append(record)
                    else:
                        self.history.cut_short = record
                    if self._on_epoch:
                        self._on_epoch(record)
                if interrupted.is_set():
                    self.history.ended = "interrupted"
                    break
        return self.history

    def validate(self) -> tuple[float, int]:
        """The total cross-entropy of the validation part in nats, and its number of tokens.

        Raises:
            DivergedError: it is NaN or infinite.
        """
        try:
            return self._validate()
        except _NotFiniteError as error:
            raise DivergedError(f"the validation loss is {error.loss}", self.learner.step) from None

    def _validate(self) -> tuple[float, int]:
        totals = _Totals(validation=True)
        state: State = None
        for batch in self.data.validation_batches():
            if state is None or not self.data.carries_state:
                state = self.learner.initial_state(len(batch.inputs))
            loss, state = self.learner.eval_step(batch, state)
            totals.add(loss, batch.num_tokens)
        return totals.read()

    def _epoch(self, number: int, num_epochs: int, interrupted: threading.Event) -> EpochRecord | None:
        """An epoch, or the rest of it, and its validation; None where Ctrl-C came before its first step."""
        learner, data = self.learner, self.data
        last_good, first_step = learner.export_parameters(), learner.step
        running = self._running = _Epoch(learner, data, self._part)
        whole = True
        try:
            for batch in islice(data.train_batches(number), running.num_batches, None):
                if interrupted.is_set():
                    whole = False
                    break
                running.train(batch)
                if self._on_step:
                    nats, tokens = running.totals.so_far
                    ppl, speed = perplexity(nats, tokens), tokens / running.seconds
                    self._on_step(
                        Progress(number, num_epochs, running.num_batches, data.num_train_batches, ppl, speed)
                    )
            nats, tokens = running.totals.read()
            learner.synchronize()
            seconds = running.seconds
            if whole and not running.num_batches:
                raise SpecError("the training data gave no batch: take more data or a smaller batch size")
            if not running.num_batches:
                return None
            val_nats, val_tokens = self._validate()
        except _NotFiniteError as error:
            learner.import_parameters(last_good)
            step = learner.step if error.index is None else first_step + error.index + 1
            learner.step = first_step
            self.history.ended = "diverged"
            since = "where training was resumed" if self._part else "the last whole epoch"
            raise DivergedError(
                f"the loss became {error.loss} at step {step} (epoch {number}): training stopped, and the "
                f"parameters are those of {since}. Try a smaller learning rate or clipping norm",
                step,
            ) from None
        finally:
            self._running = None
        self._part = None if whole else running.part()
        return EpochRecord(
            epoch=number,
            train_perplexity=perplexity(nats, tokens),
            val_perplexity=perplexity(val_nats, val_tokens),
            train_bits_per_token=bits_per_token(nats, tokens),
            val_bits_per_token=bits_per_token(val_nats, val_tokens),
            tokens_per_second=tokens / seconds,
            num_steps=running.num_batches,
        )


class _Epoch:
    """The epoch under way: the losses so far, and the state that is carried from batch to batch."""

    def __init__(self, learner: Learner, data: DataModule, done: EpochPart | None) -> None:
        self._learner, self._data = learner, data
        self.num_batches = done.num_batches if done else 0
        self.totals = _Totals(done.nats, done.num_tokens) if done else _Totals()
        self._state: State = done.state if done else None
        self._started = time.perf_counter() - (done.seconds if done else 0.0)

    @property
    def seconds(self) -> float:
        """How long the epoch has been trained."""
        return time.perf_counter() - self._started

    def train(self, batch: Batch) -> None:
        """One step."""
        if self._state is None or not self._data.carries_state:
            self._state = self._learner.initial_state(len(batch.inputs))
        result, self._state = self._learner.train_step(batch, self._state)
        self.totals.add(result.loss, batch.num_tokens)
        self.num_batches += 1

    def part(self) -> EpochPart:
        """What is done, with all losses read; the state is the backend's own."""
        nats, num_tokens = self.totals.read()
        state = self._state if self._data.carries_state else None
        return EpochPart(self.num_batches, nats, num_tokens, self.seconds, state)


class _NotFiniteError(Exception):
    """A loss that is not finite: its value, and of training the step that it was of, counted from 0."""

    def __init__(self, loss: float, index: int | None) -> None:
        super().__init__(loss, index)
        self.loss, self.index = loss, index


class _Totals:
    """Sums losses in float64, reading each one `_LAG` steps after it was made."""

    def __init__(self, nats: float = 0.0, num_tokens: int = 0, *, validation: bool = False) -> None:
        self._validation = validation
        self._pending: deque[tuple[SupportsFloat, int]] = deque()
        self._nats, self._tokens, self._index = nats, num_tokens, 0

    def add(self, loss: SupportsFloat, num_tokens: int) -> None:
        self._pending.append((loss, num_tokens))
        if len(self._pending) > _LAG:
            self._read_one()

    @property
    def so_far(self) -> tuple[float, int]:
        """What has been read; the first loss is read at once, so that there is something to show."""
        if self._pending and not self._tokens:
            self._read_one()
        return self._nats, self._tokens

    def read(self) -> tuple[float, int]:
        """All of it: waits for what is still on its way."""
        while self._pending:
            self._read_one()
        return self._nats, self._tokens

    def _read_one(self) -> None:
        loss, num_tokens = self._pending.popleft()
        value = float(loss)
        if not math.isfinite(value):
            raise _NotFiniteError(value, None if self._validation else self._index)
        self._nats += value * num_tokens
        self._tokens += num_tokens
        self._index += 1


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a flag, so that no step is cut in two; the second one interrupts as ever.

    Signals belong to the main thread: elsewhere the flag is never set and Ctrl-C is somebody else's.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def first_interrupt(signum: int, frame: FrameType | None) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, first_interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
