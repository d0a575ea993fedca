"""What is a setting of a whole process is measured in processes of its own, one for each side."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch


class Elsewhere:
    """A function that runs in a process of its own; a call waits for its result.

    To ask takes about as long as a small model's single step: let one call take a hundred of them.

    The process starts at the first call, so that it does not disturb what is measured before.

    Args:
        prepare: a module's function; the new process calls it, and then what it returns at every call.
        arguments: for `prepare`.
        environment: variables that the process has from its start.
    """

    def __init__(
        self, prepare: Callable[..., Callable[[], Any]], *arguments: Any, **environment: str
    ) -> None:
        self._prepare, self._arguments, self._environment = prepare, arguments, environment
        self._pipe: Any = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._prepare, *self._arguments)
        with patch.dict(os.environ, self._environment):
            context.Process(target=_serve, args=arguments, daemon=True).start()
        theirs.close()

    def __call__(self) -> Any:
        """What the other process computes."""
        if self._pipe is None:
            self._start()
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
