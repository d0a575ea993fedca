"""Several workers against one: training steps with the same global batch, in turn, in one run.

For a backend, a setting and a model there live side by side

- **one**: one process with one thread, on one core,
- **workers**: N processes that share a step on the framework's engine, with one thread and one core each,
- **threads**: one process with N threads, on all cores.

Each is first compared with the reference, the workers with the one process too. Then they take turns, so
that a machine that is slow for a while slows down all: a step of each; the products alone (see
`d2lrnn.benchmark.products`) in the one process, and in the N processes at once with an N-th of the rows each;
a step on a worker's own rows in all N processes at once without a reduction; a reduction alone. In every
round the processes start anew, the one process on another core, as where its memory lies makes a process some
percent faster or slower for all its life. What a figure is taken from are ratios of times in the same turn.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2lrnn.atomic_files import write_atomically
from d2lrnn.benchmark.driver import (
    THREAD_VARIABLES,
    Entrant,
    Schedule,
    Watcher,
    load_average,
    new_document,
    reference_file,
)
from d2lrnn.benchmark.group import Group, MemberError
from d2lrnn.benchmark.member import OWN_ROWS, PRODUCTS, REDUCTION, STEP, Job
from d2lrnn.benchmark.reference import LOSS_TOLERANCE, relative_difference
from d2lrnn.benchmark.settings import BenchmarkModel, Setting, combinations
from d2lrnn.errors import D2LError, reason_of
from d2lrnn.registry import ENVIRONMENT_VARIABLE, engine_of
from d2lrnn.workers.engine import cores_of

#: The subjects that live side by side.
ONE, WORKERS, THREADS = "one", "workers", "threads"

#: Who runs what, in the order of a turn.
TURNS = (
    (ONE, STEP), (WORKERS, STEP), (THREADS, STEP), (ONE, PRODUCTS), (WORKERS, PRODUCTS), (WORKERS, OWN_ROWS),
    (WORKERS, REDUCTION),
)  # fmt: skip

#: The pause between two turns in seconds, as the threads of some libraries spin for a while after their work.
REST = 0.1


def run_workers(
    schedule: Schedule,
    entrants: Sequence[Entrant],
    document: dict[str, Any] | None = None,
    *,
    save: Path | None = None,
    on_worker: Watcher | None = None,
) -> dict[str, Any]:
    """Measures every cell that `document` lacks; `schedule.workers` says how many workers.

    For arguments and returned document see `d2lrnn.benchmark.driver.run`. A row is a cell: its ``times`` are
    by subject and by what is timed, and hold a list of seconds for every round, one a turn.
    """
    document = document if document is not None else new_document(schedule)
    done = {_key(row): row for row in document["rows"]}
    cells = [
        (*cell, entrant) for cell in combinations(schedule.settings, schedule.models) for entrant in entrants
    ]
    with tempfile.TemporaryDirectory(prefix="d2lrnn-bench-") as name:
        for number, (setting, model, entrant) in enumerate(cells):
            row = {"name": entrant.name, "setting": setting.name, "model": model.name}
            if done.get(_key(row), {}).get("status") == "ok":
                continue
            if on_worker:
                on_worker(f"{setting.name}  {model.name}  {entrant.name}", number, len(cells))
            done[_key(row)] = row | _measured(schedule, entrant, setting, model, Path(name))
            document["rows"] = list(done.values())
            if save:
                write_atomically(save, (json.dumps(document) + "\n").encode())
    return document


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["name"], row["setting"], row["model"]


def _measured(
    schedule: Schedule, entrant: Entrant, setting: Setting, model: BenchmarkModel, folder: Path
) -> dict[str, Any]:
    """The rest of a row: ``status``, and ``times`` or a ``reason``."""
    row: dict[str, Any] = {"status": "ok"}
    times: dict[str, dict[str, list[list[float]]]] = {}
    load = load_average()
    try:
        reference = reference_file(schedule, setting, model, folder)
        for number in range(schedule.rounds):
            with ExitStack() as stack:
                job = Job(entrant.subject, setting.name, model.name, str(reference), schedule.device)
                groups = {
                    name: stack.enter_context(_group(schedule, entrant, name, job, number, folder))
                    for name in (ONE, WORKERS, THREADS)
                }
                row |= agreed({name: group.ready for name, group in groups.items()})
                for subject, what in TURNS:
                    times.setdefault(subject, {}).setdefault(what, []).append([])
                _take_turns(schedule, groups, times)
    except (D2LError, OSError) as error:
        return {**row, "status": "failed", "reason": reason_of(error)}
    return {**row, "times": times, "load": [load, load_average()]}


def _group(schedule: Schedule, entrant: Entrant, name: str, job: Job, number: int, folder: Path) -> Group:
    """The processes of a subject in the round of this number."""
    assert schedule.workers is not None
    size, cores = schedule.workers, cores_of(schedule.workers)
    errors = folder / name
    errors.mkdir(exist_ok=True)
    common = {**dict.fromkeys(THREAD_VARIABLES, "1"), **entrant.environment}
    if name == THREADS:
        common |= dict.fromkeys(THREAD_VARIABLES, str(size))
    if name != WORKERS:
        own = tuple(cores[number % size]) if name == ONE else ()
        return Group(
            entrant.python, [replace(job, cores=own)], [common], errors=errors, timeout=schedule.timeout
        )
    engine = engine_of(entrant.framework)
    common |= {ENVIRONMENT_VARIABLE: entrant.framework, **dict.fromkeys(engine.unset, "")}
    workers, servers = engine.environments(size)
    return Group(
        entrant.python,
        [replace(job, size=size, cores=tuple(own)) for own in cores],
        [{**common, **own} for own in workers],
        servers=[
            ({"module": engine.server_module, "role": role}, {**common, **own})
            for role, own in zip(engine.server_roles, servers, strict=True)
        ],
        errors=errors,
        timeout=schedule.timeout,
    )


def agreed(ready: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What goes into the row; the workers' first steps must be those of the one process.

    Raises:
        MemberError: they are not.
    """
    (one,), workers = ready[ONE], ready[WORKERS]
    most = 0.0
    for worker in workers:
        for what in ("losses", "norms"):
            for step, (value, expected) in enumerate(zip(worker[what], one[what], strict=True), 1):
                difference = relative_difference(value, expected)
                if not difference <= LOSS_TOLERANCE:
                    raise MemberError(
                        f"{what} of several workers: training step {step} is off by {difference:.1e} from "
                        f"that of one; {LOSS_TOLERANCE:.0e} is allowed"
                    )
                most = max(most, difference)
    about = {name: one[name] for name in ("versions", "message")}
    off = {name: group[0]["off"] for name, group in ready.items()}
    return {**about, "off": off, "off_from_one": most}


def _take_turns(
    schedule: Schedule, groups: Mapping[str, Group], times: Mapping[str, Mapping[str, list[list[float]]]]
) -> None:
    """Appends the seconds of every turn to the last round of `times`; the first turn warms up."""
    can = {name: group.ready[0]["runs"] for name, group in groups.items()}
    played = [(subject, what) for subject, what in TURNS if what in can[subject]]
    for turn in range(schedule.min_steps + 1):
        for subject, what in played if turn % 2 else reversed(played):
            seconds = groups[subject].seconds(what, schedule.seconds / schedule.min_steps)
            if turn:
                times[subject][what][-1].append(seconds)
            time.sleep(REST)
