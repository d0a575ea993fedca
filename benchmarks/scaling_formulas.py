"""A step's time of several workers, from its computing time, the gradient's size and the link.

Every worker computes with its rows of the global batch, then the gradients are summed, then all make the
same update:

    step(N, B) = computing(B / N) + reduction(N, bytes, link)

`computing` is measured, with one process of one thread, and taken as affine in the rows. `reduction` is a
formula of the engine's algorithm: a ring (torch: gloo) or a parameter server (mxnet: ps-lite). Neither
overlaps with the other here: a step's one message is sent when all of the gradient is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from links import Link

#: The largest piece in which gloo sends, in bytes.
GLOO_SEGMENT = 1 << 20

#: What processes of one machine have between them.
NO_LINK = Link(0.0, math.inf)

#: Below this, workers do not pay.
EFFICIENCY = 0.8

Reduction = Callable[[int, float, Link, float], float]


def ring_seconds(
    workers: int, num_bytes: float, link: Link, handling: float = 0.0, crossings: int | None = None
) -> float:
    """A sum by a ring all-reduce.

    Each worker sends an N-th of the message to the next one 2(N - 1) times: N - 1 until every part is summed
    somewhere, N - 1 until all have all parts. So

        2(N - 1) · latency + 2(N - 1) / N · bytes · (1 / bandwidth + handling)

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
    Journal of Parallel and Distributed Computing 69 (2009); the term of what a byte costs the processors:
    Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH" (2005).

    Args:
        workers: N.
        num_bytes: the message.
        link: of each worker, both directions at once.
        handling: seconds in which a worker sends, receives and adds a byte without any link.
        crossings: how many latencies pass, one after the other, in place of 2(N - 1).

    Example:
        >>> ring_seconds(4, 1e6, Link(latency=0.001, bandwidth=1e6))
        1.506
    """
    rounds = 2 * (workers - 1)
    waits = (rounds if crossings is None else crossings) * link.latency
    return waits + rounds / workers * num_bytes * (1 / link.bandwidth + handling)


def gloo_seconds(workers: int, num_bytes: float, link: Link, handling: float = 0.0) -> float:
    """A sum by gloo's ring, which crosses the link more often than it must.

    It cuts a worker's N-th of the message into s segments of 1 MiB at most, but at least two. Two are under
    way at a time; and before one is sent, the receiver has said that it is ready. So 2(N - 1)·s segments take
    (N - 1)·s round trips.

    Source: ``gloo/allreduce.cc`` and ``gloo/transport/tcp/pair.cc``; that it is so was measured with delays
    of 20 ms and sums from 4 kB to 16 MB.

    Args:
        workers: N.
        num_bytes: the message.
        link: of each worker, both directions at once.
        handling: as for `ring_seconds`.

    Example:
        >>> gloo_seconds(4, 1e6, Link(latency=0.001, bandwidth=1e6))
        1.512
    """
    segments = math.ceil(max(math.ceil(num_bytes / GLOO_SEGMENT), 2 * workers) / workers)
    return ring_seconds(workers, num_bytes, link, handling, crossings=2 * (workers - 1) * segments)


def server_seconds(
    workers: int, num_bytes: float, link: Link, handling: float = 0.0, servers: int = 1
) -> float:
    """A sum by parameter servers.

    Every worker sends its message, cut among the servers, which answer with the sum when they have all. The
    link of a server carries N messages divided by the number of servers in each direction, that of a worker
    one; the busier counts, and the answers come after the last message is there:

        2 · (latency + max(1, N / servers) · bytes · (1 / bandwidth + handling))

    Source: Li et al., "Scaling distributed machine learning with the parameter server", OSDI (2014).

    Args:
        workers: N.
        num_bytes: the message.
        link: of each worker and server, both directions at once.
        handling: seconds in which a server receives, adds and sends a byte without any link.
        servers: on machines of their own.

    Example:
        >>> server_seconds(4, 1e6, Link(latency=0.001, bandwidth=1e6))
        8.002
        >>> server_seconds(4, 1e6, Link(latency=0.001, bandwidth=1e6), servers=4)
        2.002
    """
    if workers == 1:
        return 0.0
    busiest = max(1.0, workers / servers)
    return 2 * (link.latency + busiest * num_bytes * (1 / link.bandwidth + handling))


def exact_server_seconds(
    workers: int, num_bytes: float, link: Link, handling: float = 0.0, servers: int = 1
) -> float:
    """A sum by MXNet's parameter servers, that of more than two workers in digits.

    The servers add in the order in which messages come, so of more than two workers they are sent three whole
    numbers for each number, after a sum of one number that says in which unit (`d2lrnn_mxnet.sums`).

    Args:
        workers: N.
        num_bytes: the message.
        link: of each worker and server, both directions at once.
        handling: as for `server_seconds`.
        servers: on machines of their own.

    Example:
        >>> round(exact_server_seconds(4, 1e6, Link(latency=0.001, bandwidth=1e6)), 6)
        24.004
    """
    if workers <= 2:
        return server_seconds(workers, num_bytes, link, handling, servers)
    return 2 * link.latency + server_seconds(workers, 3 * num_bytes, link, handling, servers)


REDUCTIONS: dict[str, Reduction] = {"torch": gloo_seconds, "mxnet": exact_server_seconds}
MORE_SERVERS: dict[str, Reduction] = {
    "mxnet": lambda workers, *rest: exact_server_seconds(workers, *rest, servers=workers)
}
ALGORITHMS = {"torch": "gloo's ring", "mxnet": "one parameter server"}


class Computing(NamedTuple):
    """The time of a step of one worker that sums over no one: ``fixed + each · rows`` seconds.

    Attributes:
        fixed: what does not depend on the rows: the update, the norm, what it takes to begin.
        each: of a row.
    """

    fixed: float
    each: float

    @classmethod
    def fitted(cls, measured: Mapping[int, float]) -> Computing:
        """The line with the least squares of relative errors.

        Args:
            measured: seconds by rows.

        Example:
            >>> line = Computing.fitted({1: 3.0, 2: 5.0, 4: 9.0})
            >>> round(line.fixed, 6), round(line.each, 6)
            (1.0, 2.0)
        """
        rows, seconds = np.array(list(measured), float), np.array(list(measured.values()))
        columns = np.stack([1 / seconds, rows / seconds], axis=1)
        (fixed, each), *_ = np.linalg.lstsq(columns, np.ones(len(rows)), rcond=None)
        return cls(max(0.0, float(fixed)), float(each))

    def seconds(self, rows: float) -> float:
        """Of a step on so many rows."""
        return self.fixed + self.each * rows


def efficiency(computing: Computing, workers: int, batch: float, reduction: float) -> float:
    """How many times as fast as one worker N workers are with the same global batch, divided by N.

    ``computing(B) / (N · (computing(B / N) + reduction))``.

    Example:
        >>> efficiency(Computing(0.0, 1.0), workers=4, batch=8, reduction=2.0)
        0.5
    """
    return computing.seconds(batch) / (workers * (computing.seconds(batch / workers) + reduction))


def least_batch(computing: Computing, workers: int, reduction: float, wanted: float = EFFICIENCY) -> int:
    """The global batch below which `efficiency` falls below what is wanted, in rows; N divides it.

    With computing = a + c · rows and a reduction r, the efficiency is (a + c·B) / (N·(a + r) + c·B), which
    is the wanted E at B = (E·N·(a + r) - a) / (c·(1 - E)).

    Example:
        >>> least_batch(Computing(0.0, 1.0), workers=4, reduction=2.0)
        32
        >>> efficiency(Computing(0.0, 1.0), workers=4, batch=32, reduction=2.0)
        0.8
    """
    a, c = computing
    batch = (wanted * workers * (a + reduction) - a) / (c * (1 - wanted))
    # A rounding error is no further row.
    return workers * max(1, math.ceil(batch / workers - 1e-9))


def handling_of(backend: str, message: float, measured: float) -> float:
    """Seconds a byte, from a reduction of two workers that took `measured` seconds without a link.

    Example:
        >>> handling_of("torch", 1e6, gloo_seconds(2, 1e6, NO_LINK, 1e-9))
        1e-09
    """
    return measured / REDUCTIONS[backend](2, message, NO_LINK, 1.0)
