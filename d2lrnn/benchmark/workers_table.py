"""The report of the benchmark of several workers as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from d2lrnn.benchmark.markdown import NOTHING, QUICK, grid, milliseconds
from d2lrnn.benchmark.member import OWN_ROWS, PRODUCTS, REDUCTION, STEP
from d2lrnn.benchmark.statistics import Summary, paired_ratio, summary
from d2lrnn.benchmark.workers import ONE, THREADS, WORKERS

Row = Mapping[str, Any]


_SPEED = """Milliseconds, and how many times as fast as one process with one thread: {N} workers of one
thread, each on one core; the products alone, in {N} processes at once with a part of the rows each; the
first as a part of the second; and one process with {N} threads. Medians over all turns of the ratio within
a turn (quartiles). Faster is who is so in the interval (bootstrap over rounds, 95%); of one round there is
none."""

_REDUCTION = """A step of the workers, and one on the same rows, in all processes at once, in which nothing
is summed: the rest is the reduction with the wait for the slower worker, as a part of the step. Beside it a
sum of an array of the gradient's size alone, with its copies from and to NumPy. The last column: how far
losses and norms of the first steps were from those of one process, before any time was taken."""


def workers_table(document: Mapping[str, Any]) -> str:
    """All of a document of `d2lrnn.benchmark.workers.run_workers`."""
    rows = sorted(document["rows"], key=lambda row: (row["setting"], row["name"], row["model"]))
    good = [row for row in rows if row["status"] == "ok"]
    failed = [row for row in rows if row["status"] != "ok"]
    speed_header = [
        "setting", "backend", "model", "one, ms", "workers, ms", "workers ×", "products ×",
        "part of the products'", "threads, ms", "threads ×", "faster",
    ]  # fmt: skip
    reduction_header = [
        "setting", "backend", "model", "message, MB", "workers, ms", "no sum, ms", "part of the step",
        "a sum alone, ms", "part of the step", "off from one",
    ]  # fmt: skip
    parts = [
        f"# {document['workers']} workers against one",
        *([f"**{QUICK}**"] if document["quick"] else []),
        *([f"The command: `{document['command']}`."] if "command" in document else []),
        _about(document, good),
        "## A training step",
        _SPEED.format(N=document["workers"]).replace("\n", " "),
        grid(speed_header, [_speed(row) for row in good]),
        "## What the reduction takes",
        _REDUCTION.replace("\n", " "),
        grid(reduction_header, [_reduction(row) for row in good]),
    ]
    if failed:
        lines = [[*_cell(row), f"✗ {row['reason']}"] for row in failed]
        parts += ["## What could not be measured", grid(["setting", "backend", "model", "reason"], lines)]
    return "\n\n".join(parts) + "\n"


def ratios(row: Row, above: tuple[str, str], below: tuple[str, str]) -> list[float] | None:
    """The ratio of two times in each turn; None where one of them was not measured.

    Args:
        row: a row of the document.
        above: subject and what is timed.
        below: likewise.
    """
    if not (any(_rounds(row, above)) and any(_rounds(row, below))):
        return None
    a, b = (np.array(list(chain(*_rounds(row, which)))) for which in (above, below))
    found: list[float] = (a / b).tolist()
    return found


def _rounds(row: Row, which: tuple[str, str]) -> Sequence[Sequence[float]]:
    of_subject: Mapping[str, Sequence[Sequence[float]]] = row["times"][which[0]]
    return of_subject.get(which[1], [])


def _about(document: Mapping[str, Any], rows: Sequence[Row]) -> str:
    machine, schedule = document["machine"], document["schedule"]
    versions = {row["name"]: ", ".join(f"{n} {v}" for n, v in row["versions"].items()) for row in rows}
    loads = [load for row in rows for load in row["load"] if load is not None]
    turns = {len(of_round) for row in rows for of_round in _rounds(row, (ONE, STEP))}
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, device {schedule['device']}"
        + (f", load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""),
        f"{schedule['rounds']} rounds with new processes, of {', '.join(map(str, sorted(turns)))} turns each",
        *(f"{name}: {sizes}" for name, sizes in schedule["settings"].items()),
        *(f"{name}: {found}" for name, found in sorted(versions.items())),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _cell(row: Row) -> list[str]:
    return [row["setting"], row["name"], row["model"]]


def _speed(row: Row) -> list[str]:
    gain, products = (
        ratios(row, (ONE, STEP), (WORKERS, STEP)),
        ratios(row, (ONE, PRODUCTS), (WORKERS, PRODUCTS)),
    )
    part = None if gain is None or products is None else (np.array(gain) / np.array(products)).tolist()
    return [
        *_cell(row), _time(row, ONE, STEP), _time(row, WORKERS, STEP), _middle(gain), _middle(products),
        _middle(part), _time(row, THREADS, STEP), _middle(ratios(row, (ONE, STEP), (THREADS, STEP))),
        _faster(row),
    ]  # fmt: skip


def _faster(row: Row) -> str:
    interval = paired_ratio(_rounds(row, (WORKERS, STEP)), _rounds(row, (THREADS, STEP)))
    if interval is None or len(_rounds(row, (WORKERS, STEP))) < 2:
        return NOTHING
    if interval.low <= 1 <= interval.high:
        return "neither"
    return WORKERS if interval.high < 1 else THREADS


def _reduction(row: Row) -> list[str]:
    of_own_rows = ratios(row, (WORKERS, OWN_ROWS), (WORKERS, STEP))
    rest = None if of_own_rows is None else [1 - part for part in of_own_rows]
    alone = ratios(row, (WORKERS, REDUCTION), (WORKERS, STEP))
    return [
        *_cell(row), f"{row['message'] / 1e6:.1f}", _time(row, WORKERS, STEP), _time(row, WORKERS, OWN_ROWS),
        _middle(rest), _time(row, WORKERS, REDUCTION), _middle(alone),
        f"{row['off_from_one']:.0e}",
    ]  # fmt: skip


def _time(row: Row, subject: str, what: str) -> str:
    rounds = _rounds(row, (subject, what))
    return milliseconds(summary(list(chain(*rounds))).median) if any(rounds) else NOTHING


def _middle(values: Sequence[float] | None) -> str:
    if values is None:
        return NOTHING
    middle: Summary = summary(values)
    return f"{middle.median:.2f} ({middle.low:.2f}–{middle.high:.2f})"
