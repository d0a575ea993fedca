"""What a training run records: its epochs, where it stands, and how it ended."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
    """

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


@dataclass
class History:
    """The epochs of a run so far, and how it ended.

    Attributes:
        epochs: one record a whole epoch.
        cut_short: the record of the epoch that Ctrl-C or a callback cut short; it is done anew, or to its
            end, when the run goes on.
        ended: ``"finished"``, ``"stopped"`` by a callback, ``"interrupted"`` by Ctrl-C or SIGTERM,
            ``"diverged"`` (see `DivergedError`).
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    cut_short: EpochRecord | None = None
    ended: Literal["finished", "stopped", "interrupted", "diverged"] = "finished"

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
