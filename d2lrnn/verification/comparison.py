"""How far a backend is from the reference: outputs, gradients and losses of training steps.

The bounds are those of the tests of the library, which hold on every backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from d2lrnn.benchmark.reference import check_parameters_of
from d2lrnn.contract.optimizers import slot_name
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import DType, FloatArray
from d2lrnn.verification.models import BATCH_SIZE, TRAININGS, Task, given

#: The parts of a comparison that every model has; behind them come the names of the trainings.
OUTPUTS, GRADIENTS = "outputs", "gradients"

#: By how much outputs may differ; and gradients, in units of the largest entry of all gradients, and losses,
#: as a part of themselves.
_OUTPUT_BOUNDS: dict[DType, float] = {"float32": 1e-6, "float64": 1e-9}
_RELATIVE_BOUNDS: dict[DType, float] = {"float32": 1e-5, "float64": 1e-9}


def bound_of(part: str, dtype: DType) -> float:
    """The largest difference with which a part agrees.

    Example:
        >>> bound_of("outputs", "float32"), bound_of("gradients", "float32"), bound_of("sgd", "float64")
        (1e-06, 1e-05, 1e-09)
    """
    return (_OUTPUT_BOUNDS if part == OUTPUTS else _RELATIVE_BOUNDS)[dtype]


@dataclass(frozen=True)
class Comparison:
    """One part of one model on one device.

    Attributes:
        model: ``"gru scratch"``.
        dtype: the type that it was computed in; the reference is in float64.
        part: ``"outputs"``, ``"gradients"``, ``"sgd"`` or ``"adam"``.
        worst: the largest difference, in the units of its bound; infinite where something is no number.
        where: what differs most: ``"rnn.1.w_h"``, ``"loss after 7 steps"``.
    """

    model: str
    dtype: DType
    part: str
    worst: float
    where: str

    @property
    def bound(self) -> float:
        """The largest difference with which it agrees."""
        return bound_of(self.part, self.dtype)

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the bound."""
        return self.worst <= self.bound

    def __str__(self) -> str:
        return (
            f"{self.part} of {self.model} in {self.dtype}: {self.where} is off by {self.worst:.1e}; "
            f"{self.bound:.0e} is allowed"
        )


class Training(NamedTuple):
    """What a course of training steps gave.

    Attributes:
        gradients: by parameter: the slot m after the first step, which is the gradient that it was made with,
            clipped, and times a number that is the optimiser's.
        losses: before the first step, and after each.
    """

    gradients: dict[str, FloatArray]
    losses: list[float]


def layers_of(backend: Backend, spec: ModelSpec, device: str) -> dict[str, FloatArray]:
    """Outputs and final states of a model's recurrent layers, from a state that is not zero."""
    learner = _learner(backend, spec, next(iter(TRAININGS)), device)
    inputs, state, _ = given(spec)
    outputs, final = backend.run_layers(learner.model, inputs, state)
    return {OUTPUTS: outputs, **{f"state {index}": part for index, part in enumerate(final)}}


def trained(backend: Backend, spec: ModelSpec, training: str, device: str) -> Training:
    """Training steps of a model, the state carried from batch to batch."""
    learner = _learner(backend, spec, training, device)
    state, losses = learner.initial_state(BATCH_SIZE), []
    gradients: dict[str, FloatArray] = {}
    for batch in given(spec).batches:
        result, state = learner.train_step(batch, state)
        losses.append(float(result.loss))
        gradients = gradients or _moments(learner, spec)
    return Training(gradients, losses)


def _learner(backend: Backend, spec: ModelSpec, training: str, device: str) -> Learner:
    model = backend.build(spec, check_parameters_of(spec))
    return backend.learner(model, TRAININGS[training], device=device)


def _moments(learner: Learner, spec: ModelSpec) -> dict[str, FloatArray]:
    slots = learner.export_optimizer_state()
    return {name: slots[slot_name("m", name)] for name in parameter_shapes(spec)}


class Judge:
    """The reference in float64; it computes each model once, for both types.

    Args:
        reference: the backend.
    """

    def __init__(self, reference: Backend) -> None:
        self._reference = reference
        self._layers: dict[ModelSpec, dict[str, FloatArray]] = {}
        self._trained: dict[tuple[ModelSpec, str], Training] = {}

    def layers(self, spec: ModelSpec) -> dict[str, FloatArray]:
        """See `layers_of`."""
        exact = replace(spec, dtype="float64")
        if exact not in self._layers:
            self._layers[exact] = layers_of(self._reference, exact, "cpu")
        return self._layers[exact]

    def trained(self, spec: ModelSpec, training: str) -> Training:
        """See the function of this name."""
        exact = replace(spec, dtype="float64")
        if (exact, training) not in self._trained:
            self._trained[exact, training] = trained(self._reference, exact, training, "cpu")
        return self._trained[exact, training]


def compare(backend: Backend, judge: Judge, task: Task, device: str) -> Iterator[Comparison]:
    """What one model gives on a device, part by part, against the reference.

    Args:
        backend: what is verified.
        judge: the reference.
        task: the model.
        device: the name of one of the backend's devices.
    """
    spec = task.spec
    expected_layers = judge.layers(spec)
    outputs = layers_of(backend, spec, device)
    units = dict.fromkeys(expected_layers, 1.0)
    yield _worst(task, OUTPUTS, {
        name: _difference(outputs.get(name), expected, units[name])
        for name, expected in expected_layers.items()
    })  # fmt: skip
    gradients: dict[str, float] = {}
    for training in task.trainings:
        expected_training = judge.trained(spec, training)
        found = trained(backend, spec, training, device)
        largest = max(float(np.abs(value).max()) for value in expected_training.gradients.values())
        gradients |= {
            name: _difference(found.gradients.get(name), expected, largest)
            for name, expected in expected_training.gradients.items()
        }
        yield _worst(task, training, {
            f"the loss after {step} steps": _difference(np.array(loss), np.array(expected), abs(expected))
            for step, (loss, expected) in enumerate(
                zip(found.losses, expected_training.losses, strict=True)
            )
        })  # fmt: skip
    if gradients:
        yield _worst(task, GRADIENTS, gradients)


def _worst(task: Task, part: str, differences: dict[str, float]) -> Comparison:
    where = max(differences, key=lambda name: differences[name])
    return Comparison(task.name, task.spec.dtype, part, differences[where], where)


def _difference(found: FloatArray | None, expected: FloatArray, unit: float) -> float:
    """The largest one; infinite where it is no number, or the shapes differ."""
    if found is None or found.shape != expected.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        worst = float(np.abs(found.astype(np.float64) - expected).max()) / unit
    return worst if np.isfinite(worst) else float("inf")
