"""``d2lrnn train --seed 1,2,3``: a run for each seed, one after the other, and a table of them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.output_files import write_json
from d2lrnn.cli.tensorboard_events import check_tensorboard
from d2lrnn.cli.text_table import text_table
from d2lrnn.cli.workers import is_shared
from d2lrnn.errors import OccupiedError, RunError, SpecError
from d2lrnn.saving.run_folder import find_checkpoint

#: Of the runs that came to their end.
_SUMMARY: dict[str, Callable[[Sequence[float]], float]] = {"median": median, "lowest": min, "highest": max}
_ENDED = ("finished", "stopped")
_ABSENT = "-"


def train_seeds(request: TrainRequest, train: Callable[[TrainRequest], int]) -> int:
    """Trains a run for every seed; Ctrl-C or an error in one ends all, after the table of what there is.

    Args:
        request: with several seeds.
        train: trains one run, and returns the exit code.

    Raises:
        OccupiedError: a folder of one of the runs holds a run.
        SpecError: a launcher has started this process as one of several workers.
    """
    if request.workers is None and is_shared(request):
        raise SpecError("a launcher's processes train one run: give one seed, or --workers and no launcher")
    folders = {seed: _folder(request.out, seed) for seed in request.seeds}
    events = {seed: _folder(request.tensorboard, seed) for seed in request.seeds}
    for seed in request.seeds:
        check_tensorboard(events[seed], resumed=False)
        if not request.overwrite:
            _check_free(folders[seed])
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as beside:
        try:
            for number, seed in enumerate(request.seeds, start=1):
                if number > 1:
                    print()
                print(f"seed     {seed}, run {number} of {len(request.seeds)}")
                path = Path(beside) / f"{seed}.json"
                code = train(replace(
                    request, seed=seed, out=folders[seed], tensorboard=events[seed], json=str(path)
                ))  # fmt: skip
                if path.exists():
                    results.append({"seed": seed, "folder": folders[seed], **json.loads(path.read_bytes())})
                if code:
                    return code
        finally:
            if results:
                print()
                print(text_table(_rows(results), shutil.get_terminal_size().columns))
                write_json(request.json, {"runs": results, "summary": summary(results)})
    return 0


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median, lowest and highest of the final and the best validation perplexity of the runs that ended.

    Args:
        results: what ``--json`` has for each run.

    Example:
        >>> runs = [
        ...     {"ended": "finished", "epochs": [{"val_perplexity": 5.0}, {"val_perplexity": last}]}
        ...     for last in (4.0, 9.0, 6.0)
        ... ]
        >>> summary(runs)["final"]
        {'median': 6.0, 'lowest': 4.0, 'highest': 9.0}
        >>> summary(runs)["best"]
        {'median': 5.0, 'lowest': 4.0, 'highest': 5.0}
    """
    ended = [each for each in results if each["ended"] in _ENDED]
    values = {"final": [_final(each) for each in ended], "best": [_best(each)[1] for each in ended]}
    return {
        "runs": len(ended),
        **{name: {what: of(each) for what, of in _SUMMARY.items()} for name, each in values.items() if each},
    }


def _folder(parent: str | None, seed: int) -> str | None:
    return os.path.join(parent, f"seed-{seed}") if parent else None


def _check_free(folder: str | None) -> None:
    try:
        if folder is None or not find_checkpoint(Path(folder)):
            return
    except RunError:
        return  # what else may be there, the run itself checks
    raise OccupiedError(f"{folder} of --out holds a run: --overwrite replaces it, or choose another folder")


def _rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [["seed", "epochs", "final perplexity", "best perplexity", "in epoch", "ended"]]
    for each in results:
        number, best = _best(each)
        epochs = str(len(each["epochs"]))
        final = f"{_final(each):.3f}"
        rows.append([str(each["seed"]), epochs, final, f"{best:.3f}", str(number), each["ended"]])
    known = summary(results)
    if known["runs"] > 1:
        for what in _SUMMARY:
            values = [f"{known[name][what]:.3f}" for name in ("final", "best")]
            rows.append([what, _ABSENT, *values, _ABSENT, _ABSENT])
    return rows


def _final(result: dict[str, Any]) -> float:
    """The validation perplexity at the end."""
    return _perplexity(result["epochs"][-1])


def _best(result: dict[str, Any]) -> tuple[int, float]:
    """The number of the best epoch, and its validation perplexity."""
    values = [_perplexity(epoch) for epoch in result["epochs"]]
    return values.index(min(values)) + 1, min(values)


def _perplexity(epoch: dict[str, Any]) -> float:
    value = epoch["val_perplexity"]
    return float("inf") if value is None else float(value)
