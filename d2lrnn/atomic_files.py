"""Files that are replaced whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes, beside: Path | None = None) -> None:
    """Replaces a file, or makes it; no other process ever sees half of it.

    A file that is replaced passes on its mode and its owner.

    Args:
        path: the file.
        content: all of it.
        beside: under which name, in the same folder, it is written before it takes its place: a kill may
            leave it. None is a name that no file has.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    # Not mkstemp, whose files only their owner may read.
    name = beside or path.parent / f".{path.name}-{uuid.uuid4().hex}"
    try:
        with open(name, "xb") as file:
            file.write(content)
            file.flush()
            _as_before(path, file.fileno())
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _as_before(path: Path, descriptor: int) -> None:
    """Gives a new file the owner and the mode of the one that it will replace, as far as we may."""
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISREG(before.st_mode) and hasattr(os, "fchown"):
        with suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def sync_folder(path: Path) -> None:
    """Makes a rename in this folder last; where folders cannot be opened (Windows) the system does it."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
