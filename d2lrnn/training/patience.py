"""How long a run waits for a better epoch before it ends early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.checks import whole_number
from d2lrnn.training.history import EpochRecord, best_epoch


@dataclass(frozen=True)
class Patience:
    """How long a run goes on without a better validation perplexity than the best so far.

    Nothing is counted: it follows from the epochs, so that a run that is resumed counts on.

    Attributes:
        patience: how many epochs in a row may be no better; with the last of them the run ends.
        since: epochs up to this one do not count as waited for: those before a run went on all the same.

    Raises:
        SpecError: a number is out of its range.
    """

    patience: int
    since: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", whole_number("the patience", self.patience))
        object.__setattr__(self, "since", whole_number("the epoch that waiting begins after", self.since, 0))

    def waited(self, epochs: Sequence[EpochRecord]) -> int:
        """How many of the last of these whole epochs were no better: ``len(epochs) - max(best, since)``.

        Example:
            >>> def epoch(number, val):
            ...     return EpochRecord(number, 9.0, val, 3.0, 3.0, 500.0, num_steps=4)
            >>> epochs = [epoch(1, 9.0), epoch(2, 8.0), epoch(3, 8.0), epoch(4, 8.5)]
            >>> Patience(3).waited(epochs), Patience(3, since=3).waited(epochs)
            (2, 1)
        """
        best = best_epoch(epochs)
        return len(epochs) - max(best.epoch if best else 0, self.since)

    def is_over(self, epochs: Sequence[EpochRecord]) -> bool:
        """Whether a run with these whole epochs ends."""
        return self.waited(epochs) >= self.patience
