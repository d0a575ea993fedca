"""Imports tried in processes of their own: a framework can hang, or end the process that imports it."""

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

#: What the process runs: the path on which this one finds its modules, a module that answers, what it takes.
_PROGRAM = """
import sys
sys.path[:] = sys.argv[3:]
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
        processes = {name: _start(function, name, file) for name, file in files.items()}
        end = time.monotonic() + seconds
        try:
            return {name: _answer(processes[name], files[name], end) for name in names}
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def _start(function: str, name: str, file: Path) -> subprocess.Popen[bytes]:
    # What a framework prints on the way goes into a file: a pipe that nobody reads would fill up.
    with open(file.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, function, f"{name}={file}", *sys.path],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def _answer(process: subprocess.Popen[bytes], file: Path, end: float) -> Answer | None:
    try:
        code = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    if file.is_file():
        return Answer(**json.loads(file.read_text("utf-8")))
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    said = file.with_suffix(".log").read_text("utf-8", "replace").strip().splitlines()
    last = f", after: {said[-1]}" if said else ""
    return Answer(error=f"importing it ends the process with {how}{last}")
