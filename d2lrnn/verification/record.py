"""Whether the reference computes here what it computed elsewhere: the judge is judged first.

    python -m d2lrnn.verification.record > d2lrnn/verification/recorded.json

What every backend is compared with is computed on the same machine, by the same library that may be broken.
So some of its numbers are kept in a file, and held to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.protocols import Backend
from d2lrnn.registry import backend
from d2lrnn.verification.comparison import OUTPUTS, Judge
from d2lrnn.verification.models import TRAININGS, Task, tasks

#: The name of the backend that is the reference.
REFERENCE = "numpy"

#: How far a number may be from the one that is kept, as a part of it: the bound of float64.
_BOUND = 1e-9

_FILE = Path(__file__).with_name("recorded.json")


def recorded() -> dict[str, float]:
    """The numbers in the file."""
    found: dict[str, float] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def numbers(judge: Judge, chosen: Iterable[Task]) -> dict[str, float]:
    """Of each model that the file can have: the sum of its outputs' sizes, and its losses after training."""
    found: dict[str, float] = {}
    for task in chosen:
        if task.spec.cell not in CELLS:
            continue
        found[f"{task.name}: {OUTPUTS}"] = float(np.abs(judge.layers(task.spec)[OUTPUTS]).sum())
        for training in task.trainings:
            found[f"{task.name}: {training}"] = judge.trained(task.spec, training).losses[-1]
    return found


class Difference(NamedTuple):
    """The number of the reference that is furthest from the one that is kept, as a part of it."""

    name: str
    worst: float

    @property
    def fault(self) -> str | None:
        """What is wrong with the reference; None where nothing is.

        Example:
            >>> Difference("gru scratch: sgd", 0.25).fault
            'the reference itself is wrong here: gru scratch: sgd is off by 2.5e-01; 1e-09 is allowed'
        """
        if self.worst <= _BOUND:
            return None
        return (
            f"the reference itself is wrong here: {self.name} is off by {self.worst:.1e}; "
            f"{_BOUND:.0e} is allowed"
        )


def difference(found: Mapping[str, float], kept: Mapping[str, float]) -> Difference | None:
    """How far the reference's numbers are from those that are kept; None where there are none."""
    off = {name: abs(value / kept[name] - 1) for name, value in found.items()}
    worst = max(off, key=lambda name: off[name] if np.isfinite(off[name]) else np.inf, default=None)
    return None if worst is None else Difference(worst, off[worst])


def _every(reference: Backend) -> list[Task]:
    """All models, each trained in all ways."""
    return [replace(task, trainings=tuple(TRAININGS)) for task in tasks(reference, reference)]


def write(reference: Backend) -> str:
    """The file anew."""
    return json.dumps(numbers(Judge(reference), _every(reference)), indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(write(backend(REFERENCE)))
