"""``d2lrnn bench``: the backends that are installed here, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from d2lrnn.benchmark.driver import Entrant, Schedule, new_document, read_document, run
from d2lrnn.benchmark.html import page
from d2lrnn.benchmark.markdown import markdown
from d2lrnn.benchmark.settings import MODELS, SCALING, find_model, find_setting
from d2lrnn.benchmark.table import gather
from d2lrnn.cli.output import check_writable, write_output
from d2lrnn.errors import WRONG_INPUT, SpecError
from d2lrnn.registry import backends, find_backend

#: What is measured where nobody says: the book's current edition and its first.
_SETTINGS, _QUICK_SETTINGS = "M,C", "Q"

#: What stands for all settings of `d2lrnn.benchmark.settings.SCALING`.
_SCALING = "scaling"


def bench(arguments: argparse.Namespace) -> int:
    """``d2lrnn bench``; the exit code is 2 where a cell failed."""
    check_writable("--json", arguments.json)
    check_writable("--html", arguments.html)
    schedule = schedule_of(arguments, _SETTINGS)
    entrants = [Entrant(name, "backend", name, name) for name in _backends(arguments.backends)]
    save = Path(arguments.json).absolute() if arguments.json else None
    document = resumed(save, schedule) if arguments.resume else None
    document = run(schedule, entrants, document, save=save, on_worker=tell)
    table = gather(document)
    print(markdown(table))
    if arguments.html:
        write_output("--html", arguments.html, page(table).encode())
    if arguments.json:
        write_output("--json", arguments.json, (json.dumps(document) + "\n").encode())
    return WRONG_INPUT if table.failures else 0


def schedule_of(arguments: argparse.Namespace, settings: str) -> Schedule:
    """What the words of the command line ask for.

    Args:
        arguments: the parsed words.
        settings: those taken by default.

    Raises:
        SpecError: an unknown name, or a number below its least.
    """
    quick = arguments.quick
    chosen = arguments.settings or (_QUICK_SETTINGS if quick else settings)
    chosen = chosen.replace(_SCALING, ",".join(SCALING))
    models = arguments.models or ",".join(MODELS)
    schedule = Schedule(
        settings=tuple(find_setting(name) for name in words_of("--settings", chosen)),
        models=tuple(find_model(name) for name in words_of("--models", models)),
        rounds=_or_default(arguments.rounds, 1 if quick else 3),
        seconds=_or_default(arguments.seconds, 0.2 if quick else 3.0),
        min_steps=3 if quick else 7,
        timeout=_or_default(arguments.timeout, 300.0),
        threads=_or_default(arguments.threads, _default_threads()),
        device=arguments.device,
        target_seconds=2.0 if quick else 30.0,
        patience=arguments.patience,
        quick=quick,
    )
    for option, value in (("--rounds", schedule.rounds), ("--threads", schedule.threads)):
        if value < 1:
            raise SpecError(f"{option} is {value}: it must be at least 1")
    for option, seconds in (("--seconds", schedule.seconds), ("--timeout", schedule.timeout)):
        if not seconds > 0:
            raise SpecError(f"{option} is {seconds}: it must be above 0")
    if not schedule.patience >= 0:
        raise SpecError(f"--patience is {schedule.patience}: it must be 0 or above")
    return schedule


def resumed(path: Path | None, schedule: Schedule) -> dict[str, Any] | None:
    """The document to go on with; None where there is none yet.

    Raises:
        SpecError: there is no file to go on with, or what it holds was measured otherwise.
        RunError: it cannot be read.
    """
    if path is None:
        raise SpecError("--resume goes on with the file of --json: name it")
    if not path.exists():
        return None
    document, fresh = read_document(path), new_document(schedule)
    for part in ("quick", "machine"):
        if document[part] != fresh[part]:
            raise SpecError(
                f"{path} was measured otherwise ({part}: {document[part]}, now {fresh[part]}): "
                "begin a new file"
            )
    for part in ("seconds", "min_steps", "device"):
        if document["schedule"][part] != fresh["schedule"][part]:
            raise SpecError(
                f"{path} was measured with {part} {document['schedule'][part]}, not "
                f"{fresh['schedule'][part]}: begin a new file"
            )
    before, now = document["schedule"], fresh["schedule"]
    for name, sizes in now["settings"].items():
        if before["settings"].get(name, sizes) != sizes:
            raise SpecError(
                f"{path} was measured with another setting {name} ({before['settings'][name]}; now {sizes}): "
                "begin a new file"
            )
    # More settings, models or rounds than before are welcome.
    before["settings"] |= now["settings"]
    before["models"] = list(dict.fromkeys([*before["models"], *now["models"]]))
    before["rounds"] = max(before["rounds"], now["rounds"])
    return document


def words_of(option: str, text: str) -> list[str]:
    """The words between commas, each once.

    Raises:
        SpecError: there are none.
    """
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise SpecError(f"{option} names nothing: give names with commas between them")
    return words


def tell(what: str, done: int, total: int) -> None:
    """Says on stderr which worker is next."""
    print(f"{done + 1:>4}/{total}  {what}", file=sys.stderr, flush=True)


def _backends(names: str | None) -> list[str]:
    """The backends' own names; those that were asked for have to be there."""
    if names is None:
        return [entry.name for entry in backends() if entry.installed]
    found = []
    for word in words_of("--backends", names):
        entry = find_backend(word)
        entry.require()
        found.append(entry.name)
    return found


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _default_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else os.cpu_count() or 1
