"""How fast the machine is at the moment: the time of one fixed piece of work, before every worker.

    python -m d2lrnn.benchmark.pace RESULT.json

The load average counts what runs in this system. Where a processor is shared with other systems, as under a
virtual machine, it does not know of them: the same step can take half as long again, for seconds or an hour.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from d2lrnn.benchmark.settings import batches, find_model, find_setting, spec_of
from d2lrnn.registry import backend
from d2lrnn.training.initialization import initial_parameters

#: The work: training steps of the reference, of some milliseconds each, on as many threads as a worker has.
_SETTING, _MODEL, _NUM_STEPS = "32x16x512", "rnn-scratch", 25

#: How many times its least time the work may take on a machine that counts as quiet, and how many seconds
#: later a machine that was not is asked again.
QUIET, _PAUSE = 1.15, 3.0


def pace() -> float:
    """The median seconds of one step of the work."""
    setting = find_setting(_SETTING)
    spec = spec_of(setting, find_model(_MODEL))
    reference = backend("numpy")
    learner = reference.learner(reference.build(spec, initial_parameters(spec)), setting.training)
    batch, state = next(batches(setting)), learner.initial_state(setting.batch_size)
    samples = []
    for _ in range(_NUM_STEPS):
        started = time.perf_counter()
        learner.train_step(batch, state)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


class Pacer:
    """Measures the pace, and waits for a quiet machine where that is asked for.

    What it goes by is the fixed work alone, never what a subject took.

    Args:
        measure: the pace, or None where it cannot be measured.
        least: the least that is known already.
        patience: how many seconds `wait` may take.
        sleep: what passes the time.

    Example:
        >>> paces = iter([1.0, 1.5, 1.1])
        >>> pacer = Pacer(lambda: next(paces), patience=10, sleep=lambda seconds: None)
        >>> pacer.wait(), pacer.wait()
        (1.0, 1.1)
    """

    def __init__(
        self,
        measure: Callable[[], float | None],
        *,
        least: float = float("inf"),
        patience: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._measure, self._least = measure, least
        self._patience, self._sleep = patience, sleep

    def wait(self) -> float | None:
        """The pace as soon as it is within `QUIET` of its least so far, or when patience is at its end."""
        waited = 0.0
        while (measured := self._measure()) is not None:
            self._least = min(self._least, measured)
            if measured <= QUIET * self._least or waited >= self._patience:
                break
            self._sleep(_PAUSE)
            waited += _PAUSE
        return measured


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(pace()))
