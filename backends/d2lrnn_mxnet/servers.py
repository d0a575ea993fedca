"""The processes that MXNet's engine for several workers needs beside them: a scheduler, and servers.

The scheduler tells every process where the others are, and the servers add up what the workers send. Where
``DMLC_ROLE`` says that a process is one of them, ``import mxnet`` serves until the run ends. Here the package
does it instead: MXNet's server runs any pickled code that it is sent, and neither of the two ends when a
worker has died.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from typing import Any, NoReturn

from d2lrnn.errors import WORKER_LOST

_ROLE = "DMLC_ROLE"

#: How many seconds all processes may take to come together.
PATIENCE_AT_START = 300.0
#: So soon after its call the engine has begun for certain; to ask it before would end the process.
_SECONDS_TO_BEGIN = 3.0

_Controller = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def serve(role: str) -> NoReturn:
    """Serves until the run ends, and ends the process; to be called before the first import of MXNet.

    Args:
        role: ``"scheduler"`` or ``"server"``.
    """
    del os.environ[_ROLE]  # MXNet would begin to serve when it is imported
    import mxnet as mx

    from d2lrnn_mxnet.engine import compute_where_asked
    from d2lrnn_mxnet.heartbeats import send_heartbeats

    os.environ[_ROLE] = role
    compute_where_asked()
    send_heartbeats()
    store = mx.kv.create("dist_sync")
    threading.Thread(target=_watch, args=(store, role), daemon=True).start()
    mx.base.check_call(mx.base._LIB.MXKVStoreRunServer(store.handle, _Controller(_ignore), None))
    # At an orderly exit the engine's own threads could still be at work.
    os._exit(0)


def _ignore(command: int, body: bytes, _: Any) -> None:
    """What a server does with a command of a worker's that the engine itself does not know."""


def _watch(store: Any, role: str) -> NoReturn:
    """Ends the process if another one is lost, or if not all come: with this one the run ends for all."""
    import mxnet as mx

    from d2lrnn_mxnet.heartbeats import (
        PATIENCE,
        SCHEDULER,
        SCHEDULERS_PATIENCE,
        Heartbeats,
        server_nodes,
        worker_nodes,
    )

    started = time.monotonic()
    time.sleep(_SECONDS_TO_BEGIN)
    while not _all_have_come(store, mx.MXNetError):
        if time.monotonic() - started > PATIENCE_AT_START:
            _end(f"the {role} waited {PATIENCE_AT_START:.0f} s for all workers and servers")
        time.sleep(1)
    if role == "scheduler":
        workers, servers = (int(os.environ[f"DMLC_NUM_{kind}"]) for kind in ("WORKER", "SERVER"))
        nodes = worker_nodes(workers) | server_nodes(servers)
        heartbeats = Heartbeats(store, nodes, SCHEDULERS_PATIENCE)
    else:
        heartbeats = Heartbeats(store, {SCHEDULER: "the scheduler"}, PATIENCE)
    while True:
        lost = heartbeats.silent()
        if lost is not None:
            _end(f"{lost} gives no sign of life")
        time.sleep(1)


def _all_have_come(store: Any, not_yet: type[Exception]) -> bool:
    try:
        return int(store.rank) >= 0
    except not_yet:
        return False


def _end(message: str) -> NoReturn:
    print(f"d2lrnn: {message}", file=sys.stderr, flush=True)
    os._exit(WORKER_LOST)
