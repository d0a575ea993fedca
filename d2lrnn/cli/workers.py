"""``d2lrnn train`` with several workers: the processes of this machine, and what follows if one is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.data.texts import STANDARD_INPUT
from d2lrnn.errors import RunError, SpecError
from d2lrnn.registry import ENVIRONMENT_VARIABLE, engine_of, find_backend
from d2lrnn.saving.run_folder import find_checkpoint, load_run, run_folder_of
from d2lrnn.workers.engine import Engine, cores_of
from d2lrnn.workers.supervisor import Outcome, supervise

_MODULE = "d2lrnn.cli.worker"
_AUTO = "auto"

#: What a run is started again with, beside the folder that it is resumed from.
_KEPT = (
    "debug", "epochs", "patience", "backend", "device", "keep", "save_every", "json", "csv", "plot",
    "tensorboard", "workers", "restart",
)  # fmt: skip

#: So many seconds the workers of other machines may wait for one that is lost: one that came again before
#: would meet them.
_OTHERS_END = 30.0

#: Prints how many GPUs the backend sees; in a process of its own, as this one imports no framework.
_COUNT_GPUS = """import sys
sys.path[:] = sys.argv.pop().split("\\n")
import d2lrnn
print(sum(device.name != "cpu" for device in d2lrnn.backend().devices()))"""


def is_shared(request: TrainRequest) -> bool:
    """Whether several workers are to train: by ``--workers``, or by an engine's own launcher."""
    if request.workers is not None:
        return True
    engine = find_backend(request.backend).engine
    return engine is not None and bool(engine.launched_by(os.environ) or engine.serves(os.environ))


def train_with_workers(request: TrainRequest) -> int:
    """Starts the workers of this machine and waits for them; returns the exit code.

    Raises:
        SpecError: the backend has no engine, or something does not fit several workers.
    """
    name = find_backend(request.backend).name
    engine = engine_of(name)
    if STANDARD_INPUT in request.text:
        raise SpecError("standard input can be read by one process alone: save the text in a file first")
    jobs, environments, servers, cores = _processes(request, engine, name)
    folder = request.out or (str(run_folder_of(Path(request.resume))) if request.resume else None)
    before = _newest(folder)
    for left in range(request.restart, -1, -1):
        outcome = supervise(_MODULE, jobs, environments, servers, cores, engine.fatal)
        again = outcome.lost and left > 0
        if again and request.workers is None:
            time.sleep(_OTHERS_END)
        now = _newest(folder)
        saved = folder if now != before or request.resume else None
        if not again:
            elsewhere = folder if request.workers is None and now is None else None
            return _ended(request, outcome, saved, elsewhere)
        if saved:
            request = _resumed(request, saved)
        print(
            f"d2lrnn: {outcome.message}; started again"
            f"{f' from {saved}' if saved else ''} ({left - 1} more time{'' if left == 2 else 's'} at most)",
            file=sys.stderr,
        )
        jobs, environments, servers, cores = _processes(request, engine, name)
    raise AssertionError("the last try returns")


def _processes(request: TrainRequest, engine: Engine, name: str) -> tuple[Any, Any, Any, Any]:
    """Jobs, variables, servers and cores for `supervise`."""
    chosen = {ENVIRONMENT_VARIABLE: name, **dict.fromkeys(engine.unset, "")}
    server_job: dict[str, Any] = {"module": engine.server_module}
    if engine.serves(os.environ):
        return [{**server_job, "role": os.environ[engine.role]}], [chosen], [], []
    job = {"request": asdict(replace(request, workers=None, restart=0))}
    launched = engine.launched_by(os.environ)
    if launched:
        if request.workers is not None:
            raise SpecError(
                "--workers starts processes on this machine, and the environment "
                f"({', '.join(launched)}) says that a launcher has done so: leave --workers out, or unset "
                "what is left of another run"
            )
        return [job], [{ENVIRONMENT_VARIABLE: name}], [], []
    size = _number(request, name)
    workers, served = engine.environments(size)
    servers = [
        ({**server_job, "role": role}, {**chosen, **variables})
        for role, variables in zip(engine.server_roles, served, strict=True)
    ]
    cores = cores_of(size) if size > 1 else []
    return [job] * size, [{**chosen, **variables} for variables in workers], servers, cores


def _number(request: TrainRequest, backend: str) -> int:
    if request.workers != _AUTO:
        return int(request.workers or 1)
    environment = {**os.environ, ENVIRONMENT_VARIABLE: backend}
    command = [sys.executable, "-c", _COUNT_GPUS, "\n".join(sys.path)]
    counted = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if counted.returncode:
        said = counted.stderr.strip().splitlines() or ["no reason given"]
        raise SpecError(f"--workers auto: the devices of {backend} cannot be counted: {said[-1]}")
    return max(1, int(counted.stdout.split()[-1]))


def _newest(folder: str | None) -> tuple[str, int] | None:
    """The identity and the step of the newest checkpoint in a folder; None where there is none."""
    try:
        run = load_run(folder) if folder and find_checkpoint(Path(folder)) else None
    except RunError:
        return None
    return (run.identity, run.step) if run else None


def _resumed(request: TrainRequest, folder: str) -> TrainRequest:
    """The same run from its newest checkpoint on."""
    kept: Mapping[str, Any] = {name: getattr(request, name) for name in _KEPT}
    return TrainRequest(resume=folder, **kept)


def _ended(request: TrainRequest, outcome: Outcome, saved: str | None, elsewhere: str | None) -> int:
    """Says how the run ended, and how to go on: from what was saved here, or on the machine of worker 0."""
    if outcome.message is None:
        return outcome.code
    if request.debug:
        for line in outcome.detail:
            print(line, file=sys.stderr)
    message = outcome.message
    serves = engine_of(request.backend).serves(os.environ)
    if outcome.lost and not serves:
        if saved:
            started = f" --workers {request.workers}" if request.workers else ", for every worker"
            message += f"; to go on: d2lrnn train --resume {saved}{started}"
        elif elsewhere:
            message += (
                f"; to go on, if worker 0 has saved: d2lrnn train --resume {elsewhere}, for every worker"
            )
        else:
            message += "; nothing was saved"
    print(f"d2lrnn: {message}", file=sys.stderr)
    return outcome.code
