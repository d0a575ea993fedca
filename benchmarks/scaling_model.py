"""How many workers pay: measures steps, holds the formulas of `scaling_formulas` to them, makes the table.

    python benchmarks/scaling_model.py --env torch=python --env mxnet=python   # as root: measures, writes
    python benchmarks/scaling_model.py --table                                 # from what was measured

The formulas are held to measured steps of 1, 2 and 4 workers, each in a network namespace of its own behind a
link of given rate and delay (`links`), and a parameter server in a further one. These workers share the two
cores of this machine, which those of a cluster do not: there the computing time is the measured one of a step
on a worker's rows in all of the processes at once, in which nothing is sent. Results go to
``benchmarks/results/scaling.json`` and ``scaling.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from links import DEVICE, Link, Network
from scaling_formulas import (
    ALGORITHMS,
    EFFICIENCY,
    MORE_SERVERS,
    REDUCTIONS,
    Computing,
    Reduction,
    handling_of,
    least_batch,
)

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

#: The variables by which workers of several machines find one another, beside those of `Engine.local`:
#: ``root`` is the machine that all connect to, ``own`` that of the process.
PLACES = {
    "torch": {"MASTER_ADDR": "root", "GLOO_SOCKET_IFNAME": "device"},
    "mxnet": {"DMLC_PS_ROOT_URI": "root", "DMLC_NODE_HOST": "own"},
}


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
