"""Where MXNet computes on a CPU: in the thread that asks, or in threads of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import mxnet as mx
from mxnet.runtime import Features

_VARIABLE = "MXNET_ENGINE_TYPE"
_STANDARD_ERROR = 2


# benchmarks/tricks: mxnet, MXNet computes in the calling thread
def compute_where_asked() -> None:
    """Has MXNet compute on the CPU in the calling thread.

    By default an engine hands operators to threads of its own, each with a team of OpenMP threads of its own,
    and the teams get in each other's way: with two cores a training step took up to three times as long, and
    writing one character twice. The numbers are the same.

    An engine serves the whole process from its first operator on: where there has been one, all stays as it
    was, and so it does where the user has chosen an engine, and in a build for GPUs, which are kept busy from
    the side.

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
    """Nothing reaches standard error: an engine that was asked for writes a line there, from C++."""
    try:
        terminal = os.dup(_STANDARD_ERROR)
    except OSError:  # It is closed.
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
