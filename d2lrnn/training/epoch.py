"""One epoch of the core's loop over batches that a framework's own loader gives.

`d2lrnn.training.trainer.Trainer` is the loop. The book's editions reach it from here: a loader in place of a
`d2lrnn.data.batches.DataModule`, and in place of a learner whatever a chapter's cells made of their
training step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, SupportsFloat, cast

from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import State, StepResult
from d2lrnn.errors import SpecError
from d2lrnn.training.trainer import EpochRecord, Position, Trainer


@dataclass
class LoadedBatch:
    """A batch as a loader gives it.

    Attributes:
        tensors: the framework's own arrays: the inputs first, the targets last.
        num_tokens: how many targets there are; 0 for a batch whose loss nobody told.
    """

    tensors: Sequence[Any]
    num_tokens: int

    @property
    def inputs(self) -> Any:
        """The first tensor; its length is the batch size."""
        return self.tensors[0]


class Steps(Protocol):
    """The part of `d2lrnn.contract.protocols.Learner` that the loop calls, on batches of a loader.

    `train_step` gives a `StepResult` whose norm nobody reads here: it may be NaN.
    """

    step: int

    def initial_state(self, batch_size: int) -> State:
        """What the first batch of an epoch begins with; not None."""

    def train_step(self, batch: LoadedBatch, state: State) -> tuple[StepResult, State]:
        """Learns from a batch."""

    def eval_step(self, batch: LoadedBatch, state: State) -> tuple[SupportsFloat, State]:
        """The loss of a batch; learns nothing."""

    def export_parameters(self) -> Any:
        """A copy of the parameters."""

    def import_parameters(self, parameters: Any) -> None:
        """Puts back what `export_parameters` returned."""

    def synchronize(self) -> None:
        """Waits until all that was dispatched is done."""


def run_epoch(
    steps: Steps,
    train: Iterable[Sequence[Any]],
    validation: Iterable[Sequence[Any]] = (),
    *,
    before: Sequence[EpochRecord] = (),
    carries_state: bool = False,
) -> EpochRecord:
    """One epoch of training, then validation.

    Args:
        steps: what is done with a batch.
        train: the training loader.
        validation: the validation loader; the perplexity of an empty one is NaN.
        before: the epochs before this one.
        carries_state: whether a batch continues the one before.

    Raises:
        DivergedError: a loss was NaN or infinite; the parameters are those from before the epoch.
        SpecError: the training loader gave no batch.
        KeyboardInterrupt: Ctrl-C, once the step under way was done.
    """
    loaders = _Loaders(train, validation, carries_state)
    trainer = Trainer(cast(Learner, steps), loaders, position=Position(steps.step, tuple(before)))
    history = trainer.fit(len(before) + 1)
    if history.ended == "interrupted":
        raise KeyboardInterrupt
    return history.epochs[-1]


class _Loaders:
    """Two loaders as a `d2lrnn.data.batches.DataModule`; a loader decides the order of an epoch itself."""

    # Known once a batch is there; the loop asks for them in progress displays alone.
    batch_size = num_steps = num_train_batches = num_validation_batches = 0

    def __init__(
        self, train: Iterable[Sequence[Any]], validation: Iterable[Sequence[Any]], carries_state: bool
    ) -> None:
        self._train, self._validation = train, validation
        self.carries_state = carries_state

    def train_batches(self, epoch: int) -> Iterator[Any]:
        batches = _loaded(self._train)
        first = next(batches, None)
        if first is None:
            raise SpecError("the training data gave no batch: take more data or a smaller batch size")
        return chain([first], batches)

    def validation_batches(self) -> Iterator[Any]:
        return _loaded(self._validation)

    def describe(self) -> str:
        return "batches of a loader"


def _loaded(loader: Iterable[Sequence[Any]]) -> Iterator[LoadedBatch]:
    for tensors in loader:
        yield LoadedBatch(tensors, math.prod(tensors[-1].shape))
