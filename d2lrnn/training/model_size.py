"""How large a model is, before anything is allocated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec, TrainingSpec


def num_parameters(spec: ModelSpec) -> int:
    """The numbers in a model's parameters, without making anything for every layer.

    Example:
        >>> num_parameters(ModelSpec(28, num_hiddens=32, num_layers=2))
        4956
    """
    one, two = (_count(replace(spec, num_layers=layers)) for layers in (1, 2))
    return one + (spec.num_layers - 1) * (two - one)


def parameter_bytes(spec: ModelSpec) -> int:
    """What the parameters of a model take."""
    return np.dtype(spec.dtype).itemsize * num_parameters(spec)


class TrainingBytes(NamedTuple):
    """The least memory that a training step needs, in bytes.

    Attributes:
        parameters: the parameters, their gradients, and what the optimiser remembers of each.
        states: the gates and states of all layers and steps, of the rows that are computed at once.
        logits: the logits of these rows, and their gradient.
    """

    parameters: int
    states: int
    logits: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def bytes_of_training(
    model: ModelSpec, training: TrainingSpec, batch_size: int, num_steps: int
) -> TrainingBytes:
    """The least memory that every backend needs for a training step.

    With P parameters, s slots of the optimiser, G gates and S states of the cell, and R = T · ceil(B / parts)
    tokens at once it is (2 + s) P, R L h (G + S) and 2 R V numbers.

    Args:
        model: the model.
        training: how it is trained; a batch is cut into `TrainingSpec.accumulate` parts.
        batch_size: B.
        num_steps: T.

    Example:
        >>> bytes_of_training(ModelSpec(28), TrainingSpec(), batch_size=1, num_steps=1)
        TrainingBytes(parameters=23008, states=256, logits=224)
    """
    itemsize, cell = np.dtype(model.dtype).itemsize, find_cell(model.cell)
    rows = -(-batch_size // training.accumulate) * num_steps
    units = (len(cell.gates) + len(cell.states)) * model.num_hiddens * model.num_layers
    copies = 2 + len(training.optimizer.slots)
    return TrainingBytes(
        copies * parameter_bytes(model), rows * units * itemsize, 2 * rows * model.vocab_size * itemsize
    )


def _count(spec: ModelSpec) -> int:
    return sum(map(math.prod, parameter_shapes(spec).values()))
