"""Starts the processes in which backends are verified, and reads what they tell."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from d2lrnn.installation.probe import how_it_ended, start
from d2lrnn.verification.worker import Plan
from d2lrnn.version import __version__

#: What a worker told: see `d2lrnn.verification.worker`.
Event: TypeAlias = dict[str, Any]

_WORKER = "d2lrnn.verification.worker:main"
_POLL_SECONDS = 0.05


def events(plan: Plan, python: str | None, seconds: float) -> Iterator[Event]:
    """What a worker tells, as it tells it; its process is ended with the iterator.

    A process that dies, that tells nothing for too long, or whose d2lrnn is another version gives one event
    more, ``lost``, with the reason and with what it was doing.

    Args:
        plan: what it is to do.
        python: the interpreter; None takes this one, with all that it finds here.
        seconds: after how many seconds without an event it is given up.
    """
    with tempfile.TemporaryDirectory(prefix="d2lrnn-verify-") as folder:
        file, log = Path(folder, "events"), Path(folder, "log")
        file.touch()
        question = json.dumps(asdict(replace(plan, events=str(file))))
        process = start(_WORKER, question, log, python)
        doing = "starting"
        try:
            with file.open("rb") as told:
                heard = time.monotonic()
                pending = b""
                while True:
                    running = process.poll() is None
                    # What is written before the end is read after it was seen.
                    pending += told.read()
                    *lines, pending = pending.split(b"\n")
                    for line in lines:
                        event: Event = json.loads(line)
                        heard = time.monotonic()
                        doing = event["what"] if event["event"] == "begin" else doing
                        if event["event"] == "end":
                            return
                        yield event
                        if event["event"] == "environment" and event["d2lrnn"] != __version__:
                            yield _lost(
                                f"d2lrnn {event['d2lrnn']} is installed there, and {__version__} here", doing
                            )
                            return
                    if not running:
                        yield _ended(how_it_ended(process.returncode, log), doing, python)
                        return
                    if time.monotonic() - heard > seconds:
                        yield _lost(f"it told nothing for {seconds:g} seconds, and was ended", doing)
                        return
                    time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()


def _lost(why: str, doing: str) -> Event:
    return {"event": "lost", "why": why, "doing": doing}


def _ended(how: str, doing: str, python: str | None) -> Event:
    if how.endswith(("No module named 'd2lrnn'", "No module named 'd2lrnn.verification'")):
        return {"event": "absent", "mend": [f"{python} -m pip install d2lrnn=={__version__}"]}
    return _lost(f"its process ended with {how}", doing)
