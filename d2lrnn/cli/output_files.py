"""What ``--json``, ``--csv`` and the like name: a file or a link, a pipe, standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, Any

from d2lrnn.atomic_files import write_atomically
from d2lrnn.errors import RunError, reason_of

#: The path that stands for standard output.
STANDARD_OUTPUT = "-"

_STANDARD_OUTPUT_DESCRIPTOR = 1


def check_writable(option: str, path: str | None) -> None:
    """Checks before the work whether the file of an option can be written after it.

    Raises:
        RunError: it cannot.
    """
    if path is None or path == STANDARD_OUTPUT:
        return
    if not path:
        raise RunError(f"{option} needs the name of a file, or - for standard output")
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise RunError(f"{option} {path} is a folder: give the name of a file")
    if not target.parent.is_dir():
        raise RunError(
            f"{option} {path} cannot be written: there is no folder {target.parent}. Make it first"
        )
    if target.exists():
        if not os.access(target, os.W_OK):
            raise RunError(f"{option} {path} cannot be written: you may not write to it")
    elif not os.access(target.parent, os.W_OK):
        raise RunError(f"{option} {path} cannot be written: you may not write to the folder {target.parent}")


def replaceable_file(path: str | None) -> Path | None:
    """The file behind a path, which may be replaced whole; None for standard output, a pipe or a device."""
    if path is None or path == STANDARD_OUTPUT:
        return None
    target = Path(os.path.realpath(path))
    replaceable = not target.exists() or (target.is_file() and os.access(target.parent, os.W_OK))
    return target if replaceable else None


def write_output(option: str, path: str, content: bytes) -> None:
    """Writes the file of an option: a file whole or not at all, and what can only be written to as it is.

    Raises:
        RunError: it cannot be written.
    """
    file = replaceable_file(path)
    try:
        if file is not None:
            write_atomically(file, content)
            return
        sys.stdout.flush()
        with open_stream(path) as stream:
            stream.write(content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"{option} {path} cannot be written: {reason_of(error)}") from error


def open_stream(path: str) -> IO[bytes]:
    """Opens what can only be written to as it is; standard output stays open in the end.

    Raises:
        OSError: it cannot be opened.
    """
    to_standard_output = path == STANDARD_OUTPUT
    target = _STANDARD_OUTPUT_DESCRIPTOR if to_standard_output else path
    return open(target, "wb", closefd=not to_standard_output)


def write_json(path: str | None, result: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Writes what ``--json`` asks for; nothing where it was not given.

    Raises:
        RunError: it cannot be written.
    """
    if path is not None:
        write_output("--json", path, (json.dumps(result, indent=1) + "\n").encode())


@contextmanager
def lines_beside(paths: Sequence[str | None]) -> Iterator[None]:
    """Within it, lines for a person go to stderr if one of the paths is standard output.

    Raises:
        RunError: more than one of the paths is.
    """
    number = paths.count(STANDARD_OUTPUT)
    if number > 1:
        raise RunError("only one result can go to standard output: name a file for the others")
    if not number:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield
