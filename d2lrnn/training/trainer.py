"""The trainer: epochs of a learner on data, the history of them, and where the run stands.

The same for every backend, because the step is the backend's and the loop (`d2lrnn.training.epoch`) is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from d2lrnn.checks import check_learner, whole_number
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import Batch, State
from d2lrnn.data.batches import DataModule
from d2lrnn.data.coverage import Coverage, count_targets, coverage_of, vocab_of
from d2lrnn.data.rows import parts_of
from d2lrnn.errors import DivergedError
from d2lrnn.training.callbacks import Callback
from d2lrnn.training.epoch import RunningEpoch, Scored, run_epoch, total_loss
from d2lrnn.training.history import EpochPart, EpochRecord, History, Position, Progress
from d2lrnn.training.interrupts import interrupt_flag
from d2lrnn.training.losses import NotFiniteError
from d2lrnn.training.metrics import perplexity
from d2lrnn.training.notebook import LiveFigure, current_cell, sample_of
from d2lrnn.training.places import place_of
from d2lrnn.workers.parts import Part


class Trainer:
    """Trains a learner on data and keeps the history.

    Args:
        learner: the model to train, from `Backend.learner`.
        data: batches, from `d2lrnn.data.batches`.
        position: where to go on; the learner has the parameters and the optimiser's state that belong to it,
            and is set to its step.
        on_step: called after every training step.
        on_epoch: called after every epoch with its record, and after the epoch that Ctrl-C cut short: the
            place to save a run.
        callbacks: what is called at the same moments, in this order, before those two.
        plot: whether a notebook shows the perplexity by epoch as a figure while `fit` runs, where matplotlib
            is installed, and a sample with the history. Outside a notebook nothing is shown.

    Attributes:
        place: alone, or one of several workers.
        coverage: what the validation targets are in the text, after a validation; None where the data know no
            vocabulary.

    Raises:
        KindError: `learner` is a model and no learner.

    Example:
        >>> from d2lrnn import ModelSpec, SlidingWindows, TrainingSpec, backend
        >>> from d2lrnn import initial_parameters, load_corpus
        >>> corpus, numpy = load_corpus("sample"), backend("numpy")
        >>> spec = ModelSpec(len(corpus.vocab), num_hiddens=8)
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> data = SlidingWindows(corpus, batch_size=64, num_steps=10, num_train=640, num_val=128)
        >>> trainer = Trainer(learner, data)
        >>> first, second = trainer.fit(num_epochs=2).epochs
        >>> second.num_steps, second.val_perplexity < first.val_perplexity < len(corpus.vocab)
        (10, True)
    """

    def __init__(
        self,
        learner: Learner,
        data: DataModule,
        *,
        position: Position | None = None,
        on_step: Callable[[Progress], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        callbacks: Sequence[Callback] = (),
        plot: bool = True,
    ) -> None:
        check_learner(learner, "Trainer", ("initial_state", "train_step", "export_parameters"))
        self.learner = learner
        self.data = data
        self.history = History()
        # The same at every validation: counted at the first.
        self.coverage: Coverage | None = None
        # Its state is the backend's own; `position` gives it as arrays.
        self._part: EpochPart | None = None
        self._running: RunningEpoch | None = None
        if position is not None:
            learner.step = position.step
            self.history.epochs = list(position.epochs)
            self._part = position.part
            if self._part is not None and self._part.state is not None:
                self._part = replace(self._part, state=learner.import_state(self._part.state))
        self.place = place_of(learner)
        self._asked_to_stop = False
        self._callbacks = callbacks
        self._on_step = [*(each.on_step for each in callbacks), *([on_step] if on_step else [])]
        self._on_epoch = [*(each.on_epoch for each in callbacks), *([on_epoch] if on_epoch else [])]
        self._figure = LiveFigure() if plot and not self.place.rank else None

    def position(self) -> Position:
        """Where the run stands now; `on_step` and `on_epoch` may ask, too. Waits for the losses under way."""
        part = self._running.part() if self._running else self._part
        if part is not None and part.state is not None:
            part = replace(part, state=self.learner.export_state(part.state))
        return Position(self.learner.step, tuple(self.history.epochs), part)

    def stop(self) -> None:
        """Ends the training, for a callback: from `on_epoch` with this epoch, from `on_step` inside it.

        Inside an epoch all follows as after Ctrl-C. Of several workers it is enough that one asks: all stop
        after the same step, which inside an epoch is the next one or the one after that.
        """
        self._asked_to_stop = True

    def fit(self, num_epochs: int) -> History:
        """Trains until the run has `num_epochs` whole epochs, or until `stop`, Ctrl-C or SIGTERM.

        A signal lets the step under way end, validates, records the part of the epoch that was done and
        returns; a second one ends the program at once. A further `fit` goes on from there.

        Raises:
            SpecError: `num_epochs` is no whole number above 0, or the data has no batch.
            DivergedError: a loss was NaN or infinite, or the validation perplexity was. The learner holds
                the parameters and the optimiser's state that it had after the last whole epoch, or where this
                call began, and `history` the epochs up to there.
        """
        num_epochs = whole_number("the number of epochs", num_epochs)
        self.history.ended, self.history.sample = "finished", None
        self._asked_to_stop = False
        self.place.begin()
        for callback in self._callbacks:
            callback.on_begin(self)
        with self._shown(), interrupt_flag() as interrupted:
            while len(self.history.epochs) < num_epochs and self.history.ended == "finished":
                self.history.cut_short = None
                record = self._epoch(num_epochs, interrupted.is_set)
                if record is not None:
                    if self._part is None:
                        self.history.epochs.append(record)
                    else:
                        self.history.cut_short = record
                    for on_epoch in self._on_epoch:
                        on_epoch(record)
                    if self._figure:
                        self._figure.update(self.history, num_epochs)
                signal, asked = self.place.any_asked(interrupted.is_set(), self._asked_to_stop)
                if signal:
                    self.history.ended = "interrupted"
                elif asked and len(self.history.epochs) < num_epochs:
                    self.history.ended = "stopped"
        return self.history

    def validate(self) -> tuple[float, int]:
        """The total cross-entropy of the validation part in nats, and its number of tokens.

        Raises:
            DivergedError: it is NaN or infinite.
        """
        try:
            return self._validate()
        except NotFiniteError as error:
            raise DivergedError(f"the validation loss is {error.loss}", self.learner.step) from None

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Within it a notebook shows how far training has come, and at its end a sample."""
        if self._figure is None or current_cell() is None:
            yield
            return
        try:
            yield
        finally:
            # An axis of epochs that were not trained would leave the curve little room.
            self._figure.update(self.history, len(self.history.epochs), last=True)
        if self.history.records:
            self.history.sample = sample_of(self.learner, self.data)

    def _epoch(self, num_epochs: int, interrupted: Callable[[], bool]) -> EpochRecord | None:
        """An epoch, or the rest of it; None where it ended before its first step.

        Args:
            num_epochs: of the whole run.
            interrupted: whether Ctrl-C has come, here.
        """
        number = len(self.history.epochs) + 1
        rollback = self._rollback()
        clip = self.learner.training.clip
        epoch = self._running = RunningEpoch(number, self.learner.step, self._part, clip=clip)

        def step_ended(scored: Scored) -> None:
            if not self._on_step:
                return
            nats, tokens = epoch.losses.so_far
            # Losses are read some steps late; the tokens of the last steps count for the speed.
            ppl, speed = perplexity(nats, tokens), epoch.losses.num_added / epoch.seconds
            done, num_steps = epoch.num_batches, self.data.num_train_batches
            progress = Progress(
                number, num_epochs, done, num_steps, ppl, speed, scored.loss, scored.grad_norm
            )  # fmt: skip
            for on_step in self._on_step:
                on_step(progress)

        try:
            record = run_epoch(
                epoch,
                self._parts(self.data.train_batches(number), epoch.num_batches),
                self._train_step,
                carries_state=self.data.carries_state,
                validate=self._validate,
                synchronize=self.learner.synchronize,
                rollback=rollback,
                interrupted=lambda: self.place.stops(interrupted() or self._asked_to_stop),
                after_step=step_ended,
            )
        except DivergedError:
            self.history.ended = "diverged"
            raise
        finally:
            self._running = None
        if record is not None:
            if math.isinf(record.val_perplexity):
                # Each loss is a number, and nothing that could be learned from: over 709 nats per token.
                rollback()
                self.history.ended = "diverged"
                raise DivergedError(
                    f"the validation perplexity became infinite in epoch {number}: training stopped, and the "
                    "parameters are those of the beginning of the epoch. Try a smaller learning rate or "
                    "clipping norm",
                    epoch.step,
                )
            self._part = None if epoch.whole else epoch.part()
            record = replace(record, learning_rate=self._rate(epoch.step - 1))
            if self.coverage is not None:
                bits = record.val_bits_per_token
                record = replace(
                    record,
                    val_bits_per_char=self.coverage.per_character(bits),
                    val_bits_per_byte=self.coverage.per_byte(bits),
                )
        return record

    def _parts(self, batches: Iterable[Batch], first: int = 0) -> Iterator[Part]:
        return parts_of(batches, self.place.rank, self.place.size, first)

    def _train_step(self, part: Part, state: State) -> Scored:
        learner = self.learner
        if learner.training.schedule is not None:
            learner.learning_rate = self._rate(learner.step)
        if state is None:
            state = learner.initial_state(part.batch_size)
        result, state = learner.train_step(self.place.given(part), state)
        return Scored(result.loss, part.num_tokens, state, result.grad_norm)

    def _eval_step(self, part: Part, state: State) -> Scored:
        if state is None:
            state = self.learner.initial_state(part.batch_size)
        loss, state = self.learner.eval_step(self.place.given(part), state)
        return Scored(loss, part.num_tokens, state)

    def _validate(self) -> tuple[float, int]:
        vocab = vocab_of(self.data) if self.coverage is None else None
        counts = np.zeros(0 if vocab is None else len(vocab), np.int64)

        def eval_step(part: Part, state: State) -> Scored:
            if vocab is not None:
                count_targets(counts, part.batch.targets)
            return self._eval_step(part, state)

        parts = self._parts(self.data.validation_batches())
        total = total_loss(parts, eval_step, carries_state=self.data.carries_state)
        if vocab is not None:
            self.coverage = coverage_of(vocab, counts).summed(self.place.sum)
        return total

    def _rate(self, step: int) -> float:
        """The learning rate of a step of the epoch under way."""
        training = self.learner.training
        if training.schedule is None:
            return training.learning_rate
        return training.learning_rate * training.schedule.factor(step, self._validation_losses())

    def _validation_losses(self) -> list[float]:
        """Those of the whole epochs in nats per token, as a schedule takes them."""
        bits = [record.val_bits_per_token for record in self.history.epochs]
        return [each * math.log(2) for each in bits if not math.isnan(each)]

    def _rollback(self) -> Callable[[], None]:
        """A function that puts the learner back to where it is now."""
        learner = self.learner
        step, parameters = learner.step, learner.export_parameters()
        optimizer_state = learner.export_optimizer_state()

        def rollback() -> None:
            learner.import_parameters(parameters)
            learner.import_optimizer_state(optimizer_state)
            learner.step = step

        return rollback
