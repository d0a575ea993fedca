"""Files of data, known by their address and their checksum: from a folder, the cache, or the address.

A file with another checksum is never used or kept.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from d2lrnn.atomic_files import write_atomically
from d2lrnn.data.archives import unpack
from d2lrnn.data.downloads import Fingerprint, Opener, bounded, cache_folder, fetch
from d2lrnn.data.time_machine import DATA_VARIABLE, TIME_MACHINE_SHA1, TIME_MACHINE_URL
from d2lrnn.errors import SpecError, TextError, reason_of

#: Where the book keeps its data.
BOOK_URL = TIME_MACHINE_URL.rpartition("/")[0] + "/"

#: The most that a file may have, and how long fetching it may take in all: the largest below has 350 MB.
MOST_BYTES = 1 << 31
_SECONDS = 3600.0


class DataSet(NamedTuple):
    """A file of data.

    Attributes:
        url: its address; the last part of it is the file's name.
        sha1: its SHA-1 checksum, 40 hexadecimal digits.
    """

    url: str
    sha1: str

    @property
    def file_name(self) -> str:
        """The name of the file.

        Raises:
            SpecError: the address has none.
        """
        name = urlsplit(self.url).path.rpartition("/")[2]
        if name in ("", ".", ".."):
            raise SpecError(f"{self.url!r} does not end in the name of a file")
        return name


#: What the recurrent chapters of the book use, by the book's names.
DATA_SETS = {
    "time_machine": DataSet(TIME_MACHINE_URL, TIME_MACHINE_SHA1),
    "fra-eng": DataSet(f"{BOOK_URL}fra-eng.zip", "94646ad1522d915e7b0f9296181140edcf86a4f5"),
    "aclImdb": DataSet(f"{BOOK_URL}aclImdb_v1.tar.gz", "01ada507287d82875905620988597833ad4e0903"),
    "glove.6b.50d": DataSet(f"{BOOK_URL}glove.6B.50d.zip", "0b8703943ccdb6eb788e6f091b8946e82231bc4d"),
    "glove.6b.100d": DataSet(f"{BOOK_URL}glove.6B.100d.zip", "cd43bfb07e44e6f27cbcc7bc9ae3d80284fdaf5a"),
}


def data_folder() -> Path:
    """The folder of the user's cache in which files of data are kept; it need not be there.

    Raises:
        TextError: the user has no home, and no variable names a folder.
    """
    folder = cache_folder()
    if folder is None:
        raise TextError(f"there is no folder for downloads: set {DATA_VARIABLE} to one that has the files")
    return folder


def data_file(data_set: DataSet, folder: Path | None = None, *, opener: Opener = urlopen) -> Path:
    """A file of data, checked.

    It is taken from the folder that ``D2LRNN_DATA`` names, else from `folder`, else it is fetched from its
    address.

    Args:
        data_set: what it is.
        folder: where to keep it, and where it is looked for; None is `data_folder`.
        opener: opens the address; tests pass their own.

    Returns:
        Its path; within `folder` where one is given.

    Raises:
        TextError: a file of that name is another one; it cannot be fetched, or kept.
        SpecError: the address does not end in the name of a file.
    """
    name = data_set.file_name
    named = os.environ.get(DATA_VARIABLE)
    found = Path(named) / name if named else None
    if found is not None:
        if fault := _fault(found, data_set):
            raise TextError(
                f"{found}, in the folder of {DATA_VARIABLE}, is not the file of {data_set.url}: {fault}. "
                "Replace it or remove it"
            )
        if not found.exists():
            found = None
        elif folder is None:
            return found
    target = (folder or data_folder()) / name
    fault = _fault(target, data_set)
    if fault and folder is not None:
        raise TextError(
            f"{target} is not the file of {data_set.url}: {fault}. Name another folder, or remove it"
        )
    if fault or not target.exists():
        _keep(data_set, target, found, opener)
    return target


def unpacked_data(data_set: DataSet) -> Path:
    """The folder that an archive of data was unpacked into, its own in `data_folder`; it is done once.

    Args:
        data_set: the archive.

    Raises:
        TextError: as with `data_file`, or the archive cannot be unpacked.
    """
    archive = data_file(data_set)
    target = data_folder() / "unpacked" / data_set.sha1
    done = target / f".{archive.name}-{data_set.sha1}"
    if not done.exists():
        unpack(archive, target)
        try:
            write_atomically(done, b"")
        except OSError as error:
            raise TextError(f"{target} cannot be written: {reason_of(error)}") from error
    return target


def _fault(file: Path, data_set: DataSet) -> str | None:
    """What is wrong with a file; None where it is right, or not there."""
    read = Fingerprint()
    try:
        with file.open("rb") as stream:
            for piece in bounded(stream, MOST_BYTES):
                read.add(piece)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"it cannot be read: {reason_of(error)}"
    return read.fault(data_set.sha1, most_bytes=MOST_BYTES)


def _keep(data_set: DataSet, target: Path, found: Path | None, opener: Opener) -> None:
    """Puts the file in its place: a copy of the one that was found, or what the address answers."""
    temporary = target.parent / f".{target.name}-{uuid.uuid4().hex}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            if found is not None:
                with found.open("rb") as stream:
                    shutil.copyfileobj(stream, file)
            else:
                _fetch(data_set, file, opener)
        os.replace(temporary, target)
    except OSError as error:
        raise TextError(f"{target} cannot be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _fetch(data_set: DataSet, file: BinaryIO, opener: Opener) -> None:
    print(f"fetching {data_set.url}", file=sys.stderr, flush=True)
    checked = _Checked(file)
    try:
        fetch(data_set.url, checked, seconds=_SECONDS, most_bytes=MOST_BYTES, opener=opener)
    except TextError as error:
        raise TextError(f"{error}. {_way_out(data_set)}") from error
    if fault := checked.read.fault(data_set.sha1, most_bytes=MOST_BYTES):
        raise TextError(
            f"what {data_set.url} answered is not the file with this checksum: {fault}. {_way_out(data_set)}"
        )


def _way_out(data_set: DataSet) -> str:
    return f"Put the file {data_set.file_name} into a folder and set {DATA_VARIABLE} to that folder"


class _Checked:
    """A file that notes what is written into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.read = file, Fingerprint()

    def write(self, piece: bytes) -> None:
        self.read.add(piece)
        self._file.write(piece)
