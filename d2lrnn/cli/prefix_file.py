"""The file of ``--prefixes``: a beginning a line."""

from __future__ import annotations

import sys
from pathlib import Path

from d2lrnn.cli.output_files import STANDARD_OUTPUT
from d2lrnn.errors import PromptError, reason_of

#: The path that stands for standard input is the one that stands for standard output.
STANDARD_INPUT = STANDARD_OUTPUT


def read_prefixes(path: str) -> list[str]:
    """The lines of a text in UTF-8, but for blank ones; a byte order mark is dropped.

    Args:
        path: a file, or ``"-"`` for standard input.

    Raises:
        PromptError: it cannot be read, is not in UTF-8, or has blank lines only.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        data = sys.stdin.buffer.read() if path == STANDARD_INPUT else Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise PromptError(f"--prefixes: cannot read {name}: {reason_of(error)}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"--prefixes: {name} is not UTF-8: the byte 0x{data[error.start]:02x} in line {line} is not "
            "valid there. Save the file as UTF-8"
        ) from None
    # Not `splitlines`, for which a form feed also ends a line.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not (prefixes := [line for line in lines if line.strip()]):
        raise PromptError(f"--prefixes: {name} has blank lines only: give a beginning a line")
    return prefixes
