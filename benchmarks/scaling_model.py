"""How many workers pay: a step's time from its computing time, the gradient's size and the link.

    python benchmarks/scaling_model.py --env torch=python --env mxnet=python   # as root: measures, writes
    python benchmarks/scaling_model.py --table                                 # from what was measured

Every worker computes with its rows of the global batch, then the gradients are summed, then all make the
same update:

    step(N, B) = computing(B / N) + reduction(N, bytes, link)

`computing` is measured, with one process of one thread, and taken as affine in the rows. `reduction` is a
formula of the engine's algorithm: a ring (torch: gloo) or a parameter server (mxnet: ps-lite). Neither
overlaps with the other here: a step's one message is sent when all of the gradient is there.

The formulas are held to measured steps of 1, 2 and 4 workers, each in a network namespace of its own behind a
link of given rate and delay (`links`), and a parameter server in a further one. These workers share the two
cores of this machine, which those of a cluster do not: there the computing time is the measured one of a step
on a worker's rows in all of the processes at once, in which nothing is sent. Results go to
``benchmarks/results/scaling.json`` and ``scaling.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from links import DEVICE, Link, Network

from d2lrnn.benchmark.driver import THREAD_VARIABLES, processor
from d2lrnn.benchmark.group import Group
from d2lrnn.benchmark.markdown import NOTHING, grid, milliseconds
from d2lrnn.benchmark.member import OWN_ROWS, REDUCTION, STEP, Job
from d2lrnn.benchmark.reference import write_reference
from d2lrnn.registry import ENVIRONMENT_VARIABLE, engine_of
from d2lrnn.workers.engine import cores_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

#: The steps that formulas are held to: small ones, so that the link is a good part of them.
MODEL, STEPS_AND_HIDDEN, BATCH = "gru-scratch", "35x512", 64
NUMBERS = (2, 4)
LINKS = (Link.of(0.1, 1.0), Link.of(20.0, 1.0), Link.of(1.0, 0.1))

#: The largest piece in which gloo sends, in bytes.
GLOO_SEGMENT = 1 << 20

#: What processes of one machine have between them.
NO_LINK = Link(0.0, math.inf)

#: The pause between two turns, and within how many seconds processes must answer.
REST, TIMEOUT = 0.05, 300.0

COMMAND = "python benchmarks/scaling_model.py --env torch=PYTHON --env mxnet=PYTHON"

#: How far a prediction may be from what was measured, as a part of that.
TOLERANCE = 0.25

#: The rows of a worker for which computing is measured, and of what the table is.
ROWS = (1, 4, 16, 64, 256)
TABLE_NUMBERS = (8, 16, 32, 64, 128, 256, 512, 1024)
TABLE_GIGABITS = (1.0, 10.0, 100.0)
#: From worker to worker through a switch and two systems' TCP, one way.
TABLE_LATENCY_MS = 0.05
EFFICIENCY = 0.8

#: The variables by which workers of several machines find one another, beside those of `Engine.local`:
#: ``root`` is the machine that all connect to, ``own`` that of the process.
PLACES = {
    "torch": {"MASTER_ADDR": "root", "GLOO_SOCKET_IFNAME": "device"},
    "mxnet": {"DMLC_PS_ROOT_URI": "root", "DMLC_NODE_HOST": "own"},
}

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


def measure(backend: str, python: str, turns: int, seconds: float) -> dict[str, Any]:
    """What the model of a backend is made of and held to, as plain data; times are medians over turns.

    Args:
        backend: its name.
        python: the interpreter that has its framework.
        turns: how many, after one that warms up.
        seconds: how long each lasts at least.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(backend, python, Path(folder), turns, seconds)
        message, loopback = bench.loopback()
        return {
            "backend": backend,
            "message": message,
            "loopback": loopback,
            "computing": {rows: bench.alone(rows) for rows in ROWS},
            "steps": [
                {"link": link._asdict(), "workers": number, **bench.behind(link, number)}
                for link in LINKS
                for number in NUMBERS
            ],
        }


class _Bench:
    """Measures one backend; see `measure`."""

    def __init__(self, backend: str, python: str, folder: Path, turns: int, seconds: float) -> None:
        self._backend, self._python, self._folder = backend, python, folder
        self._turns, self._seconds = turns, seconds
        self._common = {
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent / "backends")]),
            ENVIRONMENT_VARIABLE: backend,
            **dict.fromkeys(THREAD_VARIABLES, "1"),
        }

    def alone(self, rows: int) -> float:
        """Seconds of a step of one worker, with one thread."""
        job = self._job(rows, cores=tuple(cores_of(2)[0]))
        with Group(self._python, [job], [self._common], errors=self._folder, timeout=TIMEOUT) as group:
            return self._medians(group, [STEP])[STEP]

    def loopback(self) -> tuple[int, float]:
        """The bytes of a message, and the seconds of its reduction by two workers without a link."""
        with self._workers(2, None) as group:
            return group.ready[0]["message"], self._medians(group, [REDUCTION])[REDUCTION]

    def behind(self, link: Link, number: int) -> dict[str, float]:
        """Seconds of a step, of the same rows without the others, and of a reduction, of several workers."""
        with self._workers(number, link) as group:
            return self._medians(group, [STEP, OWN_ROWS, REDUCTION])

    @contextmanager
    def _workers(self, number: int, link: Link | None) -> Iterator[Group]:
        """Workers that have joined one another, each on a machine of its own; servers share a further one."""
        engine = engine_of(self._backend)
        workers, servers = engine.environments(number)
        own = [{**self._common, **dict.fromkeys(engine.unset, ""), **each} for each in [*workers, *servers]]
        prefixes: list[Sequence[str]] = []
        with ExitStack() as stack:
            if link is not None:
                network = stack.enter_context(Network(number + bool(servers), link))
                root = network.addresses[number if servers else 0]
                for each, variables in enumerate(own):
                    machine = min(each, number)
                    prefixes.append(network.prefixes[machine])
                    values = {"root": root, "own": network.addresses[machine], "device": DEVICE}
                    variables |= {name: values[what] for name, what in PLACES[self._backend].items()}
            yield stack.enter_context(
                Group(
                    self._python,
                    [self._job(BATCH, number, tuple(cores)) for cores in cores_of(number)],
                    own[:number],
                    servers=[
                        ({"module": engine.server_module, "role": role}, variables)
                        for role, variables in zip(engine.server_roles, own[number:], strict=True)
                    ],
                    prefixes=prefixes,
                    errors=self._folder,
                    timeout=TIMEOUT,
                )
            )

    def _job(self, rows: int, size: int = 0, cores: tuple[int, ...] = ()) -> Job:
        setting = f"{rows}x{STEPS_AND_HIDDEN}"
        reference = self._folder / f"{setting}.npz"
        if not reference.exists():
            write_reference(setting, MODEL, reference)
        return Job(self._backend, setting, MODEL, str(reference), size=size, cores=cores)

    def _medians(self, group: Group, whats: Sequence[str]) -> dict[str, float]:
        times: dict[str, list[float]] = {what: [] for what in whats}
        for turn in range(self._turns + 1):
            for what in whats:
                seconds = group.seconds(what, self._seconds)
                if turn:
                    times[what].append(seconds)
                time.sleep(REST)
        return {what: statistics.median(each) for what, each in times.items()}


def report(document: Mapping[str, Any]) -> str:
    """The model against what was measured, and the table for more workers, as Markdown."""
    parts = [
        "# How many workers pay: a model, and what it is held to",
        _ABOUT.format(command=COMMAND, **{name: document[name] for name in ("processor", "system", "turns")}),
        "## Held to measured steps",
        _HELD,
        *(_held(found) for found in document["backends"]),
        "## From 8 to 1,024 workers",
        _TABLE,
        *(part for found in document["backends"] for part in _table(found)),
    ]
    return "\n\n".join(parts) + "\n"


_ABOUT = """The command, as root: `{command}`. {processor} cores, {system}. Times are medians of {turns}
turns."""

_HELD = f"""A step of {MODEL} at batch {BATCH} x {STEPS_AND_HIDDEN}, of workers in network namespaces
behind links of the given rate and delay (one way; `benchmarks/links.py`). The prediction for one worker is
the line of its computing, below. That for several is the measured step on a worker's rows in all processes
at once without a sum, which has in it that they share two cores here, plus the formula of the sum. A
prediction must be within {TOLERANCE:.0%} of what was measured. The last columns are the sum alone."""

_TABLE = f"""Each worker is one thread of this machine, with a link of its own and {TABLE_LATENCY_MS} ms
from worker to worker. The batch is the global one below which the efficiency falls below {EFFICIENCY:.0%}:
with it N workers are {EFFICIENCY} N times as fast as one. Faster workers shorten the computing, not the
sum, and need a larger batch in proportion."""


def computing_of(found: Mapping[str, Any]) -> Computing:
    """The line through the steps of one worker."""
    return Computing.fitted({int(rows): seconds for rows, seconds in found["computing"].items()})


def predicted(found: Mapping[str, Any], step: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of a measured step, and of its reduction, by the model."""
    backend, message = found["backend"], found["message"]
    handling = handling_of(backend, message, found["loopback"])
    reduction = REDUCTIONS[backend](step["workers"], message, Link(**step["link"]), handling)
    return step[OWN_ROWS] + reduction, reduction


def _held(found: Mapping[str, Any]) -> str:
    computing, alone = computing_of(found), found["computing"][str(BATCH)]
    line = computing.seconds(BATCH)
    rows = [[
        found["backend"], NOTHING, "1", NOTHING, NOTHING, milliseconds(line), milliseconds(line),
        milliseconds(alone), _error(line, alone), NOTHING, NOTHING,
    ]]  # fmt: skip
    for step in found["steps"]:
        seconds, reduction = predicted(found, step)
        link = Link(**step["link"])
        rows.append([
            found["backend"], ALGORITHMS[found["backend"]], str(step["workers"]),
            f"{link.bandwidth * 8 / 1e9:g}", f"{link.latency * 1e3:g}", milliseconds(step[OWN_ROWS]),
            milliseconds(seconds), milliseconds(step[STEP]),
            _error(seconds, step[STEP]), milliseconds(reduction), milliseconds(step[REDUCTION]),
        ])  # fmt: skip
    header = [
        "backend", "sum", "workers", "Gbit/s", "delay, ms", "computing, ms", "predicted step, ms",
        "measured step, ms", "off by", "predicted sum, ms", "measured sum, ms",
    ]  # fmt: skip
    return grid(header, rows)


def _error(value: float, expected: float) -> str:
    off = value / expected - 1
    return f"{round(100 * off):+d}%" + ("" if abs(off) <= TOLERANCE else " ✗")


def _table(found: Mapping[str, Any]) -> list[str]:
    backend, message = found["backend"], found["message"]
    measured, handling = found["computing"], handling_of(backend, message, found["loopback"])
    computing = computing_of(found)
    off = max(abs(computing.seconds(int(rows)) / seconds - 1) for rows, seconds in measured.items())
    about = (
        f"**{backend}**: a message of {message / 1e6:.1f} MB; computing takes "
        f"{milliseconds(computing.fixed)} ms + {milliseconds(computing.each)} ms a row (measured at "
        f"{', '.join(measured)} rows, from which the line is off by {off:.0%} at most); a byte costs the "
        f"processors {handling * 1e9:.2g} ns of the sum."
    )
    parts = [about, f"{ALGORITHMS[backend]}:", _batches(computing, REDUCTIONS[backend], message, handling)]
    if backend in MORE_SERVERS:
        parts += ["as many parameter servers as workers, which was not measured:"]
        parts += [_batches(computing, MORE_SERVERS[backend], message, handling)]
    return parts


def _batches(computing: Computing, reduction: Reduction, message: float, handling: float) -> str:
    rows = []
    for number in TABLE_NUMBERS:
        for gigabits in TABLE_GIGABITS:
            seconds = reduction(number, message, Link.of(TABLE_LATENCY_MS, gigabits), handling)
            batch = least_batch(computing, number, seconds)
            step = computing.seconds(batch / number) + seconds
            rows.append([
                str(number), f"{gigabits:g}", milliseconds(seconds), f"{batch:,}", f"{batch // number:,}",
                milliseconds(step), f"{seconds / step:.0%}",
            ])  # fmt: skip
    header = ["workers", "Gbit/s", "sum, ms", "batch", "rows a worker", "step, ms", "the sum's part"]
    return grid(header, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and writes the files."""
    parser = argparse.ArgumentParser(description="Predicted and measured steps of several workers.")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a turn, at least")
    parser.add_argument("--table", action="store_true", help="measure nothing, and write the tables")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    given = parser.parse_args(argv)
    if not given.table:
        document: dict[str, Any] = {
            "processor": f"{processor()}, {os.cpu_count()}",
            "system": platform.platform(),
            "turns": given.turns,
            "backends": [],
        }
        for pair in given.env:
            backend, python = pair.split("=", 1)
            document["backends"].append(measure(backend, python, given.turns, given.seconds))
            given.out.write_text(json.dumps(document) + "\n")
    given.out.with_suffix(".md").write_text(report(json.loads(given.out.read_text())))


if __name__ == "__main__":
    main()
