"""The progress of a training run, for a terminal and for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from d2lrnn.cli.streams import raw_stream
from d2lrnn.cli.terminal_curve import PerplexityCurve
from d2lrnn.training import history
from d2lrnn.training.history import EpochRecord

_REDRAW_SECONDS = 0.1
_BAR_WIDTH, _SHORTEST_BAR = 24, 8
#: In a log the time to the end is estimated once so many seconds were timed, and shown if it is as many.
_TIMED_SECONDS, _SHORTEST_LEFT = 5.0, 10.0
#: Terminals that are narrower show no speed, and no bar and no time.
_WIDTH_OF_ALL, _WIDTH_WITH_BAR = 84, 66


class ProgressDisplay:
    """A bar that redraws itself on a terminal, and a line for every tenth epoch or so.

    Args:
        num_epochs: how many there will be.
        stream: where to write; None is stderr, which leaves stdout to the result.
        curve: what a terminal shows below the bar.
    """

    def __init__(
        self, num_epochs: int, stream: TextIO | None = None, curve: PerplexityCurve | None = None
    ) -> None:
        self._num_epochs = num_epochs
        stream = stream or sys.stderr
        self._console = Console(file=raw_stream(stream))
        # Redrawn by the steps themselves: a thread of its own would take time from them.
        self._progress = _BarAndCurve(
            curve, *_columns(self._console.width), console=self._console, transient=True, auto_refresh=False,
            redirect_stdout=False, disable=not stream.isatty(), get_time=time.monotonic,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._drawn_at = -_REDRAW_SECONDS
        self._validation = ""
        #: Where it was timed from, in a log: the steps that were done, and when; and whether it was shown.
        self._timed_from: tuple[int, float] | None = None
        self._is_estimated = False

    def step(self, progress: history.Progress) -> None:
        """Redraws the bar, a few times a second at most; in a log, estimates the time to the end once."""
        now = time.monotonic()
        done = (progress.epoch - 1) * progress.num_steps + progress.step
        if self._progress.disable:
            self._estimate(done, progress.num_epochs * progress.num_steps, now)
            return
        if now - self._drawn_at < _REDRAW_SECONDS:
            return
        self._drawn_at = now
        text = (
            f"epoch {progress.epoch}/{progress.num_epochs}  perplexity {progress.perplexity:.2f}"
            f"{self._validation}"
        )
        speed = f"{thousands(progress.tokens_per_second)} tokens/s"
        if self._task is None:
            # A resumed run has done a part before: the time left follows from what is done here.
            total = progress.num_epochs * progress.num_steps
            self._task = self._progress.add_task(text, total=total, completed=done, speed=speed)
            self._progress.start()
            # A process that is killed must not leave a terminal without its cursor.
            self._console.show_cursor()
        self._progress.update(self._task, completed=done, description=text, speed=speed, refresh=True)

    def epoch(self, record: EpochRecord) -> None:
        """A line for every tenth epoch or so, the first and the last among them, which stays."""
        self._validation = f"  validation {record.val_perplexity:.2f}"
        every = max(1, self._num_epochs // 10)
        if record.epoch == 1 or record.epoch % every == 0 or record.epoch == self._num_epochs:
            line = (
                f"epoch {record.epoch}/{self._num_epochs}  perplexity {record.train_perplexity:.2f}, "
                f"validation {record.val_perplexity:.2f}  {thousands(record.tokens_per_second)} tokens/s"
            )
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _estimate(self, done: int, total: int, now: float) -> None:
        if self._timed_from is None:
            self._timed_from = (done, now)  # the first step compiles, and does not count
        first, since = self._timed_from
        if self._is_estimated or done == first or now - since < _TIMED_SECONDS:
            return
        self._is_estimated = True
        left = (now - since) / (done - first) * (total - done)
        if left >= _SHORTEST_LEFT:
            self._console.print(f"step {done:,} of {total:,}: about {duration(left)} left", highlight=False)

    def close(self) -> None:
        """Clears the bar: what follows stays."""
        self._progress.stop()


class _BarAndCurve(Progress):
    """Rich's bar, and a curve below it."""

    def __init__(self, curve: PerplexityCurve | None, *columns: ProgressColumn, **options: Any) -> None:
        self._curve = curve  # first: Rich asks for it at once
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self._curve is not None:
            yield self._curve


class EncodingDisplay:
    """A bar for the bytes of a text that were read, on a terminal; elsewhere a line for every tenth of them.

    Args:
        stream: where to write; None is stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._console = Console(file=raw_stream(stream))
        self._progress = Progress(
            *_columns(min(self._console.width, _WIDTH_OF_ALL - 1)), console=self._console, transient=True,
            auto_refresh=False, redirect_stdout=False, disable=not stream.isatty(), get_time=time.monotonic,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._what, self._tenths, self._drawn_at = "", 0, -_REDRAW_SECONDS

    def update(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` bytes are done of what is under way."""
        tenths = 10 * done // max(total, 1)
        if what != self._what:
            if done:
                self._print(f"{what}: goes on at {thousands(done / 1e6)} of {thousands(total / 1e6)} MB")
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=total, completed=done)
            self._progress.start()
            self._what, self._tenths = what, tenths
        if self._progress.disable or self._task is None:
            if tenths > self._tenths:
                self._tenths = tenths
                self._print(f"{what}: {thousands(done / 1e6)} of {thousands(total / 1e6)} MB")
            return
        if (now := time.monotonic()) - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = now
            self._progress.update(self._task, completed=done, refresh=True)

    def close(self) -> None:
        """Clears the bar: what follows stays."""
        self._progress.stop()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class StageDisplay:
    """A bar for the stages of some work, on a terminal; elsewhere nothing.

    Args:
        of: what the work is about, in front of each stage.
        stream: where to write; None is stderr.
    """

    def __init__(self, of: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._of = of
        self._console = Console(file=raw_stream(stream))
        self._progress = Progress(
            *_columns(min(self._console.width, _WIDTH_OF_ALL - 1)), console=self._console, transient=True,
            auto_refresh=False, redirect_stdout=False, disable=not stream.isatty(), get_time=time.monotonic,
        )  # fmt: skip
        self._task: TaskID | None = None

    def update(self, stage: str, done: int, total: int) -> None:
        """Shows the stage that begins, after `done` of `total` are over."""
        text = f"{self._of}: {stage}"
        if self._task is None:
            self._task = self._progress.add_task(text, total=total)
            self._progress.start()
            self._console.show_cursor()  # as above
        self._progress.update(self._task, completed=done, total=total, description=text, refresh=True)

    def close(self) -> None:
        """Clears the bar: what follows stays."""
        self._progress.stop()


def _columns(width: int) -> list[ProgressColumn]:
    """What fits into a line. The speed is the first to give way, then the bar and the time."""
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", table_column=Column(no_wrap=True), markup=False)
    ]
    if width >= _WIDTH_WITH_BAR:
        bar = BarColumn(_BAR_WIDTH, table_column=Column(ratio=1, min_width=_SHORTEST_BAR))
        left = TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True))
        columns = [bar, *columns, left, TextColumn("left")]
    if width >= _WIDTH_OF_ALL:
        columns.append(TextColumn("{task.fields[speed]}", table_column=Column(no_wrap=True)))
    return columns


def thousands(number: float) -> str:
    """1234567.8 as ``1,234,568``."""
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A time for people, to two figures or so.

    Example:
        >>> duration(42.4), duration(200), duration(8000), duration(200_000)
        ('42 s', '3 min', '2 h 13 min', '2 d 8 h')
    """
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
