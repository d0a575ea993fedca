"""The process of one worker of ``d2lrnn train --workers``, or of a server that the engine needs beside them.

What it shows on purpose goes to the command's terminal if it is worker 0, and nowhere else. What it and the
frameworks write to standard error, the supervisor keeps.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from d2lrnn.allocator import keep_freed_memory
from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.main import reported
from d2lrnn.cli.output import warnings_in_one_line
from d2lrnn.cli.output_files import lines_beside
from d2lrnn.cli.streams import in_one_line, patient_streams
from d2lrnn.cli.train import train_as_worker
from d2lrnn.errors import WorkerLostError
from d2lrnn.workers.link import Link, serve
from d2lrnn.workers.supervisor import TERMINAL_VARIABLE


def main(descriptor: int) -> NoReturn:
    """Does what the supervisor asks for, and ends the process."""
    link = Link(descriptor)
    if "role" in link.job:
        serve(link.job)
    sys.stderr = os.fdopen(int(os.environ.pop(TERMINAL_VARIABLE)), "w", buffering=1, encoding="utf-8")
    with patient_streams():
        code = _worked(link, link.job["request"])
        sys.stdout.flush()
    # Not sys.exit: threads of the framework's engine may wait for workers that have ended.
    os._exit(code)


def _worked(link: Link, values: Mapping[str, Any]) -> int:
    request = TrainRequest(**values)

    def command() -> int:
        keep_freed_memory()
        with warnings_in_one_line(), lines_beside(request.output_paths):
            try:
                return train_as_worker(request, link)
            except WorkerLostError as error:
                link.says_lost(str(error))
                raise

    def report(message: str, code: int) -> int:
        if request.debug:
            os.write(2, traceback.format_exc().encode())
        os.write(2, f"d2lrnn: {in_one_line(message)}\n".encode())
        return code

    return reported(command, report)
