"""Ctrl-C, and the signal by which batch systems end a job, put off until the step under way is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupt_flag(*, reraise: bool = False) -> Iterator[threading.Event]:
    """Turns the first SIGINT (Ctrl-C) or SIGTERM into a flag, so that no step is cut in two.

    The second one does what it did before. A signal that is ignored stays so, as that of a job in the
    background of a shell; and a program that handles SIGTERM by itself goes on to do so. Only the main thread
    can handle signals: in any other the flag is never set.

    Args:
        reraise: whether to raise KeyboardInterrupt at the end if the flag is set.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    if previous[signal.SIGTERM] is not signal.SIG_DFL:
        del previous[signal.SIGTERM]
    # None is a handler that was not installed by Python, which could not be put back.
    previous = {
        number: handler for number, handler in previous.items() if handler not in (signal.SIG_IGN, None)
    }

    def first_signal(number: int, frame: FrameType | None) -> None:
        flag.set()
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, first_signal)
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if reraise and flag.is_set():
        raise KeyboardInterrupt
