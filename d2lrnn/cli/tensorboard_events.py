"""The folder of ``--tensorboard``: perplexity, speed, rate and gradient of a run, for TensorBoard.

Every scalar is by training step. Those of the ``batch`` are of one step in ten; the others are of whole
epochs, at the last step of each. A run that is resumed begins another file in the folder, which says that it
goes on after the step of its checkpoint: TensorBoard drops what the files before have of later steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from d2lrnn.errors import RunError, SpecError, reason_of
from d2lrnn.training.history import EpochRecord, Progress
from d2lrnn.training.metrics import perplexity

_FILES = "events.out.tfevents.*"

#: So many training steps lie between two of which scalars are written.
_EVERY = 10

#: After so many seconds what was written is put on the disk, which takes time, as after every epoch.
_FLUSH_SECONDS = 30


class _Step(NamedTuple):
    """A training step whose loss and gradient norm are not read yet."""

    step: int
    learning_rate: float
    progress: Progress
    wall_time: float


def check_tensorboard(folder: str | None, *, resumed: bool) -> None:
    """Checks before the work whether the folder of ``--tensorboard`` can take a run.

    Args:
        folder: what the option names; None where it was not given.
        resumed: whether it is the folder of a run that goes on, perhaps in the same files.

    Raises:
        SpecError: tensorboardX is not installed, or the name is empty.
        RunError: it is no folder, or it holds the events of another run.
    """
    if folder is None:
        return
    if not folder:
        raise SpecError("--tensorboard needs the name of a folder")
    if find_spec("tensorboardX") is None:
        raise SpecError(
            "--tensorboard needs tensorboardX, which is not installed here: pip install tensorboardX"
        )
    if Path(folder).exists() and not Path(folder).is_dir():
        raise RunError(f"--tensorboard {folder} is a file: give the name of a folder")
    if not resumed:
        _check_no_events(Path(folder))


class TensorBoardEvents:
    """Writes scalars as a run trains.

    What cannot be written in the course of the training does not end it: `close` raises then.

    Args:
        folder: what ``--tensorboard`` names; it is made where it is not there.
        identity: of the run.
        step: the training steps that the run has taken.
        epochs: its whole epochs, which are written where the folder has nothing of the run.

    Raises:
        RunError: the folder cannot be written to, or a run that goes on finds another's events there.
    """

    def __init__(self, folder: str, identity: str, step: int, epochs: Sequence[EpochRecord]) -> None:
        self._folder, self._events = folder, import_module("tensorboardX.proto.event_pb2")
        self._summaries = import_module("tensorboardX.proto.summary_pb2")
        self._unread: _Step | None = None
        self._flushed_at = time.monotonic()
        self._error: OSError | None = None
        name = identity[:8]
        has_own = any(f".{name}." in path.name for path in Path(folder).glob(_FILES))
        if step and not has_own:
            _check_no_events(Path(folder))
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            # TensorBoard reads the files in the order of their names: time in seconds, then our suffix.
            # Not its SummaryWriter: where the thread of that cannot write, training would wait for ever.
            # By its absolute path, as it takes what is before a colon for the name of a service.
            self._writer = import_module("tensorboardX.event_file_writer").EventsWriter(
                str(Path(folder).absolute() / "events"), f".{name}.{step:012}"
            )
        except OSError as error:
            raise RunError(f"--tensorboard {folder} cannot be written: {reason_of(error)}") from error
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._write(step + 1, time.time(), flush=True, session_log=start)
        if not has_own:
            at = 0
            for record in epochs:
                at += record.num_steps
                self.epoch(at, record)

    def step(self, step: int, learning_rate: float, progress: Progress) -> None:
        """Writes what a training step came to, when it is long there: no step waits for the device.

        Args:
            step: how many were taken, this one included.
            learning_rate: that of this step.
            progress: as `d2lrnn.training.trainer.Trainer` reports it.
        """
        if step == 1 or step % _EVERY == 0:
            self._write_unread()
            self._unread = _Step(step, learning_rate, progress, time.time())

    def epoch(self, step: int, record: EpochRecord) -> None:
        """Writes a whole epoch.

        Args:
            step: its last training step.
            record: what it came to.
        """
        self._write_unread()
        self._write_scalars(step, time.time(), flush=True, values={
            "perplexity/train": record.train_perplexity,
            "perplexity/validation": record.val_perplexity,
            "bits_per_token/train": record.train_bits_per_token,
            "bits_per_token/validation": record.val_bits_per_token,
            "epoch/tokens_per_second": record.tokens_per_second,
            "epoch/number": record.epoch,
            "gradient_norm/mean": record.grad_norm,
            "gradient_norm/largest": record.grad_norm_max,
            "gradient_norm/clipped": record.clipped,
        })  # fmt: skip

    def close(self) -> None:
        """Ends the file.

        Raises:
            RunError: it could not be written.
        """
        self._write_unread()
        try:
            self._writer.close()
        except OSError as error:
            self._error = self._error or error
        if self._error is not None:
            reason = reason_of(self._error)
            raise RunError(f"--tensorboard {self._folder} cannot be written: {reason}") from self._error

    def _write_unread(self) -> None:
        if self._unread is None:
            return
        (step, rate, progress, wall_time), self._unread = self._unread, None
        values = {"batch/learning_rate": rate, "batch/tokens_per_second": progress.tokens_per_second}
        if progress.loss is not None:
            values["batch/perplexity"] = perplexity(float(progress.loss), 1)
        if progress.grad_norm is not None:
            values["batch/gradient_norm"] = float(progress.grad_norm)
        flush = time.monotonic() - self._flushed_at > _FLUSH_SECONDS
        self._write_scalars(step, wall_time, flush=flush, values=values)

    def _write_scalars(
        self, step: int, wall_time: float, *, flush: bool, values: Mapping[str, float | None]
    ) -> None:
        found = [
            self._summaries.Summary.Value(tag=tag, simple_value=value)
            for tag, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self._write(step, wall_time, flush=flush, summary=self._summaries.Summary(value=found))

    def _write(self, step: int, wall_time: float, *, flush: bool, **content: Any) -> None:
        if self._error is not None:
            return
        try:
            self._writer.write_event(self._events.Event(step=step, wall_time=wall_time, **content))
            if flush:
                self._flushed_at = time.monotonic()
                self._writer.flush()
        except OSError as error:
            self._error = error


def _check_no_events(folder: Path) -> None:
    if any(folder.glob(_FILES)):
        raise RunError(
            f"--tensorboard {folder} holds the events of another run: name a folder for this one, such as "
            f"{folder / '2'}, and give TensorBoard the folder above to see both"
        )
