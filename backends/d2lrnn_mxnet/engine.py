"""Where MXNet computes on a CPU: in the calling thread, or in threads of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import mxnet as mx
from mxnet.runtime import Features

_VARIABLE = "MXNET_ENGINE_TYPE"
_STANDARD_ERROR = 2

#: Held while a learner or a predictor computes. An engine that computes in the calling thread gives every
#: operator the same scratch memory, and a graph with planned memory has one place for its numbers: threads
#: that computed at the same time would overwrite each other's.
COMPUTING = threading.RLock()


# benchmarks/tricks: mxnet, MXNet computes in the calling thread
def compute_where_asked() -> None:
    """Makes MXNet compute on the CPU in the calling thread.

    By default an engine hands operators to threads of its own, each with its own team of OpenMP threads, and
    the teams compete for the cores: with two cores a single step took 1.7 times as long. The numbers are the
    same.

    The engine is fixed for the process by its first operator: after that nothing changes. Nor does it where
    the user has chosen an engine, or in a build for GPUs, which need an asynchronous one.

    Source: MXNet's environment variable ``MXNET_ENGINE_TYPE``.
    """
    if _VARIABLE in os.environ or Features().is_enabled("CUDA"):
        return
    os.environ[_VARIABLE] = "NaiveEngine"
    try:
        with _silence():
            mx.nd.waitall()
    finally:
        del os.environ[_VARIABLE]


@contextmanager
def _silence() -> Iterator[None]:
    """Discards standard error: an engine that is chosen by name writes a line there, from C++."""
    try:
        terminal = os.dup(_STANDARD_ERROR)
    except OSError:  # standard error is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STANDARD_ERROR)
        yield
    finally:
        os.dup2(terminal, _STANDARD_ERROR)
        os.close(terminal)
        os.close(nowhere)
