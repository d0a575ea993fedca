"""The book's data sets, and archives of them."""

from __future__ import annotations

from pathlib import Path

from d2lrnn.data.archives import unpack
from d2lrnn.data.time_machine import (
    TIME_MACHINE_SHA1,
    TIME_MACHINE_URL,
    copy_time_machine,
    time_machine_file,
)
from d2lrnn.errors import SpecError

#: Where the book keeps its data.
DATA_URL = TIME_MACHINE_URL.rpartition("/")[0] + "/"

#: The first edition's names of the book's data: address and checksum.
DATA_HUB = {"time_machine": (TIME_MACHINE_URL, TIME_MACHINE_SHA1)}

# Where the book's own code keeps its data: beside the folder that a chapter happens to run in.
_BOOK_FOLDER = "../data"


def download(
    url: str, folder: str | None = None, sha1_hash: str | None = None, *, cache_dir: str | None = None
) -> str:
    """The path of the novel, the one file of the book's data that its recurrent chapters need.

    Args:
        url: its address, or ``"time_machine"``.
        folder: where to put a copy. None, and ``"../data"``, which is the book's own folder, take the file
            from the folder of ``D2LRNN_DATA`` or from the user's cache.
        sha1_hash: the checksum that the chapter expects; the novel's own is checked anyhow.
        cache_dir: the first edition's name of `folder`.

    Raises:
        TextError: it cannot be had, is not what the checksum says, or cannot be copied.
        SpecError: it is another file.
    """
    address = DATA_HUB[url][0] if url in DATA_HUB else url
    if address != TIME_MACHINE_URL or sha1_hash not in (None, TIME_MACHINE_SHA1):
        raise SpecError(f"d2lrnn has no {url}: of the book's data it has {TIME_MACHINE_URL} alone")
    folder = folder if cache_dir is None else cache_dir
    return str(time_machine_file() if folder in (None, _BOOK_FOLDER) else copy_time_machine(Path(folder)))


def extract(filename: str, folder: str | None = None) -> None:
    """Unpacks a zip or tar file; files that are there already stay (`d2lrnn.data.archives.unpack`).

    Args:
        filename: the archive.
        folder: where to; None is the folder that the archive is in.

    Raises:
        TextError: it cannot be unpacked, or is not to be trusted.
    """
    archive = Path(filename)
    unpack(archive, archive.parent if folder is None else Path(folder))
