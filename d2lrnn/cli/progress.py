"""The progress of a training run, for a terminal and for a log."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from d2lrnn.training.history import EpochRecord, Progress

_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.1


class ProgressDisplay:
    """A bar that redraws itself on a terminal; elsewhere a line for about every tenth of the epochs.

    Args:
        num_epochs: how many there will be.
        stream: where to write; None is stderr, which leaves stdout to the result.
    """

    def __init__(self, num_epochs: int, stream: TextIO | None = None) -> None:
        self._num_epochs = num_epochs
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._drawn_at = 0.0
        self._width = 0

    def step(self, progress: Progress) -> None:
        """Redraws the bar, a few times a second at most."""
        now = time.monotonic()
        if not self._live or now - self._drawn_at < _REDRAW_SECONDS:
            return
        self._drawn_at = now
        done = (progress.epoch - 1 + progress.step / progress.num_steps) / progress.num_epochs
        filled = round(_BAR_WIDTH * min(1.0, done))
        line = (
            f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] epoch {progress.epoch}/{progress.num_epochs}"
            f"  perplexity {progress.perplexity:.2f}  {thousands(progress.tokens_per_second)} tokens/s"
        )
        # A line that wraps could not be drawn over.
        line = line[: _columns(self._stream) - 1]
        self._width = max(self._width, len(line))
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()

    def epoch(self, record: EpochRecord) -> None:
        """In a log, a line for every tenth epoch or so, the first and the last among them."""
        if self._live:
            return
        every = max(1, self._num_epochs // 10)
        if record.epoch == 1 or record.epoch % every == 0 or record.epoch == self._num_epochs:
            self._stream.write(
                f"epoch {record.epoch}/{self._num_epochs}  perplexity {record.train_perplexity:.2f}, "
                f"validation {record.val_perplexity:.2f}  {thousands(record.tokens_per_second)} tokens/s\n"
            )
            self._stream.flush()

    def close(self) -> None:
        """Clears the bar: what follows is the result."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()


def _columns(terminal: TextIO) -> int:
    """The width of a terminal; 80 where it does not say."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def thousands(number: float) -> str:
    """1234567.8 as ``1,234,568``."""
    return f"{number:,.0f}"
