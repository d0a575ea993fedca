"""What a backend offers for several workers: an engine that it joins, and a learner that sums over it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, SupportsFloat

from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, Model, State
from d2lrnn.workers.parts import Part


class Workers(Protocol):
    """The processes that train one model together, as one of them sees them.

    Every method but `lost` is collective: all workers call it, in the same order. Where one of them does
    not, because it has died, the others' call raises a `d2lrnn.errors.WorkerLostError`, or ends the
    process, as the framework's engine does it.
    """

    #: The number of this worker, from 0, and how many there are.
    rank: int
    size: int

    def sum(self, array: FloatArray) -> FloatArray:
        """The sum of every worker's array; all have one shape and precision, and get the same bits."""

    def lost(self) -> str | None:
        """What no longer answers, as far as the engine knows: ``worker 1 of 2``. Asked from a thread."""

    def close(self) -> None:
        """Waits for all workers, and leaves."""


class PartResult(NamedTuple):
    """What a training step on a part gives back, as native scalars, the same on every worker.

    Attributes:
        loss: the mean over the tokens of the whole batch.
        grad_norm: of the gradient of the whole batch, before clipping.
        stops: how many workers asked to stop.
    """

    loss: SupportsFloat
    grad_norm: SupportsFloat
    stops: SupportsFloat


class PartLearner(Learner, Protocol):
    """A learner that computes with one worker's rows, and sums over the workers.

    Its states are those of its rows. `train_step`, `eval_step` and `gradients` take whole batches, and sum
    over no one.
    """

    def train_part(self, part: Part, state: State, *, stop: bool) -> tuple[PartResult, State]:
        """A training step of all workers together.

        The loss of the part is divided by `Part.num_tokens`. It, its gradient and the number of workers that
        ask to stop are summed over the workers in one reduction; clipping and the optimiser's step come after
        it, and are the same everywhere. Dropout masks are those of `d2lrnn.workers.parts.part_masks`.
        """

    def eval_part(self, part: Part, state: State) -> tuple[SupportsFloat, State]:
        """The mean loss of the whole batch with dropout off, and the state after the part."""

    def part_gradients(self, part: Part, state: State) -> tuple[float, dict[str, FloatArray]]:
        """`Learner.gradients` of the whole batch."""


class SharingBackend(Backend, Protocol):
    """A backend whose framework has an engine for several workers."""

    def join_workers(self, device: str = "auto") -> Workers:
        """Joins the others: the place among them is what the engine's launcher has put into the environment.

        Args:
            device: as `Backend.learner` takes it.

        Raises:
            SpecError: the environment names no place, or it makes no sense.
            WorkerLostError: the others do not come.
        """

    def learner(
        self,
        model: Model,
        training: TrainingSpec,
        *,
        device: str = "auto",
        workers: Workers | None = None,
    ) -> Learner:
        """`Backend.learner`; with `workers`, of `join_workers`, a `d2lrnn.workers.learner.WorkerLearner`."""
