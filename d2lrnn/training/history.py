"""What a training run records: its epochs, where it stands, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, SupportsFloat

from d2lrnn.contract.values import StateArrays
from d2lrnn.training.gradient_norms import GradientNorms


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch came to.

    Attributes:
        epoch: counted from 1.
        train_perplexity: over the tokens of the epoch, each scored before the update that learned from it.
        val_perplexity: over the validation tokens, after the epoch.
        train_bits_per_token: the cross-entropy in bits per token.
        val_bits_per_token: likewise.
        tokens_per_second: training tokens by the time that training took, validation not counted.
        num_steps: training steps of this epoch; fewer than an epoch has where it was interrupted.
        num_tokens: training tokens of this epoch; None in runs that did not record it.
        learning_rate: that of its last step; likewise.
        val_bits_per_char: the validation cross-entropy in bits per character of the text, which compares with
            that of other kinds of tokens (`d2lrnn.data.coverage`); None where it was not recorded, or where
            the data know no vocabulary.
        val_bits_per_byte: the same per byte of the text in UTF-8.
        grad_norm: the mean norm of the gradient of a step, before clipping; None where it is not known of
            every step, or overflowed.
        grad_norm_max: the largest; likewise.
        clipped: the share of the steps whose gradient was clipped; likewise.
    """

    epoch: int
    train_perplexity: float
    val_perplexity: float
    train_bits_per_token: float
    val_bits_per_token: float
    tokens_per_second: float
    num_steps: int
    num_tokens: int | None = None
    learning_rate: float | None = None
    val_bits_per_char: float | None = None
    val_bits_per_byte: float | None = None
    grad_norm: float | None = None
    grad_norm_max: float | None = None
    clipped: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the training of this epoch took, validation not counted; None where it is not known.

        Example:
            >>> record = EpochRecord(1, 9.0, 8.0, 3.2, 3.0, 500.0, num_steps=4, num_tokens=1000)
            >>> record.seconds
            2.0
        """
        if self.num_tokens is None or not self.tokens_per_second > 0:
            return None
        return self.num_tokens / self.tokens_per_second


@dataclass(frozen=True)
class Progress:
    """Where a run is after a training step: what a progress bar shows.

    Attributes:
        epoch: the epoch under way, counted from 1.
        num_epochs: how many there will be.
        step: training steps taken in this epoch.
        num_steps: how many it has.
        perplexity: over the tokens of the epoch whose losses have been read.
        tokens_per_second: of the epoch so far.
        loss: that of the step in nats per token, a native scalar: ``float()`` of it waits for the device.
        grad_norm: the norm of its gradient before clipping, likewise.
    """

    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    perplexity: float
    tokens_per_second: float
    loss: SupportsFloat | None = field(default=None, repr=False, compare=False)
    grad_norm: SupportsFloat | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class EpochPart:
    """The part of an epoch that is done, to the last bit that the rest of it depends on.

    Attributes:
        num_batches: how many batches were trained on.
        nats: their total cross-entropy.
        num_tokens: their targets.
        seconds: how long that took.
        state: the state after them, where batches continue each other (`DataModule.carries_state`).
        norms: of their gradients, as far as they were recorded.
    """

    num_batches: int
    nats: float
    num_tokens: int
    seconds: float
    state: StateArrays | None = field(default=None, repr=False)
    norms: GradientNorms = field(default_factory=GradientNorms)


@dataclass(frozen=True)
class Position:
    """Where a run stands: with the parameters, all that is needed to go on as if it had never stopped.

    The order of the batches, the dropout masks and the learning rate follow from seeds, the schedule and
    these numbers; what the optimiser remembers, the learner exports.

    Attributes:
        step: training steps taken.
        epochs: the whole epochs.
        part: the epoch under way, where there is one.
    """

    step: int = 0
    epochs: tuple[EpochRecord, ...] = ()
    part: EpochPart | None = None


@dataclass(repr=False)
class History:
    """The epochs of a run so far, and how it ended; in a notebook a table with a curve.

    Attributes:
        epochs: one record a whole epoch.
        cut_short: the record of the epoch that Ctrl-C or a callback cut short; it is done anew, or to its
            end, when the run goes on.
        ended: ``"finished"``, ``"stopped"`` by a callback, ``"interrupted"`` by Ctrl-C or SIGTERM,
            ``"diverged"`` (see `DivergedError`).
        sample: what the model wrote after its training in a notebook; None where it wrote nothing.

    Example:
        >>> records = [EpochRecord(n, p, p + 1, 3.0, 3.2, 500.0, 4) for n, p in ((1, 9.0), (2, 7.0))]
        >>> History(records)
        History(2 epochs, finished: perplexity 7.00, validation 8.00, best 8.00 in epoch 2)
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    cut_short: EpochRecord | None = None
    ended: Literal["finished", "stopped", "interrupted", "diverged"] = "finished"
    sample: str | None = None
    #: The cell of a notebook below which the curve stands already; see `d2lrnn.training.notebook`.
    drawn_in: int | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        number = f"{len(self.epochs)} epoch{'' if len(self.epochs) == 1 else 's'}"
        if self.cut_short:
            number += " and a part"
        said = f"{number}, {self.ended}"
        if self.records:
            last = self.records[-1]
            said += f": perplexity {last.train_perplexity:.2f}, validation {last.val_perplexity:.2f}"
        if best := best_epoch(self.epochs):
            said += f", best {best.val_perplexity:.2f} in epoch {best.epoch}"
        return f"History({said})"

    def _repr_html_(self) -> str:
        from d2lrnn.training.history_html import history_html  # which imports this module

        return history_html(self)

    @property
    def records(self) -> list[EpochRecord]:
        """The whole epochs and, last, the one that was cut short."""
        return self.epochs + ([self.cut_short] if self.cut_short else [])

    def to_json(self) -> list[dict[str, Any]]:
        """All records as plain data; a number that is not finite becomes None."""
        return [record_to_json(record) for record in self.records]


def best_epoch(epochs: Sequence[EpochRecord]) -> EpochRecord | None:
    """The one with the lowest validation perplexity, the first of equals; None where there is none.

    Example:
        >>> records = [EpochRecord(n, 1.0, p, 1.0, 1.0, 500.0, 4) for n, p in ((1, 9.0), (2, 7.0), (3, 7.0))]
        >>> best_epoch(records).epoch
        2
    """
    return min(epochs, key=lambda record: record.val_perplexity, default=None)


def record_to_json(record: EpochRecord) -> dict[str, Any]:
    """A record as plain data; a number that is not finite becomes None."""
    values = asdict(record).items()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values}
