"""Starts the workers of this machine and watches over them: where one is lost, the others end soon.

The supervisor imports no framework and moves no numbers. It sees a process that ends at once, one that gives
no sign of life after `PATIENCE`, and hears from a worker whose engine has lost one on another machine.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from d2lrnn.errors import INTERRUPTED, WORKER_LOST

#: A process that gives no sign of life for so many seconds is taken for one that hangs.
PATIENCE = 15.0
#: When one has ended with an error, the others have so many seconds to end with theirs.
_GRACE = 5.0
#: What is heard of several that ended at about the same time is waited for, to name the one that was first.
_SETTLE = 0.5
_TICK = 0.1
_PIECE = 1 << 16
_KEPT_LINES = 200

#: Names the descriptor of the terminal, for what a worker shows on purpose.
TERMINAL_VARIABLE = "D2LRNN_TERMINAL"

#: What a process begins with: it finds modules where this one does.
_START = """import sys
from importlib import import_module
sys.path[:] = sys.argv.pop().split("\\n")
import_module(sys.argv.pop()).main(int(sys.argv.pop()))"""


@dataclass(frozen=True)
class Outcome:
    """How the processes ended.

    Attributes:
        code: the exit code of the run.
        message: what a person is told, in one line; None where there is nothing to tell.
        lost: whether a worker was lost, so that another try may help.
        detail: the last lines of the standard error of the process that the message is about.
    """

    code: int
    message: str | None = None
    lost: bool = False
    detail: tuple[str, ...] = ()


@dataclass
class _Process:
    """A worker or a server, and what is known of it."""

    title: str
    popen: subprocess.Popen[bytes]
    link: socket.socket
    is_server: bool = False
    heard: float = field(default_factory=time.monotonic)
    received: bytes = b""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    unfinished: bytes = b""
    said_lost: str | None = None
    size: int | None = None

    @property
    def code(self) -> int | None:
        return self.popen.poll()

    @property
    def error(self) -> str | None:
        """What it said of its own error, without the name of the program."""
        said = [line for line in self.lines if line.startswith("d2lrnn: ")]
        return said[-1].removeprefix("d2lrnn: ") if said else None


def supervise(
    module: str,
    jobs: Sequence[Mapping[str, Any]],
    environments: Sequence[Mapping[str, str]],
    servers: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]] = (),
    cores: Sequence[Sequence[int]] = (),
    fatal: Sequence[str] = (),
) -> Outcome:
    """Starts a process for every job, and waits until all have ended.

    The first worker has this process' standard output, and its standard error for what it shows on purpose;
    of all others, and of what frameworks write, the last lines are kept for the outcome.

    Args:
        module: its function ``main`` is called in every process, with the descriptor of its link.
        jobs: what each worker gets as `d2lrnn.workers.link.Link.job`.
        environments: the variables of each, beside those of this process; an empty value unsets one.
        servers: jobs, each with its ``role``, and variables of processes that are needed beside the workers.
        cores: the cores of each worker; none leaves all of them to each.
        fatal: see `d2lrnn.workers.engine.Engine.fatal`.
    """
    processes: list[_Process] = []
    try:
        with _signals_to(processes) as passed_on:
            for job, environment in servers:
                name = f"the {job['role']}"
                processes.append(_started(module, name, job, environment, first=False, is_server=True))
            for number, (job, environment) in enumerate(zip(jobs, environments, strict=True)):
                own = cores[number] if cores else None
                title = f"worker {number} of {len(jobs)}"
                if len(jobs) == 1:
                    title = f"the {job.get('role', 'worker')}"
                processes.append(_started(module, title, job, environment, first=number == 0, cores=own))
            outcome = _watch(processes, fatal)
            if passed_on and outcome.code == -passed_on[0]:
                return Outcome(INTERRUPTED)
            return outcome
    finally:
        for process in processes:
            _end(process)


def _started(
    module: str,
    title: str,
    job: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    first: bool,
    cores: Sequence[int] | None = None,
    is_server: bool = False,
) -> _Process:
    ours, theirs = socket.socketpair()
    terminal = os.dup(2) if first else os.open(os.devnull, os.O_WRONLY)
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value}
    variables[TERMINAL_VARIABLE] = str(terminal)
    try:
        popen = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), module, "\n".join(sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=None if first else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=variables,
            pass_fds=[theirs.fileno(), terminal],
            # Ctrl-C reaches this process alone, which passes it on once.
            start_new_session=True,
        )
    finally:
        theirs.close()
        os.close(terminal)
    if cores and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(popen.pid, cores)
    ours.sendall(json.dumps(job).encode() + b"\n")
    ours.setblocking(False)
    assert popen.stderr is not None
    os.set_blocking(popen.stderr.fileno(), False)
    return _Process(title, popen, ours, is_server)


def _watch(processes: Sequence[_Process], fatal: Sequence[str]) -> Outcome:
    """Waits for the workers; the outcome is that of the first that ended badly."""
    workers = [process for process in processes if not process.is_server]
    with selectors.DefaultSelector() as selector:
        for process in processes:
            assert process.popen.stderr is not None
            selector.register(process.link, selectors.EVENT_READ, (process, _hear))
            selector.register(process.popen.stderr, selectors.EVENT_READ, (process, _read_error))
        failed_at: float | None = None
        looked = time.monotonic()
        while any(worker.code is None for worker in workers):
            for key, _ in selector.select(_TICK):
                process, read = key.data
                if not read(process):
                    selector.unregister(key.fileobj)
            now = time.monotonic()
            if now - looked > PATIENCE / 2:
                # This process was stopped itself, or the machine was asleep.
                for process in processes:
                    process.heard = now
            looked = now
            silent = [each for each in processes if each.code is None and now - each.heard > PATIENCE]
            if silent:
                what = f"{silent[0].title} (process {silent[0].popen.pid}) gives no sign of life"
                lines = tuple(silent[0].lines)
                return Outcome(WORKER_LOST, f"{what}: it hangs or was stopped", lost=True, detail=lines)
            if failed_at is None and any(_is_failure(process) for process in processes):
                failed_at = now
            if failed_at is not None:
                first = _first_failure(processes)
                waited = now - failed_at
                by_signal = first.code is not None and first.code < 0
                if waited > (_SETTLE if by_signal or first.is_server else _GRACE):
                    break
    for process in processes:
        _read_error(process)
        _hear(process)
    return _outcome(processes, workers, fatal)


def _is_failure(process: _Process) -> bool:
    """A server ends without an error, too, when the workers have left it, which may end later."""
    return process.code not in (None, 0)


def _first_failure(processes: Sequence[_Process]) -> _Process:
    """That which explains the others: one that was killed, then one with an error of its own."""
    failed = [process for process in processes if _is_failure(process)]
    aborts = (None, -signal.SIGABRT)  # what frameworks do that have lost another worker
    killed = [each for each in failed if each.code not in aborts and (each.code or 0) < 0]
    by_itself = [process for process in failed if process.code != WORKER_LOST]
    return (killed or by_itself or failed)[0]


def _outcome(processes: Sequence[_Process], workers: Sequence[_Process], fatal: Sequence[str]) -> Outcome:
    if not any(_is_failure(worker) for worker in workers) and all(worker.code == 0 for worker in workers):
        return Outcome(0)
    first = _first_failure(processes)
    code, detail = first.code, tuple(first.lines)
    assert code is not None
    if first.is_server:
        what = first.error if code == WORKER_LOST else None
        what = _with_process(what or f"{first.title} {_how(code)}", processes)
        return Outcome(WORKER_LOST, what, lost=True, detail=detail)
    if first.said_lost is not None and code in (WORKER_LOST, -signal.SIGABRT):
        what = _with_process(first.said_lost, processes)
        return Outcome(WORKER_LOST, what, lost=True, detail=detail)
    named = _lost_in(first, fatal) if code == -signal.SIGABRT else None
    if named is not None:
        what = _with_process(f"{named} is gone", processes)
        return Outcome(WORKER_LOST, what, lost=True, detail=detail)
    if code < 0:
        what = f"{first.title} (process {first.popen.pid}) {_how(code)}"
        return Outcome(WORKER_LOST, what, lost=True, detail=detail)
    alone = len(workers) > 1 and sum(worker.code == code for worker in workers) == 1
    message = first.error
    if message is None and code not in (0, INTERRUPTED):
        message = f"{first.title} (process {first.popen.pid}) {_how(code)}"
    elif message is not None and alone:
        message = f"{first.title}: {message}"
    return Outcome(code, message, lost=code == WORKER_LOST, detail=detail)


def _with_process(message: str, processes: Sequence[_Process]) -> str:
    """What an engine says of a process, with its number if it runs here."""
    for process in processes:
        if message.startswith(f"{process.title} "):
            rest = message.removeprefix(process.title)
            return f"{process.title} (process {process.popen.pid}){rest}"
    return message


def _lost_in(process: _Process, fatal: Sequence[str]) -> str | None:
    """Which worker a process that aborted has lost, by what it wrote."""
    written = "\n".join(process.lines)  # a message may have several lines
    for pattern in fatal:
        if found := re.search(pattern, written, re.DOTALL):
            rank = next((group for group in found.groups() if group), "0")
            return f"worker {rank} of {process.size}" if process.size else f"worker {rank}"
    return None


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"


def _hear(process: _Process) -> bool:
    """Takes what a process says; False where it says no more."""
    try:
        piece = process.link.recv(_PIECE)
    except BlockingIOError:
        return True
    except OSError:
        return False
    *lines, process.received = (process.received + piece).split(b"\n")
    for line in lines:
        process.heard = time.monotonic()
        message = json.loads(line)
        if "joined" in message:
            rank, process.size = message["joined"]
            process.title = f"worker {rank} of {process.size}"
        if "lost" in message:
            process.said_lost = message["lost"]
    return bool(piece)


def _read_error(process: _Process) -> bool:
    """Keeps the last lines of a standard error; False at its end."""
    assert process.popen.stderr is not None
    try:
        piece = os.read(process.popen.stderr.fileno(), _PIECE)
    except BlockingIOError:
        return True
    *lines, process.unfinished = (process.unfinished + piece).split(b"\n")
    process.lines.extend(line.decode(errors="replace") for line in lines)
    return bool(piece)


def _end(process: _Process) -> None:
    """Ends a process and all that it started: what it saved is whole at any moment."""
    if process.popen.poll() is None or process.is_server:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.wait()
    process.link.close()
    if process.popen.stderr is not None:
        process.popen.stderr.close()


@contextmanager
def _signals_to(processes: Sequence[_Process]) -> Iterator[list[int]]:
    """Passes SIGINT and SIGTERM on to the workers, and stops and continues them with this process."""
    passed_on: list[int] = []

    def send(number: int) -> None:
        for process in processes:
            if not process.is_server and process.popen.poll() is None:
                with suppress(ProcessLookupError):
                    process.popen.send_signal(number)

    def end(number: int, frame: FrameType | None) -> None:
        passed_on.append(number)
        send(number)

    def stop(number: int, frame: FrameType | None) -> None:
        send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        send(signal.SIGCONT)

    handlers = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGTSTP: stop}
    previous = {number: signal.getsignal(number) for number in handlers}
    kept = {number: handler for number, handler in previous.items() if handler is not signal.SIG_IGN}
    for number in kept:
        signal.signal(number, handlers[number])
    try:
        yield passed_on
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
