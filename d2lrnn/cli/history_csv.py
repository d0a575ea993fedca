"""The file of ``--csv``: the epochs of a run, a line each as they end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from d2lrnn.atomic_files import write_atomically
from d2lrnn.cli.output_files import open_stream, replaceable_file
from d2lrnn.errors import RunError, reason_of
from d2lrnn.saving.history_file import history_csv
from d2lrnn.training.history import EpochRecord


class HistoryCSV:
    """Writes the header and the epochs so far, and then each epoch as it ends.

    A file is replaced whole after every epoch; standard output, a pipe or a device gets what is new. What
    cannot be written in the course of the training does not end it: `close` raises then.

    Args:
        path: what ``--csv`` names (`d2lrnn.cli.output_files`).
        epochs: those that the run has already.

    Raises:
        RunError: it cannot be written.
        BrokenPipeError: nobody reads it.
    """

    def __init__(self, path: str, epochs: Sequence[EpochRecord]) -> None:
        self._path, self._file = path, replaceable_file(path)
        self._stream: IO[bytes] | None = None
        self._error: OSError | None = None
        self._write(epochs, epochs, header=True)
        self._raise()

    def epoch(self, epochs: Sequence[EpochRecord]) -> None:
        """Writes the last of these, which are all epochs so far."""
        if self._error is None:
            self._write(epochs, epochs[-1:], header=False)

    def close(self) -> None:
        """Ends the file.

        Raises:
            RunError: it could not be written.
            BrokenPipeError: nobody read it.
        """
        self._close()
        self._raise()

    def _close(self) -> None:
        # It was flushed, or has failed already.
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()

    def _write(self, epochs: Sequence[EpochRecord], new: Sequence[EpochRecord], *, header: bool) -> None:
        try:
            if self._file is not None:
                write_atomically(self._file, history_csv(epochs).encode())
                return
            if self._stream is None:
                sys.stdout.flush()
                self._stream = open_stream(self._path)
            self._stream.write(history_csv(new, header=header).encode())
            self._stream.flush()
        except OSError as error:
            self._error = error
            self._close()

    def _raise(self) -> None:
        if isinstance(self._error, BrokenPipeError):
            raise self._error
        if self._error is not None:
            raise RunError(f"--csv {self._path} cannot be written: {reason_of(self._error)}") from self._error
