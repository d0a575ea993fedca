"""What an address answers: read within a time, up to a size, and told from the log-in page of a network."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias
from urllib.error import HTTPError
from urllib.request import urlopen

from d2lrnn.errors import TextError, reason_of

#: How long an address may send nothing.
_SILENT_SECONDS = 20.0
_PIECE = 1 << 20


class Stream(Protocol):
    """What is read piece by piece."""

    def read1(self, size: int, /) -> bytes:
        """What there is, at most so many bytes; ``b""`` at the end."""


class Sink(Protocol):
    """What takes the pieces."""

    def write(self, piece: bytes, /) -> object:
        """Takes the next piece."""


#: Opens an address, as `urllib.request.urlopen` does: ``opener(url, timeout=seconds)``.
Opener: TypeAlias = Callable[..., AbstractContextManager[Stream]]


def cache_folder() -> Path | None:
    """Where downloads are kept; None for a user who has no home."""
    folder = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    try:
        return (Path(folder) if folder else Path.home() / ".cache") / "d2lrnn"
    except RuntimeError:
        return None


def fetch(url: str, file: Sink, *, seconds: float, most_bytes: int, opener: Opener = urlopen) -> None:
    """Writes what an address answers into a file, up to one byte more than `most_bytes`.

    It is waited for in a thread: a timeout of a socket counts anew with every byte, and for finding the
    address there is none.

    Args:
        url: the address.
        file: what is written.
        seconds: how long it may take in all.
        most_bytes: an answer need not end.
        opener: opens the address; tests pass their own.

    Raises:
        TextError: it cannot be had, or not within the time.
    """
    pieces: SimpleQueue[bytes | Exception] = SimpleQueue()
    given_up = threading.Event()
    # Not more than this is in memory: the thread waits until what it read has been written.
    room = threading.Semaphore(8)

    def read() -> None:
        try:
            with opener(url, timeout=_SILENT_SECONDS) as response:
                for piece in bounded(response, most_bytes, given_up):
                    room.acquire()
                    pieces.put(piece)
            pieces.put(b"")
        except Exception as error:
            if isinstance(error, HTTPError):
                error.close()  # it is an answer, whose text nobody reads
            pieces.put(error)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + seconds
    try:
        while True:
            piece = pieces.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(piece, Exception):
                raise piece
            if not piece:
                return
            file.write(piece)
            room.release()
    except Empty:
        raise TextError(f"cannot fetch {url}: it was not there after {seconds:g} seconds") from None
    except (OSError, HTTPException) as error:
        raise TextError(f"cannot fetch {url}: {reason_of(error)}") from error
    finally:
        given_up.set()
        room.release()


def bounded(stream: Stream, most_bytes: int, given_up: threading.Event | None = None) -> Iterator[bytes]:
    """The pieces of a stream, or of a longer one a byte more than `most_bytes`.

    Args:
        stream: what is read.
        most_bytes: how much it may have.
        given_up: when this is set, nothing more is read.
    """
    left = most_bytes + 1
    while left > 0 and not (given_up and given_up.is_set()):
        # What there is: all that is asked for may come a byte at a time.
        piece = stream.read1(min(left, _PIECE))
        if not piece:
            return
        left -= len(piece)
        yield piece


class Fingerprint:
    """The checksum of what was read, and what else tells a file from another.

    Example:
        >>> read = Fingerprint()
        >>> read.add(b"<html>")
        >>> read.fault("0" * 40, most_bytes=100)
        'it looks like a web page, as the log-in page of a network does'
    """

    def __init__(self) -> None:
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._start, self._size = b"", 0

    def add(self, piece: bytes) -> None:
        """Takes the next piece into account."""
        self._sha1.update(piece)
        self._start = (self._start + piece[:64])[:64]
        self._size += len(piece)

    def fault(self, sha1: str, *, most_bytes: int) -> str | None:
        """What is wrong with the file that was read; None where it has this checksum."""
        found = self._sha1.hexdigest()
        if found == sha1:
            return None
        if self._start.lstrip().startswith(b"<"):
            return "it looks like a web page, as the log-in page of a network does"
        if self._size > most_bytes:
            return f"it has more than {most_bytes:,} bytes"
        return f"its {self._size:,} bytes have the SHA-1 checksum {found}, not {sha1}"
