"""The command's side of the process in which a chapter's cells run (`d2lrnn.cli.chapter_worker`)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import FrameType, TracebackType
from typing import Any

from d2lrnn.chapters.printed import Printed
from d2lrnn.chapters.results import CellResult, ChapterRun
from d2lrnn.chapters.runner import Watcher
from d2lrnn.chapters.source import Cell, Chapter
from d2lrnn.errors import ChapterError

#: What the process begins with: it finds modules where this one does.
_START = """import sys
sys.path[:] = sys.argv.pop().split("\\n")
from d2lrnn.cli.chapter_worker import main
sys.exit(main())"""

#: What a process leaves to be done at its end, it has this time for.
_SECONDS_TO_END = 10.0
#: How often is looked whether the process lives while something else holds its output open.
_SECONDS_TO_LOOK = 1.0
_PIECE = 1 << 16


class ChapterProcess:
    """A process that has loaded a tab, and runs the cells of a chapter; it ends with the block.

    Args:
        chapter: the chapter.
        tab: the book's name of the tab.
        epochs: the largest number of epochs that a cell may ask for; None leaves them as they are.

    Attributes:
        backend: the name of the backend, and what it computes with.

    Raises:
        ChapterError: the chapter has no code for the tab, or the tab cannot be loaded.
        KeyboardInterrupt: the process was interrupted while it loaded the tab.
    """

    def __init__(self, chapter: Chapter, tab: str, epochs: int | None) -> None:
        self._chapter, self._tab, self._cells = chapter, tab, chapter.cells(tab)
        self._epochs = epochs
        cells = [asdict(cell) for cell in self._cells]
        job = {
            "path": str(chapter.path), "tab": tab, "epochs": epochs, "cells": cells,
            "of_first_edition": chapter.of_first_edition,
        }  # fmt: skip
        self._process = _started()
        self._events = self._received()
        try:
            self.backend = self._loaded(json.dumps(job).encode() + b"\n")
        except BaseException:
            self._end(0.0)
            raise

    def __enter__(self) -> ChapterProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(_SECONDS_TO_END if error is None else 0.0)

    def run(self, watcher: Watcher) -> ChapterRun:
        """Runs the cells; where one of them ends the process, those after it are not run.

        Args:
            watcher: its methods are called as the cells run.
        """
        results: list[CellResult] = []
        printed, begun = Printed(), time.perf_counter()
        with self._signals_passed_on() as passed_on:
            for name, *values in self._events:
                cell = self._cells[min(len(results), len(self._cells) - 1)]
                if name == "restored":
                    watcher.restored(*values)
                elif name == "begins":
                    printed, begun = Printed(), time.perf_counter()
                    watcher.begins(cell)
                elif name == "printed":
                    text, stream = values
                    printed.add(stream, text)
                    watcher.printed(text, stream)
                elif name == "ended":
                    seconds, value, figures, capped, *failure = values
                    pictures = tuple(map(b64decode, figures))
                    results.append(
                        CellResult(cell, seconds, value, printed.parts(), pictures, *failure, capped=capped)
                    )
                    watcher.ended(results[-1])
                    printed, begun = Printed(), time.perf_counter()
                elif name == "finished":
                    break
            else:
                if len(results) < len(self._cells):
                    cell = self._cells[len(results)]
                    seconds = time.perf_counter() - begun
                    results.append(self._lost(cell, seconds, printed, interrupted=bool(passed_on)))
                    watcher.ended(results[-1])
        return ChapterRun(self._chapter, self._tab, tuple(results), self._epochs)

    def _loaded(self, job: bytes) -> str:
        """Hands over the job; the backend that was loaded for it."""
        assert self._process.stdin is not None
        with self._signals_passed_on() as passed_on:
            with suppress(BrokenPipeError):
                self._process.stdin.write(job)
                self._process.stdin.flush()
            name, *values = next(self._events, ["ended"])
            if name == "loaded":
                return str(values[0])
            if name == "failed":
                raise ChapterError(values[0])
            how = self._how_it_ended()
        if passed_on:
            raise KeyboardInterrupt
        raise ChapterError(f"the tab {self._tab} cannot be loaded: its process ended with {how}")

    def _lost(self, cell: Cell, seconds: float, printed: Printed, *, interrupted: bool) -> CellResult:
        """The result of the cell with which the process ended."""
        how = self._how_it_ended()
        error, kind = f"cell {cell.number}: its process ended with {how}", "ProcessEnded"
        if interrupted:
            error, kind = f"cell {cell.number}: interrupted", KeyboardInterrupt.__name__
        return CellResult(cell, seconds, None, printed.parts(), (), error, kind)

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _received(self) -> Iterator[list[Any]]:
        """The events of the process, until it ends or a cell has broken the connection."""
        for line in self._lines():
            event = None
            with suppress(ValueError):
                event = json.loads(line)
            if not (isinstance(event, list) and event):
                # A cell wrote into it.
                self._process.kill()
                return
            yield event

    def _lines(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        begun = bytearray()
        while True:
            # What a cell has started can hold the output open for longer than the process lives.
            if os.name == "posix" and not select.select([descriptor], [], [], _SECONDS_TO_LOOK)[0]:
                if self._process.poll() is not None:
                    return
                continue
            piece = os.read(descriptor, _PIECE)
            if not piece:
                return
            begun += piece
            if b"\n" in piece:
                *lines, rest = begun.split(b"\n")
                begun = rest
                yield from map(bytes, lines)

    @contextmanager
    def _signals_passed_on(self) -> Iterator[list[int]]:
        """Within it, Ctrl-C and SIGTERM are for the process; gives those that came.

        The process is in a session of its own: a terminal's Ctrl-C would reach it a second time.
        """
        passed_on: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            passed_on.append(number)
            # On Windows the console has sent it to both.
            if os.name == "posix":
                self._process.send_signal(number)

        previous = _handlers()
        for number in previous:
            signal.signal(number, pass_on)
        try:
            yield passed_on
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _end(self, seconds: float) -> None:
        """Ends the process, which has so much time to end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


def _handlers() -> dict[signal.Signals, Any]:
    """The handlers that a chapter's run replaces: of no signal that is ignored or that a program handles."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    pythons_own = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    return {number: own for number, own in pythons_own.items() if signal.getsignal(number) == own}


def _started() -> subprocess.Popen[bytes]:
    blocked = None
    if hasattr(signal, "pthread_sigmask"):
        # The process takes it when it can answer it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _START, "\n".join(map(str, sys.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
