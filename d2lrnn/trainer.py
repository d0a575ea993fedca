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
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any, Literal, SupportsFloat

from d2lrnn.adapter import Learner, State
from d2lrnn.data import DataModule
from d2lrnn.errors import DivergedError, SpecError
from d2lrnn.losses import bits_per_token, perplexity

#: How many steps a loss stays unread: enough for a device that works ahead, few enough to stop soon at a NaN.
_LAG = 8


@dataclass(frozen=True)
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


@dataclass
class History:
    """The epochs of a run so far, and how it ended.

    Attributes:
        epochs: one record an epoch.
        ended: ``"finished"``, or ``"interrupted"`` by Ctrl-C, or ``"diverged"`` (see `DivergedError`).
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    ended: Literal["finished", "interrupted", "diverged"] = "finished"

    def to_json(self) -> list[dict[str, Any]]:
        """The records as plain data; a number that is not finite becomes None."""
        return [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(e).items()}
            for e in self.epochs
        ]


class Trainer:
    """Trains a learner on data and keeps the history.

    Args:
        learner: the model to train, from `Backend.learner`.
        data: batches, from `d2lrnn.data`.
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
        on_step: Callable[[Progress], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        self.learner = learner
        self.data = data
        self.history = History()
        self._on_step = on_step
        self._on_epoch = on_epoch

    def fit(self, num_epochs: int) -> History:
        """Trains for `num_epochs` epochs, or until Ctrl-C.

        Ctrl-C lets the step under way end, validates, records the part of the epoch that was done and
        returns; a second one raises KeyboardInterrupt at once.

        Raises:
            SpecError: `num_epochs` is below 1.
            DivergedError: a loss was NaN or infinite. The learner holds the parameters that it had after the
                last whole epoch, and `history` the epochs up to there.
        """
        if num_epochs < 1:
            raise SpecError(f"the number of epochs is {num_epochs}: it must be at least 1")
        with _interrupt_flag() as interrupted:
            for epoch in range(1, num_epochs + 1):
                record = self._epoch(epoch, num_epochs, interrupted)
                if record is not None:
                    self.history.epochs.append(record)
                    if self._on_epoch:
                        self._on_epoch(record)
                if interrupted.is_set():
                    self.history.ended = "interrupted"
                    break
        return self.history

    def validate(self) -> tuple[float, int]:
        """The total cross-entropy of the validation part in nats, and its number of tokens."""
        totals = _Totals()
        state: State = None
        for batch in self.data.validation_batches():
            if state is None or not self.data.carries_state:
                state = self.learner.initial_state(len(batch.inputs))
            loss, state = self.learner.eval_step(batch, state)
            totals.add(loss, batch.num_tokens)
        return totals.read()

    def _epoch(self, epoch: int, num_epochs: int, interrupted: threading.Event) -> EpochRecord | None:
        """One epoch of training and its validation; None where Ctrl-C came before its first step."""
        learner, data = self.learner, self.data
        last_good, first_step = learner.export_parameters(), learner.step
        totals, state = _Totals(), None
        num_steps = data.num_train_batches
        started = time.perf_counter()
        try:
            for batch in data.train_batches(epoch):
                if interrupted.is_set():
                    break
                if state is None or not data.carries_state:
                    state = learner.initial_state(len(batch.inputs))
                result, state = learner.train_step(batch, state)
                totals.add(result.loss, batch.num_tokens)
                if self._on_step:
                    nats, tokens = totals.so_far
                    speed = tokens / (time.perf_counter() - started)
                    step = learner.step - first_step
                    self._on_step(
                        Progress(epoch, num_epochs, step, num_steps, perplexity(nats, tokens), speed)
                    )
            nats, tokens = totals.read()
        except _NotFiniteError as error:
            learner.import_parameters(last_good)
            learner.step = first_step
            self.history.ended = "diverged"
            step = first_step + error.index + 1
            raise DivergedError(
                f"the loss became {error.loss} at step {step} (epoch {epoch}): training stopped, and the "
                f"parameters are those of the last whole epoch. Try a smaller learning rate or clipping norm",
                step,
            ) from None
        learner.synchronize()
        seconds = time.perf_counter() - started
        if not tokens:
            return None
        val_nats, val_tokens = self.validate()
        return EpochRecord(
            epoch=epoch,
            train_perplexity=perplexity(nats, tokens),
            val_perplexity=perplexity(val_nats, val_tokens),
            train_bits_per_token=bits_per_token(nats, tokens),
            val_bits_per_token=bits_per_token(val_nats, val_tokens),
            tokens_per_second=tokens / seconds,
            num_steps=learner.step - first_step,
        )


class _NotFiniteError(Exception):
    """A loss that is not a finite number: its value, and the how-many-th of its epoch it was, from 0."""

    def __init__(self, loss: float, index: int) -> None:
        super().__init__(loss, index)
        self.loss, self.index = loss, index


class _Totals:
    """Sums losses in float64, reading each one `_LAG` steps after it was made."""

    def __init__(self) -> None:
        self._pending: deque[tuple[SupportsFloat, int]] = deque()
        self._nats, self._tokens, self._index = 0.0, 0, 0

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
            raise _NotFiniteError(value, self._index)
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
