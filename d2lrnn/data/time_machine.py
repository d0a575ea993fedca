"""The novel *The Time Machine*: from a folder, the cache or the book's address, with its checksum checked.

A file with another checksum is never used or cached: networks answer with their log-in page.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from d2lrnn.atomic_files import write_atomically
from d2lrnn.data.downloads import Fingerprint, Opener, bounded, cache_folder, fetch
from d2lrnn.errors import TextError, reason_of

#: The environment variable that names the folder in which `time_machine_text` looks first.
DATA_VARIABLE = "D2LRNN_DATA"

TIME_MACHINE_URL = "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
TIME_MACHINE_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
TIME_MACHINE_FILE = "timemachine.txt"

# More than the novel's 178,979 bytes, and all that is ever read of what claims to be it.
_MOST_BYTES = 1 << 20
#: How long fetching it may take in all.
_DOWNLOAD_SECONDS = 60.0


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
    folder = cache_folder()
    return folder and folder / TIME_MACHINE_FILE


def _download(opener: Opener, seconds: float) -> bytes:
    """The novel from the book's address, checked."""
    answer = io.BytesIO()
    try:
        fetch(TIME_MACHINE_URL, answer, seconds=seconds, most_bytes=_MOST_BYTES, opener=opener)
    except TextError as error:
        raise TextError(f"{error}. {_WAY_OUT}") from error
    if fault := _fault(answer.getvalue()):
        raise TextError(f"what {TIME_MACHINE_URL} answered is not the novel: {fault}. {_WAY_OUT}")
    return answer.getvalue()


_WAY_OUT = (
    f"Put the file {TIME_MACHINE_FILE} into a folder and set {DATA_VARIABLE} to that folder, or train on the "
    "built-in text: sample"
)


def _fault(data: bytes) -> str | None:
    """What is wrong with a file that claims to be the novel; None where it is the novel."""
    read = Fingerprint()
    read.add(data)
    return read.fault(TIME_MACHINE_SHA1, most_bytes=_MOST_BYTES)


def _read_file(file: Path) -> bytes | None:
    """The file, or the beginning of one that is too large; None where there is none."""
    try:
        with file.open("rb") as stream:
            return b"".join(bounded(stream, _MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
