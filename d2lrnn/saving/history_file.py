"""The history of a run as a file for other programs: ``history.jsonl`` in the run's folder.

A line an epoch, each an object of JSON with the fields of `d2lrnn.training.history.EpochRecord` and the
``seconds`` that its training took. What is null was not recorded, or is a perplexity that overflowed. It says
what the newest checkpoint's ``run.json`` says: nothing reads it back. It is replaced whole, so that no reader
sees half a line: to follow a run, ``tail -F`` opens it anew.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from d2lrnn.atomic_files import write_atomically
from d2lrnn.training.history import EpochRecord, record_to_json

HISTORY = "history.jsonl"

_FIELDS = [field.name for field in fields(EpochRecord)]
_FIRST = _FIELDS.index("learning_rate") + 1

#: What every line has, in this order: what came later is last, so that a column stays where it was.
COLUMNS = (*_FIELDS[:_FIRST], "seconds", *_FIELDS[_FIRST:])

#: By these, the first of a line, a file of ours is known; later versions may add to the others.
_MARK = COLUMNS[: COLUMNS.index("num_steps") + 1]

#: A line of ours is far shorter.
_LONGEST_LINE = 1 << 12


def history_row(record: EpochRecord) -> dict[str, Any]:
    """What a line says.

    Example:
        >>> row = history_row(EpochRecord(1, 9.0, 8.0, 3.17, 3.0, 500.0, 4, num_tokens=1000))
        >>> row["epoch"], row["val_perplexity"], row["seconds"]
        (1, 8.0, 2.0)
    """
    values = {**record_to_json(record), "seconds": record.seconds}
    return {name: values[name] for name in COLUMNS}


def history_csv(records: Iterable[EpochRecord], *, header: bool = True) -> str:
    r"""The same as CSV (RFC 4180, its lines ended by ``\n``); what is null is empty.

    Example:
        >>> print(history_csv([EpochRecord(1, 9.0, 8.0, 3.17, 3.0, 500.0, 4)], header=False), end="")
        1,9.0,8.0,3.17,3.0,500.0,4,,,,,,,,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(history_row(record) for record in records)
    return text.getvalue()


def write_history(path: Path, records: Iterable[EpochRecord], beside: Path) -> None:
    """Makes the file that of these epochs; of none, a file that is not there is not made.

    Args:
        path: the file.
        records: the epochs.
        beside: see `d2lrnn.atomic_files.write_atomically`.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    content = "".join(json.dumps(history_row(record), allow_nan=False) + "\n" for record in records).encode()
    before = None
    with suppress(FileNotFoundError):
        before = path.read_bytes()
    if content == (before or b""):
        return
    write_atomically(path, content, beside)


def is_history(path: Path) -> bool:
    """Whether a file is empty or begins as `write_history` begins it, and no link."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:
            line = file.readline(_LONGEST_LINE)
        first = json.loads(line) if line else dict.fromkeys(COLUMNS)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and tuple(first)[: len(_MARK)] == _MARK
