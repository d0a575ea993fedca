"""Memory that one training step has freed, kept for the next one.

The C library of Linux returns a large block to the system when it is freed, and the next step requests it
again: the system clears every page of it at the first access. That is a tenth to a third of the time of a
step whose arrays take tens of megabytes. The setting is the whole process', so a library must not make it by
itself: the command line makes it, and the benchmark, for every subject that it measures.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# From malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Sets the C library to keep what is freed, in one heap for all threads: others are limited to 64 MB.

    Returns:
        Whether it could be set; only glibc has these settings.

    Example:
        >>> keep_freed_memory()  # doctest: +SKIP
        True
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    options = {_ARENA_MAX: 1, _TRIM_THRESHOLD: _NEVER, _MMAP_THRESHOLD: _NEVER}
    accepted = [mallopt(option, value) for option, value in options.items()]
    return all(accepted)


def release_freed_memory() -> None:
    """Returns what is kept now to the system; what is freed later is kept again. Only glibc can."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
