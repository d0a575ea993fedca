"""The contract between the core and a backend: two protocols and the values that cross the border.

What this design serves:

- The unit that crosses is the *training step*, not the tensor operation. A backend compiles its own step in
  its own way, and the core's loop never dispatches an operation.
- What the core hands over is NumPy and frozen values; what it gets back is opaque (a state, a native scalar)
  until it asks for NumPy.
- A model is the framework's own kind of object, of use without the rest of the library. A learner wraps one
  for training.
- Nothing here decides a number that a framework's random generator could change: initial values and dropout
  masks are drawn by NumPy in the core (`d2lrnn.parameters`, `d2lrnn.dropout`).

Shapes are written with B = batch size, T = time steps, V = vocabulary size, h = hidden units, L = layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol, SupportsFloat, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from d2lrnn.errors import SpecError

IntArray: TypeAlias = npt.NDArray[np.int32]
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]

#: Canonical parameter names to arrays; `d2lrnn.parameters` defines the names and the layout.
Parameters: TypeAlias = Mapping[str, FloatArray]

#: A state as NumPy arrays: ``(h,)``, for an LSTM ``(h, c)``, each of shape (L, B, h).
StateArrays: TypeAlias = tuple[FloatArray, ...]

#: A backend's own hidden state. The core hands it back untouched.
State: TypeAlias = Any

#: A backend's own language model.
Model: TypeAlias = Any

Cell = Literal["rnn", "gru", "lstm"]
Implementation = Literal["scratch", "concise"]
DType = Literal["float32", "float64"]

#: In `Batch.targets`: this position is padding and counts for nothing.
PADDING = -1


class Batch(NamedTuple):
    """A minibatch of token sequences and, for every token, the one that follows it.

    Attributes:
        inputs: int32 (B, T), token indices in [0, V).
        targets: int32 (B, T), token indices in [0, V), or `PADDING` where the batch was filled up: a padded
            position has no loss and no gradient.
    """

    inputs: IntArray
    targets: IntArray

    @property
    def num_tokens(self) -> int:
        """How many targets are not padding: what a sum of losses is divided by."""
        return int(np.count_nonzero(self.targets >= 0))


class StepResult(NamedTuple):
    """What a training step gives back, as native scalars: no host sync until ``float()`` is called.

    Attributes:
        loss: mean cross-entropy over the tokens that are not padding, in nats per token, before the update.
        grad_norm: the Euclidean norm of all gradients together, before clipping.
    """

    loss: SupportsFloat
    grad_norm: SupportsFloat


class Device(NamedTuple):
    """A device that a backend can compute on: ``Device("gpu:0", "NVIDIA H200")``."""

    name: str
    description: str


@dataclass(frozen=True)
class ModelSpec:
    """Which function a language model computes. A value: it prints, compares and goes into a saved run.

    Attributes:
        vocab_size: V, the size of the vocabulary, and so the number of inputs and of outputs.
        cell: ``"rnn"`` (tanh), ``"gru"`` or ``"lstm"``.
        implementation: ``"scratch"`` (the formulas spelt out) or ``"concise"`` (the framework's own layers).
        num_hiddens: h, the number of hidden units of every layer.
        num_layers: L, the number of recurrent layers.
        dropout: the rate between layers (never after the last), while training; concise models only.
        reset_after: for a GRU, whether the reset gate is applied after the matrix product (cuDNN's form, that
            of every concise layer) or before it (the book's scratch GRU). None takes the implementation's
            own; for other cells it stays None.
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        SpecError: a value is unknown, negative or zero, or two of them contradict each other.

    Example:
        >>> ModelSpec(vocab_size=28, cell="gru", implementation="scratch").reset_after
        False
    """

    vocab_size: int
    cell: Cell = "rnn"
    implementation: Implementation = "scratch"
    num_hiddens: int = 32
    num_layers: int = 1
    dropout: float = 0.0
    reset_after: bool | None = None
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        _check_choice("cell", self.cell, get_args(Cell))
        _check_choice("implementation", self.implementation, get_args(Implementation))
        _check_choice("dtype", self.dtype, get_args(DType))
        _check_positive("vocabulary size", self.vocab_size)
        _check_positive("number of hidden units", self.num_hiddens)
        _check_positive("number of layers", self.num_layers)
        if not 0 <= self.dropout < 1:
            raise SpecError(f"the dropout rate is {self.dropout}: it must be at least 0 and below 1")
        if self.dropout and self.implementation == "scratch":
            raise SpecError("dropout belongs to the concise models: take implementation='concise'")
        if self.cell == "gru":
            if self.reset_after is None:
                object.__setattr__(self, "reset_after", self.implementation == "concise")
            if not self.reset_after and self.implementation == "concise":
                raise SpecError(
                    "a concise GRU resets after the matrix product: only the scratch GRU can "
                    "have reset_after=False"
                )
        elif self.reset_after is not None:
            raise SpecError(f"reset_after belongs to the GRU, not to cell={self.cell!r}: leave it None")

    @property
    def num_gates(self) -> int:
        """G, the number of gates side by side in a weight matrix: 1, 3 (r, z, n) or 4 (i, f, g, o)."""
        return {"rnn": 1, "gru": 3, "lstm": 4}[self.cell]

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``ModelSpec(**data)`` is its inverse."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingSpec:
    """How a model is trained: stochastic gradient descent on clipped gradients.

    Attributes:
        learning_rate: the step size of SGD.
        clip: theta, the largest norm that the gradient may have; None never clips.
        seed: decides the dropout masks.

    Raises:
        SpecError: a rate or a norm that is not a positive number, or a negative seed.
    """

    learning_rate: float = 1.0
    clip: float | None = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("learning rate", self.learning_rate), ("clipping norm", self.clip)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise SpecError(f"the {name} is {value}: it must be a number above 0")
        if self.seed < 0:
            raise SpecError(f"the seed is {self.seed}: it must be 0 or above")

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``TrainingSpec(**data)`` is its inverse."""
        return asdict(self)


class Learner(Protocol):
    """A model on a device, ready to be trained, evaluated and asked for predictions.

    Nothing that is passed in is changed, a state least of all: the one that a call returns is new, is cut off
    from the graph that made it (truncated back-propagation through time), and can be passed to any call with
    the same batch size.
    """

    #: Training steps taken so far. It numbers the dropout masks, so a run that is resumed sets it.
    step: int

    @property
    def model(self) -> Model:
        """The model as it is now, the framework's own object."""

    def initial_state(self, batch_size: int) -> State:
        """The zero state for `batch_size` sequences."""

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """One step of SGD: mean loss, gradient, clip, update. Dropout is on.

        The loss is the sum over the batch divided by `Batch.num_tokens`; the gradient g of it becomes
        ``g · theta / max(|g|, theta)`` (`d2lrnn.clipping`) and a parameter p becomes ``p - lr · g``.
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

    def build(self, spec: ModelSpec, parameters: Parameters) -> Model:
        """The language model `spec` with these parameters, as the framework's own kind of object.

        Raises:
            ParameterError: the parameters do not fit `spec` (`d2lrnn.parameters.check_parameters`).
        """

    def export_model(self, model: Model) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """The inverse of `build`: what the model computes, and a copy of its parameters by canonical name."""

    def run_layers(
        self, model: Model, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """The recurrent layers of `model` alone, dropout off, as the framework calls them.

        Args:
            model: what `build` returned.
            inputs: (T, B, V), any real numbers.
            state: what it returned before, or None for zeros.

        Returns:
            The outputs of the last layer (T, B, h), and the final state.
        """

    def learner(self, model: Model, training: TrainingSpec, *, device: str = "auto") -> Learner:
        """A learner for `model`.

        Args:
            model: what `build` returned.
            training: rate, clipping, seed.
            device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.

        Raises:
            DeviceError: there is no such device; the message lists those that there are.
        """


def _check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SpecError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")


def _check_positive(what: str, value: int) -> None:
    if value < 1:
        raise SpecError(f"the {what} is {value}: it must be at least 1")
