"""A worker's learner: it computes its own rows of every batch, given alone or in the whole batch."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, SupportsFloat

from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import (
    Batch,
    FloatArray,
    IntArray,
    Model,
    Parameters,
    State,
    StateArrays,
    StepResult,
)
from d2lrnn.errors import SpecError
from d2lrnn.workers.agreement import check_same, gathered
from d2lrnn.workers.parts import Part, joined_state, own_state, part_of, rows_of
from d2lrnn.workers.protocols import PartLearner, Workers


class OwnRows(NamedTuple):
    """The state after a batch that the workers computed together: that of this worker's rows.

    Attributes:
        state: the backend's own.
        batch_size: B, the rows of the whole batch.
    """

    state: State
    batch_size: int


class Zeros(NamedTuple):
    """The zero state of whole batches of B rows."""

    batch_size: int


class WorkerLearner:
    """The learner of one worker among several; see `d2lrnn.contract.protocols.Learner` for the methods.

    All workers are given the same batches, or each its `Part` of them. What `train_step` and `eval_step`
    return is of the whole batch and the same on every worker. `train_step`, `eval_step` and `gradients` are
    collective, and `export_state` of a state that they returned.

    Args:
        learner: computes the rows of this worker.
        workers: all of them.

    Attributes:
        asks_to_stop: set to ask all workers to stop after the same step.
        stops: whether some worker asked, known to all of them after the same step.
    """

    def __init__(self, learner: PartLearner, workers: Workers) -> None:
        self.workers = workers
        self.training: TrainingSpec = learner.training
        self._learner = learner
        self.asks_to_stop = False
        self._stops: SupportsFloat = 0.0
        self._stops_before: SupportsFloat = 0.0

    @property
    def stops(self) -> bool:
        """See the class. Of the step before the last one: reading the last one would wait for it."""
        return float(self._stops_before) > 0

    def clear_stop(self) -> None:
        """Forgets what was asked: training goes on."""
        self.asks_to_stop, self._stops, self._stops_before = False, 0.0, 0.0

    @property
    def step(self) -> int:
        """Training steps taken so far."""
        return self._learner.step

    @step.setter
    def step(self, step: int) -> None:
        self._learner.step = step

    @property
    def learning_rate(self) -> float:
        """The rate of the next training step."""
        return self._learner.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._learner.learning_rate = rate

    @property
    def model(self) -> Model:
        """The model as it is now, the same on every worker."""
        return self._learner.model

    def initial_state(self, batch_size: int) -> State:
        """The zero state of whole batches."""
        return Zeros(batch_size)

    def train_step(self, batch: Batch | Part, state: State) -> tuple[StepResult, State]:
        """A step of all workers together.

        Raises:
            SpecError: a part that is not this worker's.
        """
        part = self._part(batch)
        self._stops_before = self._stops
        (loss, norm, self._stops), state = self._learner.train_part(
            part, self._own(state, part), stop=self.asks_to_stop
        )
        return StepResult(loss, norm), OwnRows(state, part.batch_size)

    def eval_step(self, batch: Batch | Part, state: State) -> tuple[SupportsFloat, State]:
        """The mean loss of the whole batch.

        Raises:
            SpecError: a part that is not this worker's.
        """
        part = self._part(batch)
        loss, state = self._learner.eval_part(part, self._own(state, part))
        return loss, OwnRows(state, part.batch_size)

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """All rows, on every worker that calls it: a single step is too little work to share."""
        return self._learner.predict_step(tokens, self._whole(state))

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """The mean loss of the whole batch and its gradient."""
        part = self._part(batch)
        return self._learner.part_gradients(part, self._own(state, part))

    def export_parameters(self) -> dict[str, FloatArray]:
        """A copy."""
        return self._learner.export_parameters()

    def import_parameters(self, parameters: Parameters) -> None:
        """Replaces them, on this worker."""
        self._learner.import_parameters(parameters)

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """A copy."""
        return self._learner.export_optimizer_state()

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Replaces it, on this worker."""
        self._learner.import_optimizer_state(arrays)

    def export_state(self, state: State) -> StateArrays:
        """The state of the whole batch, each array (L, B, h), gathered from all workers."""
        if not isinstance(state, OwnRows):
            return self._learner.export_state(self._whole(state))
        own = self._learner.export_state(state.state)
        return tuple(joined_state(gathered(self.workers, array), state.batch_size) for array in own)

    def import_state(self, arrays: StateArrays) -> State:
        """The inverse of `export_state`."""
        return self._learner.import_state(arrays)

    def synchronize(self) -> None:
        """Waits until everything that this worker dispatched is done."""
        self._learner.synchronize()

    def check_agreement(self) -> None:
        """Checks that all workers stand at the same step with the same parameters; collective.

        Raises:
            SpecError: one of them differs from the first.
        """
        digest = hashlib.sha256()
        for arrays in (self.export_parameters(), self.export_optimizer_state()):
            for name, value in sorted(arrays.items()):
                digest.update(name.encode() + value.tobytes())
        parameters = f"those with the checksum {digest.hexdigest()}"
        check_same(self.workers, {
            "training": f"{self.training}", "step": f"{self.step}", "parameters": parameters,
        })  # fmt: skip

    def _part(self, batch: Batch | Part) -> Part:
        rank, size = self.workers.rank, self.workers.size
        if not isinstance(batch, Part):
            return part_of(batch, rank, size)
        own, given = rows_of(batch.batch_size, rank, size), len(batch.batch.inputs)
        if batch.rows != own or given != own.stop - own.start:
            raise SpecError(
                f"worker {rank} of {size} computes {own.stop - own.start} rows from row {own.start} on, of a "
                f"batch of {batch.batch_size}, and was given {given} from row {batch.rows.start} on: give it "
                "a whole batch, or its own part (`d2lrnn.workers.parts.part_of`)"
            )
        return batch

    def _own(self, state: State, part: Part) -> State:
        """The state of this worker's rows."""
        if isinstance(state, OwnRows):
            return state.state
        if isinstance(state, Zeros):
            return self._learner.initial_state(len(part.batch.inputs))
        whole = self._learner.export_state(state)
        return self._learner.import_state(own_state(whole, part.rows))

    def _whole(self, state: State) -> State:
        """The state of all rows, the backend's own."""
        if isinstance(state, Zeros):
            return self._learner.initial_state(state.batch_size)
        return self.import_state(self.export_state(state)) if isinstance(state, OwnRows) else state
