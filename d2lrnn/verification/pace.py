"""How long a training step takes, beside its matrix products alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from d2lrnn.benchmark.reference import check_parameters_of
from d2lrnn.benchmark.subject import BackendSubject
from d2lrnn.contract.cells import LSTM
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch

#: A size at which products are most of the work.
_SPEC = ModelSpec(28, LSTM.name, "concise", 256)
_BATCH_SIZE, _NUM_STEPS = 32, 35

#: How often both are timed, in turn, after they were done once; the shortest times count.
_REPEATED = 5

#: A step that takes so many times what its products take is slow, whatever computes it.
_SLOW = 10


@dataclass(frozen=True)
class Pace:
    """Seconds of one training step of an LSTM.

    Attributes:
        step: the whole step.
        floor: its products alone; None where the backend does not say.
    """

    step: float
    floor: float | None = None

    def __str__(self) -> str:
        alone = "" if self.floor is None else f", its products alone {_milliseconds(self.floor)}"
        return f"a training step of {SIZE} takes {_milliseconds(self.step)}{alone}"

    @property
    def is_slow(self) -> bool:
        """Whether something else than products takes most of the time.

        Example:
            >>> Pace(0.5, 0.01).is_slow, Pace(0.05, 0.01).is_slow, Pace(0.5, None).is_slow
            (True, False, False)
        """
        return self.floor is not None and self.step > _SLOW * self.floor


#: What is timed, for people.
SIZE = f"an LSTM, {_SPEC.num_hiddens} units, batch {_BATCH_SIZE}, {_NUM_STEPS} steps"


def pace(backend: Backend, device: str) -> Pace | None:
    """Times a training step; None of a backend that has no such model."""
    if _SPEC.cell not in backend.cells(_SPEC.implementation):
        return None
    learner = backend.learner(backend.build(_SPEC, check_parameters_of(_SPEC)), TrainingSpec(), device=device)
    tokens = np.random.RandomState(4).randint(0, _SPEC.vocab_size, (2, _BATCH_SIZE, _NUM_STEPS))
    batch, state = Batch(*tokens.astype(np.int32)), learner.initial_state(_BATCH_SIZE)

    def step() -> None:
        float(learner.train_step(batch, state)[0].loss)
        learner.synchronize()

    floor = BackendSubject(backend).floor(_SPEC, _BATCH_SIZE, _NUM_STEPS, device=device)
    return Pace(*_shortest(step)) if floor is None else Pace(*_shortest(step, floor))


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _shortest(*actions: Callable[[], None]) -> list[float]:
    """The shortest time of each, which are timed in turn: what slows the machine slows all."""
    times: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    for _ in range(_REPEATED):
        for action, taken in zip(actions, times, strict=True):
            started = time.perf_counter()
            action()
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]
