"""What a language model computes and how it is trained, as frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Protocol, get_args

from d2lrnn.checks import check_choice, check_positive, check_rate, whole_number
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
        check_choice("implementation", self.implementation, get_args(Implementation))
        check_choice("dtype", self.dtype, get_args(DType))
        _set_whole(self, "vocab_size", "the vocabulary size")
        _set_whole(self, "num_hiddens", "the number of hidden units")
        _set_whole(self, "num_layers", "the number of layers")
        check_rate("the dropout rate", self.dropout)
        check_rate("the dropout rate of the inputs", self.input_dropout)
        check_rate("the dropout rate of the outputs", self.output_dropout)
        self._check_embedding()
        self._check_reset(find_cell(self.cell))

    def _check_embedding(self) -> None:
        if self.embedding_size is not None:
            _set_whole(self, "embedding_size", "the embedding size")
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
        check_positive("the learning rate", self.learning_rate)
        if self.clip is not None:
            check_positive("the clipping norm", self.clip)
        _set_whole(self, "seed", "the seed", least=0)
        _set_whole(self, "accumulate", "the number of parts to accumulate")

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        schedule = self.schedule.to_json() if self.schedule else None
        return values | {"optimizer": self.optimizer.to_json(), "schedule": schedule}


def _set_whole(spec: ModelSpec | TrainingSpec, name: str, what: str, least: int = 1) -> None:
    """Makes a field an int, where it is a whole number of any type; only ints go into a saved run."""
    object.__setattr__(spec, name, whole_number(what, getattr(spec, name), least))
