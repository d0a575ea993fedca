"""A worker's line to the supervisor of its machine (`d2lrnn.workers.supervisor`).

The worker says each second that it lives, and ends when its supervisor has, or when its engine has lost
another worker. What it says are lines of JSON.
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

#: An engine asks its worker 0 whether all live: where it has no answer for so many seconds, that is lost.
_SECONDS_TO_ANSWER = 20.0
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
        self._asked: float | None = None
        self._size = 0
        threading.Thread(target=self._live, daemon=True).start()

    def joined(self, rank: int, size: int, lost: Callable[[], str | None]) -> None:
        """Says which worker this is, and has the engine asked every second for one that is lost."""
        self._send(joined=[rank, size])
        self._size = size
        # A thread of its own: where the network is cut, the engine waits for an answer.
        threading.Thread(target=self._ask, args=[lost], daemon=True).start()

    def says_lost(self, message: str) -> None:
        """Says that another worker is lost: this one is about to end for it."""
        self._send(lost=message)

    def _live(self) -> None:
        looked = time.monotonic()
        while True:
            self._send(alive=True)
            now, asked = time.monotonic(), self._asked
            if asked is not None and now - looked > _SECONDS_TO_ANSWER / 2:
                self._asked = now  # this process was stopped itself
            elif asked is not None and now - asked > _SECONDS_TO_ANSWER:
                self._end(f"worker 0 of {self._size}")
            looked = now
            said = select.select([self._socket], [], [], SECONDS_BETWEEN_SIGNS)[0]
            if said and not self._socket.recv(_PIECE):
                os._exit(WORKER_LOST)  # the supervisor has ended

    def _ask(self, lost: Callable[[], str | None]) -> None:
        while True:
            self._asked = time.monotonic()
            who = lost()
            self._asked = None
            if who is not None:
                self._end(who)
            time.sleep(SECONDS_BETWEEN_SIGNS)

    def _end(self, lost: str) -> NoReturn:
        self.says_lost(f"{lost} does not answer")
        os._exit(WORKER_LOST)

    def _send(self, **message: Any) -> None:
        try:
            with self._sending:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(WORKER_LOST)
