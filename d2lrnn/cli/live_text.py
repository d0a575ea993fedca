"""Text that appears as it is made."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def write_live(pieces: Iterable[str]) -> str:
    """Writes every piece to standard output at once, also into a pipe, and ends the line in any case.

    It stops where nobody reads any more.

    Returns:
        What was written, without the end of the line.
    """
    written = []
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
            written.append(piece)
            if getattr(sys.stdout, "error", None) is not None:
                break
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()
    return "".join(written)
