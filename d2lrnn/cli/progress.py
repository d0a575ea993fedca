"""The progress of a training run, for a terminal and for a log."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from d2lrnn.training.history import EpochRecord, Progress

_BAR_WIDTH = 24
#: A bar that is shorter than this says less than the number of the epoch beside it.
_SHORTEST_BAR = 8
_REDRAW_SECONDS = 0.1


class ProgressDisplay:
    """A bar that redraws itself on a terminal, and a line for every tenth epoch or so.

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
        self._validation: float | None = None
        #: When the first step was shown, and how much of the run was done then.
        self._began: tuple[float, float] | None = None

    def step(self, progress: Progress) -> None:
        """Redraws the bar, a few times a second at most."""
        now = time.monotonic()
        done = (progress.epoch - 1 + progress.step / progress.num_steps) / progress.num_epochs
        if self._began is None:
            self._began = now, done
        if not self._live or now - self._drawn_at < _REDRAW_SECONDS:
            return
        self._drawn_at = now
        parts = [f"epoch {progress.epoch}/{progress.num_epochs}", f"perplexity {progress.perplexity:.2f}"]
        if self._validation is not None:
            parts.append(f"validation {self._validation:.2f}")
        began, before = self._began
        if before < done < 1:
            parts.append(f"{_duration((now - began) / (done - before) * (1 - done))} left")
        self._draw(parts, f"{thousands(progress.tokens_per_second)} tokens/s", min(1.0, done))

    def epoch(self, record: EpochRecord) -> None:
        """A line for every tenth epoch or so, the first and the last among them, which stays."""
        self._validation = record.val_perplexity
        every = max(1, self._num_epochs // 10)
        if record.epoch == 1 or record.epoch % every == 0 or record.epoch == self._num_epochs:
            self.close()
            self._stream.write(
                f"epoch {record.epoch}/{self._num_epochs}  perplexity {record.train_perplexity:.2f}, "
                f"validation {record.val_perplexity:.2f}  {thousands(record.tokens_per_second)} tokens/s\n"
            )
            self._stream.flush()

    def close(self) -> None:
        """Clears the bar: what follows stays."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def _draw(self, parts: list[str], speed: str, done: float) -> None:
        # A line that wraps could not be drawn over. The speed is the first to give way, and then the bar.
        columns = _columns(self._stream) - 1
        text = "  ".join([*parts, speed])
        if len(text) + len("[]  ") + _SHORTEST_BAR > columns:
            text = "  ".join(parts)
        bar_width = min(_BAR_WIDTH, columns - len(text) - len("[]  "))
        line = text[:columns]
        if bar_width >= _SHORTEST_BAR:
            filled = round(bar_width * done)
            line = f"[{'#' * filled}{'.' * (bar_width - filled)}]  {text}"
        self._width = max(self._width, len(line))
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> _duration(75.2), _duration(7322)
        ('1:15', '2:02:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _columns(terminal: TextIO) -> int:
    """The width of a terminal; 80 where it does not say."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def thousands(number: float) -> str:
    """1234567.8 as ``1,234,568``."""
    return f"{number:,.0f}"
