"""Memory that one training step has freed, kept for the next one.

The C library of Linux gives a large block back to the system when it is freed, and the next step asks for it
anew: the system clears it, page by page, at the first touch of each. That is a tenth to a third of the time
of a step whose arrays take tens of megabytes. What is said here counts for the whole process, so it is for
whoever owns the process to say: the command line does, and the benchmark does it for all whom it measures.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

# From malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells the C library to keep what is freed, in one heap for all threads: others are limited to 64 MB.

    Returns:
        Whether it could be told; only glibc can.

    Example:
        >>> keep_freed_memory()  # doctest: +SKIP
        True
    """
    mallopt = _function("mallopt")
    if mallopt is None:
        return False
    told = [mallopt(_ARENA_MAX, 1), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_MMAP_THRESHOLD, _NEVER)]
    return all(told)


def release_freed_memory() -> None:
    """Gives back what is kept now; what is freed later on is kept again. Without glibc nothing happens."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
