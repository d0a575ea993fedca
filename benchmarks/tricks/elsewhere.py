"""For settings of a whole process: each side is measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch


class Elsewhere:
    """A function that runs in a process of its own; a call waits for its result.

    A call takes about as long as a small model's single step: one call should do a hundred of them.

    The process starts at the first call, so that it does not disturb earlier measurements, and again at the
    first one after `stop`.

    Args:
        prepare: a function of a module, called once in the new process; it returns the function to call.
        arguments: for `prepare`.
        environment: environment variables of the process, set before it starts.
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
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
        theirs.close()

    def __call__(self) -> Any:
        """The result of the other process."""
        if self._pipe is None:
            self._start()
        self._pipe.send(None)
        return self._pipe.recv()

    def stop(self) -> None:
        """Ends the process."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.join()
            self._pipe = None


def _serve(pipe: Any, prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
    run = prepare(*arguments)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(run())
