"""Standard output and standard error that cannot fail: what cannot be shown costs no result."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

_DESCRIPTORS = (0, 1, 2)


class PatientStream:
    """A stream to which writing does not fail: what cannot be written is dropped, and the error kept.

    Args:
        stream: the stream; everything but writing is left to it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Writes, or remembers why not."""
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Flushes, or remembers why not."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def patient_streams() -> Iterator[PatientStream]:
    """Within it, standard output and standard error never fail; gives standard output.

    Characters that a terminal cannot show are written as escapes. A stream that was closed
    before the program started takes everything and shows nothing.
    """
    _open_descriptors()
    kept = sys.stdout, sys.stderr
    patient = [PatientStream(_with_escapes(stream)) for stream in kept]
    sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in patient)
    try:
        yield patient[0]
    finally:
        for stream in patient:
            stream.flush()
            if stream.error is not None:
                _drop_buffer(stream)
        sys.stdout, sys.stderr = kept


def _open_descriptors() -> None:
    """No file of the user's gets the number of a standard stream that is closed: C would write to it."""
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)


def _with_escapes(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _drop_buffer(stream: PatientStream) -> None:
    """What is left in the buffer goes nowhere: at the end Python would try to write it once more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream._stream.flush()
