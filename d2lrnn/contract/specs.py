"""What a language model computes and how it is trained, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Protocol, get_args

from d2lrnn.contract.cells import RNN, Cell, find_cell
from d2lrnn.contract.optimizers import SGD, Optimizer
from d2lrnn.contract.values import DType, Implementation
from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class ModelSpec:
    """Which function a language model computes. A value: it prints, compares and goes into a saved run.

    Attributes:
        vocab_size: V, the size of the vocabulary, and so the number of inputs and of outputs.
        cell: the name of a cell in `d2lrnn.contract.cells`: ``"rnn"`` (tanh), ``"gru"``, ``"lstm"``, …
        implementation: ``"scratch"`` (the formulas spelt out) or ``"concise"`` (the framework's own layers).
        num_hiddens: h, the number of hidden units of every layer.
        num_layers: L, the number of recurrent layers.
        dropout: the rate between layers (never after the last), while training.
        reset_after: for a GRU, whether the reset gate is applied after the matrix product (cuDNN's form, that
            of every concise layer) or before it (the book's scratch GRU). None takes the implementation's
            own; for other cells it stays None.
        dtype: ``"float32"`` or ``"float64"``.
        embedding_size: E, the length of the vectors that tokens are looked up as; None takes one-hot vectors.
        tied: whether the head's weight is the embedding's, transposed (Press and Wolf 2017); E is then h.
        input_dropout: the rate at the embedding, while training.
        output_dropout: the rate between the last layer and the head, while training.

    Raises:
        SpecError: a value is unknown, negative or zero, or two of them contradict each other.

    Example:
        >>> ModelSpec(vocab_size=28, cell="gru", implementation="scratch").reset_after
        False
    """

    vocab_size: int
    cell: str = RNN.name
    implementation: Implementation = "scratch"
    num_hiddens: int = 32
    num_layers: int = 1
    dropout: float = 0.0
    reset_after: bool | None = None
    dtype: DType = "float32"
    embedding_size: int | None = None
    tied: bool = False
    input_dropout: float = 0.0
    output_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("implementation", self.implementation, get_args(Implementation))
        _check_choice("dtype", self.dtype, get_args(DType))
        _check_positive("vocabulary size", self.vocab_size)
        _check_positive("number of hidden units", self.num_hiddens)
        _check_positive("number of layers", self.num_layers)
        _check_rate("dropout rate", self.dropout)
        _check_rate("dropout rate of the inputs", self.input_dropout)
        _check_rate("dropout rate of the outputs", self.output_dropout)
        self._check_embedding()
        self._check_reset(find_cell(self.cell))

    def _check_embedding(self) -> None:
        if self.embedding_size is not None:
            _check_positive("embedding size", self.embedding_size)
        elif self.input_dropout:
            raise SpecError("dropout of the inputs needs an embedding: give an embedding size")
        elif self.tied:
            raise SpecError("a tied head needs an embedding: give an embedding size")
        if self.tied and self.embedding_size != self.num_hiddens:
            raise SpecError(
                f"a tied head needs an embedding as large as the hidden state: the embedding size is "
                f"{self.embedding_size}, the number of hidden units {self.num_hiddens}"
            )

    def _check_reset(self, cell: Cell) -> None:
        concise = self.implementation == "concise"
        if concise and not cell.has_layer:
            raise SpecError(
                f"no framework has a layer of the cell {cell.name}: take the scratch implementation"
            )
        if cell.reset_bias is None:
            if self.reset_after is not None:
                raise SpecError(f"reset_after does not apply to cell={self.cell!r}: leave it None")
        elif self.reset_after is None:
            object.__setattr__(self, "reset_after", concise)
        elif concise and not self.reset_after:
            raise SpecError(
                f"a concise {cell.title} resets after the matrix product: only the scratch one can have "
                "reset_after=False"
            )

    @property
    def num_gates(self) -> int:
        """G, the number of gates side by side in a weight matrix."""
        return len(find_cell(self.cell).gates)

    @property
    def num_states(self) -> int:
        """How many arrays (L, B, h) the state has."""
        return len(find_cell(self.cell).states)

    @property
    def num_inputs(self) -> int:
        """The length of the first layer's input vectors: E, or V where they are one-hot."""
        return self.embedding_size or self.vocab_size

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``ModelSpec(**data)`` is its inverse."""
        return asdict(self)


class Schedule(Protocol):
    """How the learning rate changes in the course of a run; `d2lrnn.training.schedules` has them.

    A frozen value, without a state of its own: what it says follows from its arguments alone.
    """

    #: What ``--schedule`` calls it.
    name: ClassVar[str]

    def factor(self, step: int, validation: Sequence[float]) -> float:
        """What the learning rate is multiplied by.

        Args:
            step: the training step, from 0.
            validation: the validation losses of the whole epochs so far, in nats per token.
        """

    def to_json(self) -> dict[str, Any]:
        """The schedule as plain data."""


@dataclass(frozen=True)
class TrainingSpec:
    """How a model is trained.

    Attributes:
        learning_rate: the step size of the optimiser, before the schedule.
        clip: theta, the largest norm that the gradient may have; None never clips.
        seed: decides the dropout masks.
        optimizer: what a step does with the clipped gradient.
        schedule: how the rate changes; None keeps it.
        accumulate: the most parts that a batch is cut into by rows (`values.row_slices`). Their
            gradients add up before the step: the numbers are those of the whole batch, the memory is that of
            a part.

    Raises:
        SpecError: a rate or a norm that is not a positive number, a negative seed, or no parts.
    """

    learning_rate: float = 1.0
    clip: float | None = 1.0
    seed: int = 0
    optimizer: Optimizer = field(default_factory=SGD)
    schedule: Schedule | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name, value in (("learning rate", self.learning_rate), ("clipping norm", self.clip)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SpecError(f"the {name} is {value}: it must be a number above 0")
        if self.seed < 0:
            raise SpecError(f"the seed is {self.seed}: it must be 0 or above")
        _check_positive("number of parts to accumulate", self.accumulate)

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        schedule = self.schedule.to_json() if self.schedule else None
        return values | {"optimizer": self.optimizer.to_json(), "schedule": schedule}


def _check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SpecError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")


def _check_positive(what: str, value: int) -> None:
    if value < 1:
        raise SpecError(f"the {what} is {value}: it must be at least 1")


def _check_rate(what: str, value: float) -> None:
    if not 0 <= value < 1:
        raise SpecError(f"the {what} is {value}: it must be at least 0 and below 1")
