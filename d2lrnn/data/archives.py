"""Archives of data sets, unpacked without trust in what they say of themselves."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from d2lrnn.errors import TextError, reason_of

#: The most that an archive may unpack to: the largest of the book's recurrent data sets takes 0.5 GB.
MOST_BYTES = 1 << 32
_PIECE = 1 << 20


class _File(NamedTuple):
    """A file in an archive; its folders are made for it."""

    name: str
    content: IO[bytes]


def unpack(archive: Path, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """Unpacks a zip or tar file; what is there already stays as it is.

    Args:
        archive: the file, by its name's end ``.zip``, ``.tar``, ``.tar.gz`` or ``.tgz``.
        folder: where to put what it holds.
        most_bytes: how much it may hold, unpacked.

    Raises:
        TextError: it is no such archive, is damaged, holds more than `most_bytes`, a link, something that is
            no file, or a path out of `folder`; then nothing of it is left there.
    """
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{archive.name}-", dir=folder))
        left = most_bytes
        for name, content in _files(archive):
            path = temporary.joinpath(*_safe_parts(name, archive))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while piece := content.read(_PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise TextError(
                            f"{archive} unpacks to more than {most_bytes:,} bytes: it is left as it is"
                        )
                    file.write(piece)
        _move(temporary, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise TextError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        raise TextError(f"{archive} cannot be unpacked: {reason_of(error)}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _files(archive: Path) -> Iterator[_File]:
    if archive.name.endswith(".zip"):
        yield from _files_of_zip(archive)
    elif archive.name.endswith((".tar", ".gz", ".tgz")):
        yield from _files_of_tar(archive)
    else:
        raise TextError(
            f"{archive} is no archive that can be unpacked: its name must end in .zip, .tar or .gz"
        )


def _files_of_zip(archive: Path) -> Iterator[_File]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise TextError(f"{archive} has {member.filename!r}, which is no file but a link or the like")
            with opened.open(member) as content:
                yield _File(member.filename, content)


def _files_of_tar(archive: Path) -> Iterator[_File]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isdir():
                continue
            content = opened.extractfile(member) if member.isreg() else None
            if content is None:
                raise TextError(f"{archive} has {member.name!r}, which is no file but a link or the like")
            with content:
                yield _File(member.name, content)


def _safe_parts(name: str, archive: Path) -> tuple[str, ...]:
    """The path of a member below the folder that it is unpacked to."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    # A name with a colon would be another drive on Windows.
    if not parts or name.startswith("/") or any(part == ".." or ":" in part for part in parts):
        raise TextError(f"{archive} has {name!r}, which is outside of the folder that it is unpacked to")
    return parts


def _move(source: Path, folder: Path) -> None:
    """Moves files, and leaves those that are there already."""
    for found, _, files in os.walk(source):
        target = folder / Path(found).relative_to(source)
        target.mkdir(exist_ok=True)
        for name in files:
            if not os.path.lexists(target / name):
                os.replace(Path(found) / name, target / name)
