"""What is a setting of a whole process is measured in processes of its own, one for each side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any


class Elsewhere:
    """A function that runs in a process of its own; a call waits for its result.

    To ask takes about as long as a small model's single step: let one call take a hundred of them.

    Args:
        prepare: a module's function; the new process calls it, and then what it returns at every call.
        arguments: for `prepare`.
    """

    def __init__(self, prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, prepare, *arguments), daemon=True).start()
        theirs.close()

    def __call__(self) -> Any:
        """What the other process computes."""
        self._pipe.send(None)
        return self._pipe.recv()


def _serve(pipe: Any, prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
    run = prepare(*arguments)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(run())
