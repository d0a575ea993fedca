"""``d2lrnn bench``: the backends that are installed here, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from d2lrnn.benchmark.driver import Entrant, Schedule, new_document, read_document, run
from d2lrnn.benchmark.html import page
from d2lrnn.benchmark.markdown import markdown
from d2lrnn.benchmark.settings import SCALING, find_model, find_setting
from d2lrnn.benchmark.table import gather
from d2lrnn.benchmark.workers import run_workers
from d2lrnn.benchmark.workers_table import workers_table
from d2lrnn.cli.commands.bench import BenchRequest
from d2lrnn.cli.output_files import check_writable, replaceable_file, write_output
from d2lrnn.errors import WRONG_INPUT, SpecError
from d2lrnn.registry import backends, engine_of, find_backend

#: What is measured by default: the book's current edition and its first.
_SETTINGS, _QUICK_SETTINGS = "M,C", "Q"

#: What stands for all settings of `d2lrnn.benchmark.settings.SCALING`.
_SCALING = "scaling"


def bench(request: BenchRequest) -> int:
    """Measures, and prints the tables; the exit code is 2 where a cell failed."""
    check_writable("--json", request.json)
    check_writable("--html", request.html)
    schedule = schedule_of(request, _SETTINGS)
    save = replaceable_file(request.json)
    document = resumed(save, schedule) if request.resume else None
    entrants = [Entrant(name, "backend", name, name) for name in _backends(request)]
    if request.workers:
        document = run_workers(schedule, entrants, document, save=save, on_worker=report_worker)
        print(workers_table(document))
        if request.json:
            write_output("--json", request.json, (json.dumps(document) + "\n").encode())
        return WRONG_INPUT if any(row["status"] != "ok" for row in document["rows"]) else 0
    document = run(schedule, entrants, document, save=save, on_worker=report_worker)
    table = gather(document)
    print(markdown(table))
    if request.html:
        write_output("--html", request.html, page(table).encode())
    if request.json:
        write_output("--json", request.json, (json.dumps(document) + "\n").encode())
    return WRONG_INPUT if table.failures else 0


def schedule_of(request: BenchRequest, settings: str) -> Schedule:
    """How much is measured.

    Args:
        request: what was asked for.
        settings: those taken by default.

    Raises:
        SpecError: an unknown name, or none.
    """
    quick = request.quick
    chosen = request.settings or (_QUICK_SETTINGS if quick else settings)
    chosen = chosen.replace(_SCALING, ",".join(SCALING))
    return Schedule(
        settings=tuple(find_setting(name) for name in names_in("--settings", chosen)),
        models=tuple(find_model(name) for name in names_in("--models", request.models))
        if request.models
        else None,
        rounds=request.rounds or (1 if quick else 3),
        seconds=request.seconds or (0.2 if quick else 3.0),
        min_steps=3 if quick else 7,
        timeout=request.timeout or 300.0,
        threads=request.threads or (1 if request.workers else _default_threads()),
        device=request.device,
        target_seconds=2.0 if quick else 30.0,
        patience=request.patience,
        quick=quick,
        workers=request.workers,
    )


def resumed(path: Path | None, schedule: Schedule) -> dict[str, Any] | None:
    """The document to go on with; None where the file is not there yet.

    Raises:
        SpecError: no file was given, or what it holds was measured otherwise.
        RunError: it cannot be read.
    """
    if path is None:
        raise SpecError("--resume goes on with the results in the file of --json: give --json as well")
    if not path.exists():
        return None
    document, fresh = read_document(path), new_document(schedule)
    for part in ("quick", "machine", "workers"):
        before, now = document.get(part), fresh.get(part)
        if before != now:
            raise SpecError(
                f"{path} was measured with another {part} ({before}; now {now}): give a new file with --json"
            )
    for part in ("seconds", "min_steps", "device"):
        if document["schedule"][part] != fresh["schedule"][part]:
            raise SpecError(
                f"{path} was measured with another {part} ({document['schedule'][part]}; now "
                f"{fresh['schedule'][part]}): give a new file with --json"
            )
    before, now = document["schedule"], fresh["schedule"]
    for name, sizes in now["settings"].items():
        if before["settings"].get(name, sizes) != sizes:
            raise SpecError(
                f"{path} was measured with another setting {name} ({before['settings'][name]}; now {sizes}): "
                "give a new file with --json"
            )
    # More settings, models or rounds than before are welcome.
    before["settings"] |= now["settings"]
    before["models"] = list(dict.fromkeys([*before["models"], *now["models"]]))
    before["rounds"] = max(before["rounds"], now["rounds"])
    return document


def names_in(option: str, text: str) -> list[str]:
    """The names between commas, each once.

    Raises:
        SpecError: there are none.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise SpecError(f"{option} names nothing: give names with commas between them")
    return names


def report_worker(what: str, done: int, total: int) -> None:
    """Prints on stderr which worker is next."""
    print(f"{done + 1:>4}/{total}  {what}", file=sys.stderr, flush=True)


def _backends(request: BenchRequest) -> list[str]:
    """The backends' own names; those that were asked for have to be installed."""
    if request.backends is None:
        installed = [entry for entry in backends() if entry.installed]
        return [entry.name for entry in installed if entry.engine or not request.workers]
    found = []
    for name in names_in("--backends", request.backends):
        entry = find_backend(name)
        entry.require()
        if request.workers:
            engine_of(entry.name)
        found.append(entry.name)
    return found


def _default_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else os.cpu_count() or 1
