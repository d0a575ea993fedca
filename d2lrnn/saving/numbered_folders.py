"""Folders of runs: each run gets a folder of its own, numbered, also where two begin at the same moment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from d2lrnn.errors import RunError, reason_of
from d2lrnn.saving.run_folder import is_run_folder

_NUMBERED = re.compile(r"(\d{4,6})-.+")


def is_folder_of_runs(folder: str) -> bool:
    """Whether a new run in this folder gets a folder of its own in it.

    So it is where the path ends with a slash, or where the folder holds runs, and nothing else; never where
    the folder is a run itself. An empty folder without the slash is where one run is to be saved.

    Example:
        >>> is_folder_of_runs("no such folder"), is_folder_of_runs("no such folder/")
        (False, True)
    """
    path = Path(folder)
    if is_run_folder(path):
        return False
    if folder.endswith(("/", os.sep)):
        return True
    entries = [entry for entry in _entries(path) if not entry.name.startswith(".")]
    return bool(entries) and all(_is_of_run(entry) for entry in entries)


def make_numbered_folder(folder: str, title: str) -> str:
    """Makes ``folder/0001-title``, with the number after the highest that is there; returns its path.

    No two processes get the same number, also where they ask at the same moment.

    Raises:
        RunError: it cannot be made.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        number = 1 + max(_numbers(root), default=0)
        while not (made := _made(root, number, title)):
            number += 1
    except OSError as error:
        raise RunError(f"a folder in {root} cannot be made: {reason_of(error)}") from error
    return str(made)


def _made(root: Path, number: int, title: str) -> Path | None:
    """The folder of a number; None where another process has it."""
    claim = root / f".{number:04d}"
    try:
        claim.mkdir()  # by one process only
    except FileExistsError:
        return None
    # Whoever had the claim before has renamed it since.
    if number in _numbers(root):
        claim.rmdir()
        return None
    return claim.rename(root / f"{number:04d}-{title}")


def _numbers(root: Path) -> list[int]:
    return [int(match[1]) for entry in _entries(root) if (match := _NUMBERED.fullmatch(entry.name))]


def _is_of_run(entry: Path) -> bool:
    """Whether it is the folder of a run, or was made for a run that has not begun to save, or for several."""
    return entry.is_dir() and (
        is_run_folder(entry)
        or (bool(_NUMBERED.fullmatch(entry.name)) and all(map(is_run_folder, entry.iterdir())))
    )


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()
