"""The process in which ``d2lrnn chapter`` runs the cells: whatever they do to it, the command goes on.

Standard input brings the job, a line of JSON, and then stays open for as long as the command lives: this
process ends with it. Every event is a line of JSON on what was standard output; what a cell writes to the
descriptor itself goes to standard error. A cell that asks for input finds none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any, BinaryIO

from d2lrnn.allocator import keep_freed_memory
from d2lrnn.chapters.results import CellResult
from d2lrnn.chapters.runner import load_tab, run_cells
from d2lrnn.chapters.source import Cell
from d2lrnn.cli.output import describe_versions, warnings_in_one_line
from d2lrnn.errors import INTERRUPTED, D2LError
from d2lrnn.registry import backend


class _Events:
    """Sends the events of a chapter's run, as `d2lrnn.chapters.runner.Watcher` has them, and a few more."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._process = stream, os.getpid()

    def send(self, name: str, *values: Any) -> None:
        # What a cell forks is another process, and would run the other cells as well.
        if os.getpid() == self._process:
            self._stream.write(json.dumps([name, *values]).encode() + b"\n")
            self._stream.flush()

    def restored(self, name: str, why: str) -> None:
        self.send("restored", name, why)

    def begins(self, cell: Cell) -> None:
        self.send("begins", cell.number)

    def printed(self, text: str, stream: str) -> None:
        self.send("printed", text, stream)

    def ended(self, result: CellResult) -> None:
        figures = [b64encode(picture).decode() for picture in result.figures]
        failure = result.error, result.error_kind, result.traceback
        self.send("ended", result.seconds, result.value, figures, result.capped, *failure)


def main() -> int:
    """Runs the job; returns the exit code."""
    line = sys.stdin.buffer.readline()
    if not line:
        return INTERRUPTED  # before there was a job
    events = _Events(_take_descriptors())
    try:
        if hasattr(signal, "pthread_sigmask"):
            # The command has blocked it, so that it does not come while modules are imported.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        keep_freed_memory()
        with warnings_in_one_line():
            _run(json.loads(line), events)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _run(job: dict[str, Any], events: _Events) -> None:
    tab = job["tab"]
    try:
        library, restored = load_tab(tab)
        chosen = backend(tab)
        events.send("loaded", f"{chosen.name} ({describe_versions(chosen)})")
    except D2LError as error:
        events.send("failed", str(error))
        return
    cells = [Cell(**cell) for cell in job["cells"]]
    path, epochs = Path(job["path"]), job["epochs"]
    run_cells(
        path, cells, tab, library, restored=restored, epochs=epochs, watcher=events,
        of_first_edition=job["of_first_edition"],
    )  # fmt: skip
    events.send("finished")


def _take_descriptors() -> BinaryIO:
    """Takes standard input and output away from the cells; the stream for the events."""
    command, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    threading.Thread(target=_end_with, args=[command], daemon=True).start()
    return os.fdopen(events, "wb")


def _end_with(command: int) -> None:
    """Ends this process when the command has ended."""
    os.read(command, 1)
    os._exit(INTERRUPTED)
