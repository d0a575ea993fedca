"""The novel *The Time Machine*: from a folder, the cache or the book's address, with its checksum checked.

A file with another checksum is never used or cached: networks answer with their log-in page.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias
from urllib.error import HTTPError
from urllib.request import urlopen

from d2lrnn.atomic_files import write_atomically
from d2lrnn.errors import TextError, reason_of

#: The environment variable that names the folder in which `time_machine_text` looks first.
DATA_VARIABLE = "D2LRNN_DATA"

TIME_MACHINE_URL = "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
TIME_MACHINE_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
TIME_MACHINE_FILE = "timemachine.txt"

# More than the novel's 178,979 bytes, and all that is ever read of what claims to be it.
_MOST_BYTES = 1 << 20
#: How long an address may send nothing, and how long it may take in all.
_SILENT_SECONDS, _DOWNLOAD_SECONDS = 20.0, 60.0


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


#: Opens an address, as `urllib.request.urlopen` does: ``opener(url, timeout=seconds)``.
Opener: TypeAlias = Callable[..., AbstractContextManager[_Stream]]


def time_machine_text(opener: Opener = urlopen, *, seconds: float = _DOWNLOAD_SECONDS) -> str:
    """The novel *The Time Machine* by H. G. Wells (1895), the book's text, in lines.

    It is taken from the folder that ``D2LRNN_DATA`` names, else from the user's cache, else fetched from the
    book's address and cached. A file with another checksum is never used.

    Args:
        opener: opens the address; tests pass their own.
        seconds: how long fetching it may take in all.

    Raises:
        TextError: the file in the named folder is not the novel, or the novel is in neither place and cannot
            be fetched.
    """
    data = _from_named_folder()
    if data is None:
        data = _from_cache_or_address(opener, seconds)
    return data.decode("utf-8")


def time_machine_file(opener: Opener = urlopen) -> Path:
    """The novel's file, checked: in the folder that ``D2LRNN_DATA`` names, or in the user's cache.

    Raises:
        TextError: as with `time_machine_text`, or the cache cannot be written.
    """
    if _from_named_folder() is not None:
        return Path(os.environ[DATA_VARIABLE]) / TIME_MACHINE_FILE
    data, file = _from_cache_or_address(opener, _DOWNLOAD_SECONDS), _cached_file()
    if file is None or not file.is_file() or file.read_bytes() != data:
        raise TextError(f"the novel cannot be cached: {file} cannot be written. {_WAY_OUT}")
    return file


def copy_time_machine(folder: Path) -> Path:
    """The novel's file in a folder, which is made where it is missing.

    Raises:
        TextError: as with `time_machine_text`; or the folder has another file of that name, or cannot be
            written.
    """
    data, copy = time_machine_text().encode("utf-8"), folder / TIME_MACHINE_FILE
    try:
        found = _read_file(copy)
        if found is None:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(copy, data)
    except OSError as error:
        raise TextError(f"the novel cannot be copied to {copy}: {reason_of(error)}") from error
    if found not in (None, data):
        raise TextError(f"{copy} is not the novel: {_fault(found)}. Name another folder, or remove it")
    return copy


def _from_named_folder() -> bytes | None:
    """The novel from the folder that the environment names; None where there is no such file."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return None
    file = Path(folder) / TIME_MACHINE_FILE
    try:
        data = _read_file(file)
    except OSError as error:
        raise TextError(
            f"cannot read {file}, in the folder of {DATA_VARIABLE}: {reason_of(error)}"
        ) from error
    if data is not None and (fault := _fault(data)):
        raise TextError(
            f"{file}, in the folder of {DATA_VARIABLE}, is not the novel: {fault}. Replace it or remove it"
        )
    return data


def _from_cache_or_address(opener: Opener, seconds: float) -> bytes:
    cached, fault = _cached_file(), None
    if cached:
        with suppress(OSError):  # a cache that cannot be read is no cache
            data = _read_file(cached)
            fault = None if data is None else _fault(data)
            if data is not None and fault is None:
                return data
    try:
        data = _download(opener, seconds)
    except TextError as error:
        if fault:
            raise TextError(
                f"{cached} is not the novel: {fault}. It could not be fetched anew: {error}"
            ) from error
        raise
    if cached:
        with suppress(OSError):  # nor is one that cannot be written
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cached, data)
    return data


def _cached_file() -> Path | None:
    """Where the novel is kept; None for a user who has no home."""
    folder = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    try:
        return (Path(folder) if folder else Path.home() / ".cache") / "d2lrnn" / TIME_MACHINE_FILE
    except RuntimeError:
        return None


def _download(opener: Opener, seconds: float) -> bytes:
    """The novel from the book's address, checked."""
    try:
        data = _answer(opener, seconds)
    except (OSError, HTTPException) as error:
        problem = f"cannot fetch The Time Machine from {TIME_MACHINE_URL}: {reason_of(error)}"
        raise TextError(f"{problem}. {_WAY_OUT}") from error
    if fault := _fault(data):
        raise TextError(f"what {TIME_MACHINE_URL} answered is not the novel: {fault}. {_WAY_OUT}")
    return data


def _answer(opener: Opener, seconds: float) -> bytes:
    """What the address answers, within so many seconds.

    It is waited for in a thread: a timeout of a socket counts anew with every byte, and for finding the
    address there is none.

    Raises:
        TimeoutError: it takes longer.
    """
    answers: SimpleQueue[bytes | Exception] = SimpleQueue()
    given_up = threading.Event()

    def fetch() -> None:
        try:
            with opener(TIME_MACHINE_URL, timeout=_SILENT_SECONDS) as response:
                answers.put(_read_bounded(response, given_up))
        except Exception as error:
            if isinstance(error, HTTPError):
                error.close()  # it is an answer, whose text nobody reads
            answers.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"it was not there after {seconds:g} seconds") from None
    finally:
        given_up.set()
    if isinstance(answer, Exception):
        raise answer
    return answer


_WAY_OUT = (
    f"Put the file {TIME_MACHINE_FILE} into a folder and set {DATA_VARIABLE} to that folder, or train on the "
    "built-in text: sample"
)


def _fault(data: bytes) -> str | None:
    """What is wrong with a file that claims to be the novel; None where it is the novel."""
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    if digest == TIME_MACHINE_SHA1:
        return None
    if data.lstrip().startswith(b"<"):
        return "it looks like a web page, as the log-in page of a network does"
    if len(data) > _MOST_BYTES:
        return f"it has more than {_MOST_BYTES:,} bytes"
    return f"its {len(data):,} bytes have the SHA-1 checksum {digest}, not {TIME_MACHINE_SHA1}"


def _read_file(file: Path) -> bytes | None:
    """The file, or the beginning of one that is too large; None where there is none."""
    try:
        with file.open("rb") as stream:
            return _read_bounded(stream)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read_bounded(stream: _Stream, given_up: threading.Event | None = None) -> bytes:
    """All of a stream, or of a longer one a little more than the novel may have: an answer need not end."""
    data = bytearray()
    while len(data) <= _MOST_BYTES and not (given_up and given_up.is_set()):
        # What there is: all that is asked for may come a byte at a time.
        piece = stream.read1(_MOST_BYTES + 1 - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)
