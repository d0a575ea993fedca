"""The learning-rate range test (Smith 2017, "Cyclical learning rates for training neural networks", 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from d2lrnn.checks import check_positive, whole_number
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import Batch
from d2lrnn.data.batches import DataModule
from d2lrnn.errors import SpecError

#: Of the running mean of the losses. fastai's ``lr_find`` and Lightning's have 0.98, for noisier losses: a
#: batch of text has a thousand tokens and more, and a mean of the last fifty steps comes half a decade late.
_SMOOTHING = 0.6
#: The test ends where the smoothed loss is above so many times the lowest; this and the next are as theirs.
_DIVERGED = 4.0
#: The first steps are too noisy for a suggestion.
_SKIPPED = 10


@dataclass(frozen=True)
class RateRange:
    """What a range test found, a value a step.

    Attributes:
        rates: the learning rates, rising.
        losses: the loss before the step with that rate, in nats per token.
        ended: ``"finished"`` with the highest rate, ``"diverged"`` before it, or ``"interrupted"``.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    ended: Literal["finished", "diverged", "interrupted"]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The running means of the losses: ``m = 0.6 m + 0.4 loss``, divided by ``1 - 0.6^t``."""
        return tuple(_smoothed(self.losses))

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls fastest with the rate's logarithm.

        The steepest descent is that of Lightning's ``suggestion`` (central differences, the first ten steps
        left out), looked for up to the lowest smoothed loss alone. None where the loss has not fallen.

        Example:
            >>> rates = tuple(10 ** (step / 10 - 3) for step in range(40))
            >>> losses = tuple(3.0 if step < 20 else 1.0 for step in range(40))
            >>> round(RateRange(rates, losses, "finished").suggestion, 3)
            0.1
        """
        smoothed = np.array(self.smoothed)
        lowest = int(np.argmin(smoothed)) if len(smoothed) else 0
        if lowest < _SKIPPED + 1:
            return None
        slopes = np.gradient(smoothed[: lowest + 1])[_SKIPPED:]
        steepest = int(np.argmin(slopes))
        return self.rates[_SKIPPED + steepest] if slopes[steepest] < 0 else None


def rate_range(
    learner: Learner,
    data: DataModule,
    *,
    lowest: float = 1e-5,
    highest: float = 100.0,
    num_steps: int = 100,
    interrupted: Callable[[], bool] = lambda: False,
) -> RateRange:
    """Trains for some steps with a rate that rises by the same factor each time, until the loss diverges.

    The loss of each step is waited for. The learner is put back to where it was.

    Args:
        learner: what is trained.
        data: on what; where it has fewer batches they are walked again.
        lowest: the first rate.
        highest: the last.
        num_steps: how many rates.
        interrupted: asked before every step; True ends the test.

    Raises:
        SpecError: a number is out of its range, or the data has no batch.

    Example:
        >>> from d2lrnn import ModelSpec, SlidingWindows, TrainingSpec, backend
        >>> from d2lrnn import initial_parameters, load_corpus
        >>> corpus, numpy = load_corpus("sample"), backend("numpy")
        >>> spec = ModelSpec(len(corpus.vocab), num_hiddens=8)
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> data = SlidingWindows(corpus, batch_size=64, num_steps=10, num_train=640, num_val=128)
        >>> found = rate_range(learner, data, lowest=0.001, highest=10, num_steps=50)
        >>> len(found.rates), found.rates[0], 0.001 < found.suggestion < 10
        (50, 0.001, True)
    """
    check_positive("the lowest rate", lowest)
    check_positive("the highest rate", highest)
    if highest <= lowest:
        raise SpecError(f"the highest rate is {highest:g}: it must be above the lowest, {lowest:g}")
    num_steps = whole_number("the number of rates", num_steps, _SKIPPED + 2)
    step, rate, parameters = learner.step, learner.learning_rate, learner.export_parameters()
    optimizer_state = learner.export_optimizer_state()
    try:
        return _rising(learner, data, np.geomspace(lowest, highest, num_steps).tolist(), interrupted)
    finally:
        learner.import_parameters(parameters)
        learner.import_optimizer_state(optimizer_state)
        learner.step, learner.learning_rate = step, rate


def _rising(
    learner: Learner, data: DataModule, rates: list[float], interrupted: Callable[[], bool]
) -> RateRange:
    losses: list[float] = []
    lowest, state = math.inf, None
    ended: Literal["finished", "diverged", "interrupted"] = "finished"
    for rate, (batch, begins) in zip(rates, _endless(data), strict=False):
        if interrupted():
            ended = "interrupted"
            break
        if begins or not data.carries_state:
            state = learner.initial_state(len(batch.inputs))
        learner.learning_rate = rate
        result, state = learner.train_step(batch, state)
        loss = float(result.loss)
        if not math.isfinite(loss):
            ended = "diverged"
            break
        losses.append(loss)
        smoothed = _smoothed(losses)[-1]
        lowest = min(lowest, smoothed)
        if smoothed > _DIVERGED * lowest:
            ended = "diverged"
            break
    return RateRange(tuple(rates[: len(losses)]), tuple(losses), ended)


def _endless(data: DataModule) -> Iterator[tuple[Batch, bool]]:
    """The batches of epoch after epoch, and whether one begins with this batch."""
    epoch = 0
    while True:
        epoch, begins = epoch + 1, True
        for batch in data.train_batches(epoch):
            yield batch, begins
            begins = False
        if begins:
            raise SpecError("the training data gave no batch: take more data or a smaller batch size")


def _smoothed(losses: tuple[float, ...] | list[float]) -> list[float]:
    mean, smoothed = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed.append(mean / (1 - _SMOOTHING**number))
    return smoothed
