"""Runs workers in turn, one process at a time, round after round, and keeps their results.

In a round every subject has its turn in every cell, A B C, then comes the next round: A B C again. What
fails, hangs or crashes becomes a row with its reason. The document is written after every worker, so that a
run that was stopped can go on.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2lrnn.atomic_files import write_atomically
from d2lrnn.benchmark.pace import Pacer
from d2lrnn.benchmark.settings import BenchmarkModel, Setting, combinations, own_layer
from d2lrnn.benchmark.worker import Plan
from d2lrnn.errors import RunError, reason_of

#: The layout of the document; one of another format is not gone on with.
FORMAT = 1

#: What a worker and what it computes with read their number of threads from.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_REFERENCE, _WORKER = "d2lrnn.benchmark.reference", "d2lrnn.benchmark.worker"
_PACE = "d2lrnn.benchmark.pace"


@dataclass(frozen=True)
class Entrant:
    """A subject and the interpreter that has what it needs.

    Attributes:
        name: what the report calls it.
        kind: ``"backend"``, ``"layers"`` (the framework's own layers in a plain loop) or ``"book"``.
        framework: the backend's name: what it is compared with.
        subject: what the worker loads (`d2lrnn.benchmark.subject.load_subject`).
        python: the interpreter.
        environment: further variables of its process.
    """

    name: str
    kind: str
    framework: str
    subject: str
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """How much is measured.

    Attributes:
        settings: the settings.
        models: the models; None takes those that each setting is for.
        rounds: how often every subject has its turn.
        seconds: how long training steps are repeated in each.
        min_steps: how many are timed at least.
        timeout: after how many seconds a worker is ended.
        threads: how many processors a worker may use.
        device: as for `d2lrnn.contract.protocols.Backend.learner`.
        target_seconds: how long the run to the target perplexity may take.
        patience: how many seconds to wait for a quiet machine before every worker.
        quick: whether the numbers are not for comparison. Then the machine's pace is not measured.
        workers: how many share a step, where that is what is measured (`d2lrnn.benchmark.workers`): steps are
            then repeated for `seconds` in `min_steps` turns a round.
    """

    settings: tuple[Setting, ...]
    models: tuple[BenchmarkModel, ...] | None
    rounds: int = 3
    seconds: float = 3.0
    min_steps: int = 7
    timeout: float = 300.0
    threads: int = 1
    device: str = "cpu"
    target_seconds: float = 30.0
    patience: float = 0.0
    quick: bool = False
    workers: int | None = None


#: Called before every worker: what is measured, and how many workers are done and to do.
Watcher = Callable[[str, int, int], None]


def run(
    schedule: Schedule,
    entrants: Sequence[Entrant],
    document: dict[str, Any] | None = None,
    *,
    save: Path | None = None,
    on_worker: Watcher | None = None,
) -> dict[str, Any]:
    """Measures everything that `document` lacks.

    Args:
        schedule: how much.
        entrants: who, in the order of their turns.
        document: what an earlier run returned or saved; its good rows are kept, the others measured anew.
        save: where to keep the document after every worker.
        on_worker: called before every worker.

    Returns:
        The document: ``"machine"``, ``"schedule"`` and ``"rows"``, plain data.
    """
    document = document if document is not None else new_document(schedule)
    done = {_key(row): row for row in document["rows"]}
    turns = list(_turns(schedule, entrants))
    with tempfile.TemporaryDirectory(prefix="d2lrnn-bench-") as name:
        folder = Path(name)
        pacer = _pacer(schedule, document["rows"], folder)
        for number, (round_number, setting, model, entrant) in enumerate(turns):
            key = (entrant.name, setting.name, model.name, round_number)
            if key in done and done[key]["status"] in ("ok", "unsupported"):
                continue
            if on_worker:
                what = f"round {round_number}  {setting.name}  {model.name}  {entrant.name}"
                on_worker(what, number, len(turns))
            row = _about(entrant, setting, model, round_number)
            row["pace"] = pacer.wait()
            row |= _turn(schedule, entrant, setting, model, round_number, folder)
            done[key] = row
            document["rows"] = list(done.values())
            if save:
                write_atomically(save, (json.dumps(document) + "\n").encode())
    return document


def new_document(schedule: Schedule) -> dict[str, Any]:
    """A document without rows: the machine, and what is to be measured."""
    return {
        "format": FORMAT,
        "quick": schedule.quick,
        **({} if schedule.workers is None else {"workers": schedule.workers}),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "threads": schedule.threads,
        },
        "schedule": {
            "settings": {setting.name: setting.describe() for setting in schedule.settings},
            "models": list(
                dict.fromkeys(model.name for _, model in combinations(schedule.settings, schedule.models))
            ),
            "rounds": schedule.rounds,
            "seconds": schedule.seconds,
            "min_steps": schedule.min_steps,
            "device": schedule.device,
        },
        "rows": [],
    }


def read_document(path: Path) -> dict[str, Any]:
    """A document that `run` saved.

    Raises:
        RunError: it cannot be read, or is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a benchmark's results: {reason_of(error)}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise RunError(f"{path} holds no benchmark's results of format {FORMAT}: name another file")
    return document


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, int]:
    return row["name"], row["setting"], row["model"], row["round"]


def _turns(
    schedule: Schedule, entrants: Sequence[Entrant]
) -> Iterator[tuple[int, Setting, BenchmarkModel, Entrant]]:
    """Every worker in order. A framework's own layers run once for all models that are compared with them."""
    for number in range(1, schedule.rounds + 1):
        had: set[tuple[str, str, str]] = set()
        for setting, model in combinations(schedule.settings, schedule.models):
            for entrant in entrants:
                chosen = own_layer(setting, model) if entrant.kind == "layers" else model
                key = (entrant.name, setting.name, chosen.name)
                if key not in had:
                    had.add(key)
                    yield number, setting, chosen, entrant


def _pacer(schedule: Schedule, rows: Sequence[Mapping[str, Any]], folder: Path) -> Pacer:
    result = folder / "pace.json"

    def measure() -> float | None:
        if schedule.quick or _process(sys.executable, ["-m", _PACE, str(result)], schedule, {}):
            return None
        measured: float = json.loads(result.read_text())
        return measured

    known = [row["pace"] for row in rows if row.get("pace") is not None]
    return Pacer(measure, least=min(known, default=math.inf), patience=schedule.patience)


def _about(entrant: Entrant, setting: Setting, model: BenchmarkModel, round_number: int) -> dict[str, Any]:
    return {
        "name": entrant.name,
        "kind": entrant.kind,
        "framework": entrant.framework,
        "setting": setting.name,
        "model": model.name,
        "round": round_number,
    }


def _turn(
    schedule: Schedule,
    entrant: Entrant,
    setting: Setting,
    model: BenchmarkModel,
    round_number: int,
    folder: Path,
) -> dict[str, Any]:
    try:
        reference = reference_file(schedule, setting, model, folder)
    except RunError as error:
        return {"status": "failed", "reason": str(error)}
    plan, result = folder / "plan.json", folder / "result.json"
    result.unlink(missing_ok=True)
    plan.write_text(json.dumps(_plan(schedule, entrant, setting, model, round_number, reference).to_json()))
    load, started = load_average(), time.time()
    failure = _process(entrant.python, ["-m", _WORKER, str(plan), str(result)], schedule, entrant.environment)
    around = {"load": [load, load_average()], "seconds": time.time() - started, "started": started}
    if failure:
        return {"status": "failed", "reason": failure, **around}
    row: dict[str, Any] = json.loads(result.read_text())
    return {**row, **around}


def reference_file(schedule: Schedule, setting: Setting, model: BenchmarkModel, folder: Path) -> Path:
    """The file with the right answer of a cell in `folder`, computed if it is not there.

    Raises:
        RunError: it cannot be computed.
    """
    reference = folder / f"{setting.name}-{model.name}.npz"
    if not reference.exists():
        words = ["-m", _REFERENCE, setting.name, model.name, str(reference)]
        failure = _process(sys.executable, words, schedule, {})
        if failure:
            raise RunError(f"there is no reference: {failure}")
    return reference


def _plan(
    schedule: Schedule,
    entrant: Entrant,
    setting: Setting,
    model: BenchmarkModel,
    round_number: int,
    reference: Path,
) -> Plan:
    return Plan(
        subject=entrant.subject,
        setting=setting.name,
        model=model.name,
        reference=str(reference),
        seconds=schedule.seconds,
        min_steps=schedule.min_steps,
        threads=schedule.threads,
        device=schedule.device,
        extras=round_number == 1,
        target_seconds=schedule.target_seconds,
    )


def _process(
    python: str, words: Sequence[str], schedule: Schedule, environment: Mapping[str, str]
) -> str | None:
    """Runs a worker to its end; why it has no result, or None where it has."""
    threads = dict.fromkeys(THREAD_VARIABLES, str(schedule.threads))
    surroundings = {**os.environ, **threads, **environment}
    with tempfile.TemporaryFile("w+") as output:
        try:
            process = subprocess.Popen(
                [python, *words],
                env=surroundings,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"{python} cannot be started: {reason_of(error)}"
        try:
            code = process.wait(schedule.timeout)
        except subprocess.TimeoutExpired:
            return f"no end after {schedule.timeout:g} s"
        finally:
            # In a session of its own Ctrl-C does not reach it: it is ended here.
            process.kill()
            process.wait()
        if code == 0:
            return None
        output.seek(0)
        lines = [line.strip() for line in output.read().splitlines() if line.strip()]
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"ended with {how}" + (f": {lines[-1][:300]}" if lines else "")


def load_average() -> float | None:
    """Of the last minute; above the number of threads, other work ran beside."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processor() -> str:
    """Its name, as far as the system says it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
