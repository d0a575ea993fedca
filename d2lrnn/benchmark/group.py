"""Processes of the benchmark of several workers, which run the same things at once, on request."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from d2lrnn.benchmark.member import Job
from d2lrnn.errors import D2LError

#: What makes a process a server of an engine, which is no worker.
_SERVER = "import json, sys; from d2lrnn.workers.link import serve; serve(json.loads(sys.argv[1]))"


class MemberError(D2LError):
    """A process of a group failed; the message says why, and stays in the table."""


class Group:
    """Processes that run the same things at once, on request.

    Args:
        python: the interpreter.
        jobs: one a process.
        environments: the variables of each, beside those of this process; an empty value unsets one.
        servers: job (`d2lrnn.workers.link.serve`) and variables of processes that are needed beside them.
        errors: a folder for what they write to standard error.
        timeout: within how many seconds they must answer.
        prefixes: what stands before the command of each process, and then of each server.
    """

    def __init__(
        self,
        python: str,
        jobs: Sequence[Job],
        environments: Sequence[Mapping[str, str]],
        *,
        errors: Path,
        timeout: float,
        servers: Sequence[tuple[Mapping[str, str], Mapping[str, str]]] = (),
        prefixes: Sequence[Sequence[str]] = (),
    ) -> None:
        self._timeout, self._counts = timeout, dict[str, int]()
        self._answers: queue.Queue[tuple[int, str]] = queue.Queue()
        self._errors = [errors / f"{number}.txt" for number in range(len(jobs) + len(servers))]
        commands = [["-m", "d2lrnn.benchmark.member", job.to_json()] for job in jobs]
        commands += [["-c", _SERVER, json.dumps(job)] for job, _ in servers]
        variables = [*environments, *(own for _, own in servers)]
        self._processes: list[subprocess.Popen[str]] = []
        self._number = len(jobs)
        for number, (words, own) in enumerate(zip(commands, variables, strict=True)):
            prefix = prefixes[number] if prefixes else ()
            self._processes.append(self._started([*prefix, python, *words], own, self._errors[number]))
        self._readers = [
            threading.Thread(target=self._read, args=(number, process), daemon=True)
            for number, process in enumerate(self._processes[: self._number])
        ]
        for reader in self._readers:
            reader.start()
        self._ready: list[Any] | None = None

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
        for reader in self._readers:
            reader.join()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(BrokenPipeError):
                    stream.close()

    @property
    def ready(self) -> list[Any]:
        """What each process says of itself, once its results are checked.

        Raises:
            MemberError: one is wrong, has ended, or does not answer.
        """
        if self._ready is None:
            self._ready = self._all_answers()
        return self._ready

    def seconds(self, what: str, at_least: float) -> float:
        """The time of one run of `what`, that of the slowest process.

        Args:
            what: see `d2lrnn.benchmark.member`.
            at_least: for how many seconds it is repeated.
        """
        assert self.ready
        if what not in self._counts:
            self._timed(what, 1)
            self._counts[what] = max(1, round(at_least / self._timed(what, 1)))
        return self._timed(what, self._counts[what])

    def _timed(self, what: str, number: int) -> float:
        for process in self._processes[: self._number]:
            assert process.stdin is not None
            try:
                print(what, number, file=process.stdin, flush=True)
            except BrokenPipeError:
                break  # that it ended is read below
        return max(float(seconds) for seconds in self._all_answers())

    def _all_answers(self) -> list[Any]:
        """One line of each process, in their order."""
        answers: dict[int, Any] = {}
        until = time.monotonic() + self._timeout
        while len(answers) < self._number:
            try:
                number, line = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise MemberError(f"no answer within {self._timeout:g} s") from None
            answers[number] = self._understood(number, line)
        return [answers[number] for number in range(self._number)]

    def _understood(self, number: int, line: str) -> Any:
        if not line:
            said = self._errors[number].read_text(errors="replace").strip().splitlines()
            raise MemberError(f"process {number} ended: {said[-1][:300] if said else 'it gave no reason'}")
        answer = json.loads(line)
        if isinstance(answer, str):
            raise MemberError(answer)
        return answer

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._answers.put((number, line))
        self._answers.put((number, ""))

    def _started(self, command: Sequence[str], own: Mapping[str, str], errors: Path) -> subprocess.Popen[str]:
        variables = {name: value for name, value in {**os.environ, **own}.items() if value}
        with errors.open("w") as file:
            return subprocess.Popen(
                command,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
