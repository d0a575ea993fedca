"""Where a trainer stands: alone, or as one of several workers, who all stop after the same step."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import FloatArray
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.parts import Part


class Place(Protocol):
    """What a trainer asks about the other workers."""

    rank: int
    size: int

    def given(self, part: Part) -> Any:
        """What the learner takes: a worker its part, one that is alone a batch."""

    def begin(self) -> None:
        """Forgets what was asked before."""

    def stops(self, asked: bool) -> bool:
        """Whether to stop before the next step, the same on every worker; `asked` is of this one."""

    def sum(self, array: FloatArray) -> FloatArray:
        """That of an array of float32 over all workers; collective."""

    def any_asked(self, *asked: bool) -> tuple[bool, ...]:
        """For each of these, whether it is so on some worker; collective, between two epochs."""


class Alone:
    """The place of a learner without other workers."""

    rank, size = 0, 1

    def given(self, part: Part) -> Any:
        """The batch."""
        return part.batch

    def begin(self) -> None:
        """Nothing is kept."""

    def stops(self, asked: bool) -> bool:
        """What was asked."""
        return asked

    def sum(self, array: FloatArray) -> FloatArray:
        """The array."""
        return array

    def any_asked(self, *asked: bool) -> tuple[bool, ...]:
        """What was asked."""
        return asked


class Among:
    """The place of a learner among several workers.

    Args:
        learner: of this worker.
    """

    def __init__(self, learner: WorkerLearner) -> None:
        self._learner = learner
        self.rank, self.size = learner.workers.rank, learner.workers.size

    def given(self, part: Part) -> Any:
        """The part."""
        return part

    def begin(self) -> None:
        """Forgets what was asked before."""
        self._learner.clear_stop()

    def stops(self, asked: bool) -> bool:
        """What all know: who stopped alone would let the others wait for a step that does not come."""
        self._learner.asks_to_stop = asked
        return self._learner.stops

    def sum(self, array: FloatArray) -> FloatArray:
        """By the framework's engine."""
        return self._learner.workers.sum(array)

    def any_asked(self, *asked: bool) -> tuple[bool, ...]:
        """A sum over the workers."""
        return tuple(bool(count > 0) for count in self.sum(np.array(asked, np.float32)))


def place_of(learner: Learner) -> Place:
    """The place of a learner."""
    return Among(learner) if isinstance(learner, WorkerLearner) else Alone()
