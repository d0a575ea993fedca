"""Ctrl-C, put off until the step under way is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_flag(*, reraise: bool = False) -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a flag, so that no step is cut in two; the second one interrupts as ever.

    Only the main thread can handle signals: in any other the flag is never set.

    Args:
        reraise: whether to raise KeyboardInterrupt at the end if the flag is set.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def first_interrupt(signum: int, frame: FrameType | None) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, first_interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
    if reraise and flag.is_set():
        raise KeyboardInterrupt
