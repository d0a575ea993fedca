"""What a backend offers the core: a `Backend` that builds models, and a `Learner` that trains one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, SupportsFloat

from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import (
    Batch,
    Device,
    FloatArray,
    Implementation,
    IntArray,
    Model,
    Parameters,
    State,
    StateArrays,
    StepResult,
)


class Learner(Protocol):
    """A model on a device, ready to be trained, evaluated and asked for predictions.

    Nothing that is passed in is changed, a state least of all: the one that a call returns is new, detached
    from the graph that made it (truncated back-propagation through time), and can be passed to any call with
    the same batch size.
    """

    #: Training steps taken so far. It numbers the dropout masks and the optimiser's steps, so a run that is
    #: resumed sets it.
    step: int

    #: How it is trained, as `Backend.learner` was given it.
    training: TrainingSpec

    #: The rate of the next training step; it begins as that of `training`. Setting it compiles nothing.
    learning_rate: float

    @property
    def model(self) -> Model:
        """The model as it is now, the framework's own object."""

    def initial_state(self, batch_size: int) -> State:
        """The zero state for `batch_size` sequences."""

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """One step: mean loss, gradient, clip, update. Dropout is on.

        The loss is the sum over the batch divided by `Batch.num_tokens`. Its gradient g, summed over the
        parts of ``TrainingSpec.accumulate`` (`d2lrnn.contract.values.row_slices`), becomes
        ``g · theta / max(|g|, theta)`` (`d2lrnn.contract.clipping`), and the optimiser
        (`d2lrnn.contract.optimizers`) makes its step with it at the rate `learning_rate`.
        """

    def eval_step(self, batch: Batch, state: State) -> tuple[SupportsFloat, State]:
        """The mean loss (nats per token) with dropout off, and the state after the batch. Learns nothing."""

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """One time step: tokens int32 (B,) to logits (B, V) as NumPy, dropout off, no graph built."""

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """The mean loss and its gradient by canonical name, unclipped, dropout off. Changes nothing."""

    def export_parameters(self) -> dict[str, FloatArray]:
        """A copy of the parameters, canonical names and layout."""

    def import_parameters(self, parameters: Parameters) -> None:
        """Replaces the parameters. Raises ParameterError where a name, a shape or a value does not fit."""

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """A copy of what the optimiser remembers, names and layout of `d2lrnn.contract.optimizers`."""

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Replaces it. Raises ParameterError where a name, a shape or a value does not fit."""

    def export_state(self, state: State) -> StateArrays:
        """A state as NumPy: ``(h,)`` or ``(h, c)``, each (L, B, h)."""

    def import_state(self, arrays: StateArrays) -> State:
        """The inverse of `export_state`."""

    def synchronize(self) -> None:
        """Waits until everything that was dispatched is done: for clocks and for the end of a run."""


class Backend(Protocol):
    """A framework behind the contract. It holds no state: all that varies is in the objects it makes."""

    name: str

    def versions(self) -> dict[str, str]:
        """The versions of what computes here, by package: ``{"numpy": "2.1.0", …}``."""

    def devices(self) -> Sequence[Device]:
        """What there is to compute on, best first; the last one is ``"cpu"``."""

    def cells(self, implementation: Implementation) -> Sequence[str]:
        """The names of the cells that `build` takes in an implementation."""

    def build(self, spec: ModelSpec, parameters: Parameters) -> Model:
        """The language model `spec` with these parameters, as the framework's own kind of object.

        Raises:
            SpecError: this backend has no such model.
            ParameterError: the parameters do not fit `spec` (`d2lrnn.contract.parameters.check_parameters`).
        """

    def export_model(self, model: Model) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """The inverse of `build`: what the model computes, and a copy of its parameters by canonical name."""

    def run_layers(
        self, model: Model, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """The recurrent layers of `model` alone, dropout off, as the framework calls them.

        Args:
            model: what `build` returned.
            inputs: (T, B, `ModelSpec.num_inputs`), any real numbers.
            state: what it returned before, or None for zeros.

        Returns:
            The outputs of the last layer (T, B, h), and the final state.
        """

    def learner(self, model: Model, training: TrainingSpec, *, device: str = "auto") -> Learner:
        """A learner for `model` on ``"auto"`` (the best device), ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.

        Raises:
            DeviceError: there is no such device; the message lists those that there are.
        """
