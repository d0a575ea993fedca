"""One process at a time writes to a run's folder."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from d2lrnn.errors import BusyError, RunError, reason_of

try:
    import fcntl
except ImportError:  # Windows has no such locks: there the folder is not guarded.
    fcntl = None  # type: ignore[assignment]

#: The file in the folder that is locked. It says who holds the lock, and is gone when nobody does.
LOCK = ".d2lrnn-lock"

_HOLDER = re.compile(r"(\d+) (\S+)\n?")
_MAX_BYTES = 512


class _Held(NamedTuple):
    """How often this process holds a folder, and the lock's descriptor; None where there are no locks."""

    times: int
    descriptor: int | None


#: By process, since a child that was forked holds nothing, and by folder: `save_run` locks a folder that
#: training has locked already.
_held: dict[tuple[int, str], _Held] = {}
_guard = threading.Lock()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, so that no other process writes to the run in it.

    The lock is the system's (``flock``): it ends with the process, however that ends. In one process it may
    be taken again.

    Raises:
        BusyError: another process holds it; the message says which.
        RunError: the folder cannot be written to, or a file of somebody else has the name of the lock.
    """
    key = (os.getpid(), os.path.realpath(folder))
    with _guard:
        held = _held.get(key) or _Held(0, None if fcntl is None else _lock(folder))
        _held[key] = held._replace(times=held.times + 1)
    try:
        yield
    finally:
        with _guard:
            held = _held.pop(key)
            if held.times > 1:
                _held[key] = held._replace(times=held.times - 1)
            elif held.descriptor is not None:
                # Removed while it is held: whoever waits for it sees that its file is gone.
                with suppress(OSError):
                    os.unlink(folder / LOCK)
                os.close(held.descriptor)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock; None where the file system has none."""
    path = folder / LOCK
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {reason_of(error)}") from error
        try:
            written = os.pread(descriptor, _MAX_BYTES, 0).decode("utf-8", "replace")
            holder = _HOLDER.fullmatch(written)
            if written and not holder:
                raise RunError(f"{path} is no file of a saved run: choose another folder")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = f"process {holder[1]} on {holder[2]}" if holder else "another process"
                raise BusyError(
                    f"{folder} is in use by {who}: wait until it ends, or choose another folder"
                ) from None
            except OSError:
                os.close(descriptor)
                return None
            if _is_same(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname() or 'here'}\n".encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Its holder has removed it meanwhile.
        os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False
