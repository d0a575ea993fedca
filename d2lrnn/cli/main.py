"""The entry point: argv to a request, the request to its command, errors to one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from d2lrnn.cli.parser import COMPLETING, parse
from d2lrnn.cli.streams import in_one_line, patient_streams
from d2lrnn.errors import (
    INTERRUPTED,
    UNEXPECTED,
    WORKER_LOST,
    WRONG_INPUT,
    D2LError,
    WorkerLostError,
    reason_of,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code.

    Args:
        argv: the arguments; None takes those of the process.

    Raises:
        SystemExit: for ``--help`` and ``--version``, and where argv does not fit the parser.
    """
    if COMPLETING in os.environ and argv is None:
        from d2lrnn.cli.completion import answer_shell

        answer_shell()
    argv = sys.argv[1:] if argv is None else argv
    with patient_streams() as output:
        code = _run(argv)
        output.flush()
        if code or output.error is None:
            return code
        # The reader of our output may have gone (``| head``): there is nobody to report that to.
        if not isinstance(output.error, BrokenPipeError):
            what = f"standard output cannot be written: {reason_of(output.error)}"
            return _report(what, UNEXPECTED, debug=False)
        return UNEXPECTED


def _run(argv: Sequence[str]) -> int:
    debug = "--debug" in argv

    def command() -> int:
        nonlocal debug
        request = parse(argv)
        debug = request.debug
        # With the command comes NumPy, which --help need not wait for.
        named = getattr(import_module(f"d2lrnn.cli.{request.command}"), request.command)
        from d2lrnn.allocator import keep_freed_memory
        from d2lrnn.cli.output import warnings_in_one_line
        from d2lrnn.cli.output_files import lines_beside

        keep_freed_memory()
        with warnings_in_one_line(), lines_beside(request.output_paths):
            code: int = named(request)
        return code

    return reported(command, lambda message, code: _report(message, code, debug=debug))


def reported(command: Callable[[], int], report: Callable[[str, int], int]) -> int:
    """Runs a command; an error is reported in one line, and becomes the exit code."""
    try:
        return command()
    except BrokenPipeError:
        # Of what --json writes to: nobody is there either.
        return UNEXPECTED
    except KeyboardInterrupt:
        return report("interrupted", INTERRUPTED)
    except D2LError as error:
        from d2lrnn.cli.wording import in_own_words

        code = WORKER_LOST if isinstance(error, WorkerLostError) else WRONG_INPUT
        return report(in_own_words(str(error)), code)
    except Exception as error:
        return report(f"unexpected {type(error).__name__}: {error} (--debug shows where)", UNEXPECTED)


def _report(message: str, code: int, *, debug: bool) -> int:
    """One line on stderr, after the traceback where it is asked for."""
    if debug:
        import traceback

        # Without the colours of some Pythons, which would be shown as text.
        print(traceback.format_exc(), end="", file=sys.stderr)
    print(f"d2lrnn: {in_one_line(message)}", file=sys.stderr)
    return code
