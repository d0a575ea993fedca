"""Frameworks in processes of their own: one can hang, or end the process that imports it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: What the process runs: a module that answers, what it takes, and the path on which this process finds its
#: modules; without a path it finds what is installed there, and nothing of the folder where it is started.
_PROGRAM = """
import sys
sys.path[:] = sys.argv[3:] or sys.path[1:]
from importlib import import_module
module, _, function = sys.argv[1].partition(":")
getattr(import_module(module), function)(sys.argv[2])
"""


@dataclass(frozen=True)
class Answer:
    """What came of an import.

    Attributes:
        versions: by package, where it works.
        devices: what it computes on, each a name and a description.
        error: what it failed with, or None.
    """

    versions: dict[str, str] = field(default_factory=dict)
    devices: list[list[str]] = field(default_factory=list)
    error: str | None = None


def ask(function: str, names: Sequence[str], seconds: float) -> dict[str, Answer | None]:
    """Answers for several names, whose processes run at the same time.

    Args:
        function: ``module:function`` that is called with ``NAME=FILE`` and writes the answer to the file.
        names: of backends.
        seconds: after which a process is ended; its answer is None.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{number}.json") for number, name in enumerate(names)}
        processes = {
            name: start(function, f"{name}={file}", file.with_suffix(".log")) for name, file in files.items()
        }
        end = time.monotonic() + seconds
        try:
            return {name: _answer(processes[name], files[name], end) for name in names}
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def start(function: str, question: str, log: Path, python: str | None = None) -> subprocess.Popen[bytes]:
    """Starts a process that calls a function, and that Ctrl-C does not reach: whoever starts it ends it.

    Args:
        function: ``module:function``.
        question: what it is called with.
        log: where what it prints goes: a pipe that nobody reads would fill up.
        python: the interpreter of another environment; None takes this one, with the path of this process.
    """
    path = sys.path if python is None else []
    with open(log, "wb") as output:
        return subprocess.Popen(
            [python or sys.executable, "-c", _PROGRAM, function, question, *path],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


def _answer(process: subprocess.Popen[bytes], file: Path, end: float) -> Answer | None:
    try:
        code = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    if file.is_file():
        return Answer(**json.loads(file.read_text("utf-8")))
    ended = how_it_ended(code, file.with_suffix(".log"))
    return Answer(error=f"importing it ends the process with {ended}")


def how_it_ended(code: int, log: Path) -> str:
    """``exit code 1, after: ModuleNotFoundError: …``: what a process returned, and its last words."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    said = log.read_text("utf-8", "replace").strip().splitlines()
    return how + (f", after: {said[-1]}" if said else "")
