"""What a language model computes and how it is trained, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from d2lrnn.contract.values import DType, Implementation
from d2lrnn.errors import SpecError

Cell = Literal["rnn", "gru", "lstm"]


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


def _check_choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SpecError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")


def _check_positive(what: str, value: int) -> None:
    if value < 1:
        raise SpecError(f"the {what} is {value}: it must be at least 1")
