"""A worker's line to the supervisor of its machine (`d2lrnn.workers.supervisor`).

The worker says each second that it lives, and ends when its supervisor has. What it says are lines of JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NoReturn

from d2lrnn.errors import WORKER_LOST

#: How often a worker says that it lives.
SECONDS_BETWEEN_SIGNS = 1.0
_PIECE = 1 << 16


def serve(job: Mapping[str, Any]) -> NoReturn:
    """Makes this process a server of the engine, as `Engine.server_module` does, until the run ends."""
    # Ctrl-C ends the workers, and their end the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_module(job["module"])
    os._exit(0)


class Link:
    """The worker's end.

    Args:
        descriptor: of a connected stream socket.

    Attributes:
        job: what the supervisor asked for.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._sending = threading.Lock()
        received = b""
        while not received.endswith(b"\n"):
            piece = self._socket.recv(_PIECE)
            if not piece:
                os._exit(WORKER_LOST)
            received += piece
        self.job: dict[str, Any] = json.loads(received)
        self._lost: Callable[[], str | None] = lambda: None
        threading.Thread(target=self._live, daemon=True).start()

    def joined(self, rank: int, size: int, lost: Callable[[], str | None]) -> None:
        """Says which worker this is, and has the engine asked every second for one that is lost."""
        self._send(joined=[rank, size])
        self._lost = lost

    def says_lost(self, message: str) -> None:
        """Says that another worker is lost: this one is about to end for it."""
        self._send(lost=message)

    def _live(self) -> None:
        while True:
            started = time.monotonic()
            self._send(alive=True)
            lost = self._lost()
            if lost is not None:
                self.says_lost(f"{lost} does not answer")
                os._exit(WORKER_LOST)
            wait = max(0.0, started + SECONDS_BETWEEN_SIGNS - time.monotonic())
            if select.select([self._socket], [], [], wait)[0] and not self._socket.recv(_PIECE):
                os._exit(WORKER_LOST)  # the supervisor has ended

    def _send(self, **message: Any) -> None:
        try:
            with self._sending:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(WORKER_LOST)
