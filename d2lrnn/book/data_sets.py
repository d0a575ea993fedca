"""The book's data sets under the book's names: `DATA_HUB`, `download`, `extract`, `download_extract`."""

from __future__ import annotations

import os
from pathlib import Path

from d2lrnn.data.archives import unpack
from d2lrnn.data.data_sets import BOOK_URL as DATA_URL
from d2lrnn.data.data_sets import DATA_SETS, DataSet, data_file, data_folder, unpacked_data
from d2lrnn.data.time_machine import DATA_VARIABLE
from d2lrnn.errors import SpecError

__all__ = ["DATA_HUB", "DATA_URL", "download", "download_extract", "extract"]

#: By name the address and the checksum of a file. A chapter, or you, may add entries.
DATA_HUB: dict[str, tuple[str, str]] = {name: (url, sha1) for name, (url, sha1) in DATA_SETS.items()}

# Where the book's own code keeps its data: beside the folder that a chapter happens to run in.
_BOOK_FOLDER = "../data"

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".gz")


def download(
    url: str, folder: str | None = None, sha1_hash: str | None = None, *, cache_dir: str | None = None
) -> str:
    """The path of a file of data, checked; it is fetched where it is not there.

    Args:
        url: a name in `DATA_HUB`, or an address.
        folder: where to keep it. None, and ``"../data"``, which is the book's own folder, stand for the
            user's cache; a file that the folder of ``D2LRNN_DATA`` has is taken from there.
        sha1_hash: the checksum, for an address that is not in `DATA_HUB`.
        cache_dir: the first edition's name of `folder`.

    Raises:
        TextError: it cannot be had, is not what the checksum says, or cannot be kept.
        SpecError: nobody says which checksum it has.
    """
    folder = folder if cache_dir is None else cache_dir
    return str(data_file(_known(url, sha1_hash), None if folder in (None, _BOOK_FOLDER) else Path(folder)))


def extract(filename: str, folder: str | None = None) -> None:
    """Unpacks a zip or tar file; files that are there already stay (`d2lrnn.data.archives.unpack`).

    Args:
        filename: the archive.
        folder: where to; None is the folder that the archive is in, or the user's cache where it is in the
            folder of ``D2LRNN_DATA``, in which nothing is written.

    Raises:
        TextError: it cannot be unpacked, or is not to be trusted.
    """
    unpack(Path(filename), _folder_of(filename) if folder is None else Path(folder))


def download_extract(name: str, folder: str | None = None) -> str:
    """Downloads an archive and unpacks it, once.

    Args:
        name: a name in `DATA_HUB`.
        folder: the folder in the archive that is meant; None is the one called as the file, without its end.

    Returns:
        The path of that folder.

    Raises:
        TextError: it cannot be had or unpacked.
        SpecError: nobody says which checksum it has; it is no archive.
    """
    data_set = _known(name, None)
    ending = next((end for end in _ARCHIVES if data_set.file_name.endswith(end)), None)
    if ending is None:
        raise SpecError(f"{data_set.file_name} is no archive: d2l.download gives its path")
    return os.path.join(unpacked_data(data_set), folder or data_set.file_name.removesuffix(ending))


def _known(url: str, sha1: str | None) -> DataSet:
    address = DATA_HUB[url][0] if url in DATA_HUB else url
    known = [*([DATA_HUB[url]] if url in DATA_HUB else []), *DATA_HUB.values(), *DATA_SETS.values()]
    sha1 = sha1 or next((checksum for each, checksum in known if each == address and checksum), None)
    if sha1 is None:
        raise SpecError(
            f"nothing is known of {url!r}: give its checksum, d2l.download(url, sha1_hash=…), or an entry of "
            f"your own, d2l.DATA_HUB[name] = (url, sha1). The names there are {', '.join(sorted(DATA_HUB))}"
        )
    return DataSet(address, sha1.lower())


def _folder_of(filename: str) -> Path:
    folder, named = Path(filename).parent, os.environ.get(DATA_VARIABLE)
    return data_folder() if named and folder == Path(named) else folder
