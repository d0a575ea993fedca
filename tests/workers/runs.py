"""Small runs on two hosts, from the lines of the docs, and what every one of them must show."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.hosts import Job, TwoHosts
from workers.page import blocks, shortened

#: What makes a run small; its batches are of an odd number of rows, which two workers do not divide.
SMALL = "--hidden 8 --steps 8 --batch-size 33 --num-train 132 --num-val 70 --cell gru"
#: How long a run may take where nothing goes wrong: the machine may be busy.
PATIENCE = 240
#: Within which all must end where something does.
PROMISED = 30
RUN = Path("runs") / "book"
_LOGS = "torchrun-logs"


def write_text(folder: Path) -> None:
    """``book.txt``."""
    words = [
        "the",
        "time",
        "machine",
        "moved",
        "slowly",
        "into",
        "a",
        "future",
        "of",
        "brass",
        "and",
        "ivory",
    ]
    draw = random.Random(0)
    lines = [" ".join(draw.choices(words, k=8)) for _ in range(60)]
    (folder / "book.txt").write_text("\n".join(lines) + "\n")


def start(
    what: str,
    hosts: TwoHosts,
    folder: Path,
    options: str,
    json_of: str = "",
    folders: Sequence[Path] = (),
    *,
    errors_apart: bool = False,
) -> list[Job]:
    """Starts the lines of docs/workers.md on both hosts, in one folder, or in `folders`.

    With `errors_apart` torchrun keeps what the commands write to standard error from what it writes itself.
    """
    jobs = []
    for host, at in zip(hosts, folders or [folder, folder], strict=True):
        line = shortened(blocks()[what, host.name], f"{SMALL} {options}")
        if errors_apart:
            line = line.replace("torchrun ", f"torchrun --log-dir {_LOGS} --redirects 2 ", 1)
        if json_of:
            line = line.replace("train book.txt", f"train book.txt --json {json_of}-{host.name}.json")
        jobs.append(host.start(line, at))
    return jobs


def errors_under_torchrun(folder: Path) -> str:
    """What the commands wrote on both hosts, which torchrun kept apart."""
    files = sorted((folder / _LOGS).rglob("stderr.log"))
    assert len(files) == 2, files
    return "".join(file.read_text() for file in files)


def alone(folder: Path, options: str) -> dict[str, Any]:
    """What the run of one process gives."""
    command = [sys.executable, "-m", "d2lrnn", "train", "book.txt", *SMALL.split(), *options.split()]
    command += ["--json", "alone.json", "--backend", os.environ["D2LRNN_BACKEND"]]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=PATIENCE)
    return read(folder / "alone.json")


def read(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text())
    return result
