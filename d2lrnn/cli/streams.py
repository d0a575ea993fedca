"""Standard output and standard error that cannot fail, and that no text can make a terminal obey.

What cannot be shown costs no result. What would steer the terminal is shown as text: a vocabulary, a saved
run, a file's name or a server's answer can come from anybody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

_DESCRIPTORS = (0, 1, 2)

#: The control characters, and those that turn the direction of the text around them.
_STEERING = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]


#: How they are shown, as Python shows them: in one line, in a text of several, and of a progress bar.
_IN_ONE_LINE = {code: repr(chr(code))[1:-1] for code in _STEERING}
_IN_TEXT = {code: shown for code, shown in _IN_ONE_LINE.items() if chr(code) not in "\n\t"}
_IN_BAR = {code: shown for code, shown in _IN_TEXT.items() if chr(code) != "\r"}


def printable(text: str) -> str:
    r"""A text with escapes in place of all that would steer a terminal but the ends of its lines and tabs.

    Example:
        >>> printable("two\nlines \x1b[31m")
        'two\nlines \\x1b[31m'
    """
    return text.translate(_IN_TEXT)


def in_one_line(text: str) -> str:
    r"""A text as `printable` makes it, and with escapes in place of the ends of its lines, too.

    Example:
        >>> in_one_line("no file a\nb")
        'no file a\\nb'
    """
    return text.translate(_IN_ONE_LINE)


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


class PrintableStream:
    """A stream on which no text can steer the terminal.

    Args:
        stream: the stream; everything but writing is left to it.

    Attributes:
        raw: the stream, for what is meant to steer the terminal.
    """

    def __init__(self, stream: PatientStream) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        """Writes what is `printable`."""
        self.raw.write(printable(text))
        return len(text)

    def draw(self, text: str) -> int:
        """The same of a progress bar, whose carriage returns begin the line anew."""
        self.raw.write(text.translate(_IN_BAR))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw_stream(stream: TextIO) -> TextIO:
    """The stream behind a `PrintableStream`, on which a terminal can be steered; any other as it is."""
    return cast("TextIO", stream.raw) if isinstance(stream, PrintableStream) else stream


@contextmanager
def patient_streams() -> Iterator[PatientStream]:
    """Within it, standard output and standard error never fail, and show text alone; gives standard output.

    Characters that a terminal cannot show are written as escapes. A stream that was closed
    before the program started takes everything and shows nothing.
    """
    _open_descriptors()
    kept = sys.stdout, sys.stderr
    patient = [PatientStream(_with_escapes(stream)) for stream in kept]
    sys.stdout, sys.stderr = (cast("TextIO", PrintableStream(stream)) for stream in patient)
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
