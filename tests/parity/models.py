"""The models that the parity tests compare, and how a pair of them is made."""

from __future__ import annotations

import dataclasses

import numpy as np

from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray

#: Every function that the library can compute, in each implementation that it has, small.
KINDS = [
    ModelSpec(11, "rnn", "scratch", 8),
    ModelSpec(11, "rnn", "scratch", 8, num_layers=2),
    ModelSpec(11, "rnn", "scratch", 8, num_layers=3),
    ModelSpec(11, "gru", "scratch", 8),
    ModelSpec(11, "gru", "scratch", 8, num_layers=2),
    ModelSpec(11, "gru", "scratch", 8, reset_after=True),
    ModelSpec(11, "lstm", "scratch", 8),
    ModelSpec(11, "lstm", "scratch", 8, num_layers=2),
    ModelSpec(11, "rnn", "concise", 8),
    ModelSpec(11, "rnn", "concise", 8, num_layers=3),
    ModelSpec(11, "gru", "concise", 8),
    ModelSpec(11, "gru", "concise", 8, num_layers=2),
    ModelSpec(11, "gru", "concise", 8, num_layers=3),
    ModelSpec(11, "lstm", "concise", 8),
    ModelSpec(11, "lstm", "concise", 8, num_layers=2),
    ModelSpec(11, "lstm", "concise", 8, num_layers=3),
]

#: One model of each kind of layer, for tests whose subject is not the number of layers.
REPRESENTATIVE = [KINDS[0], KINDS[1], KINDS[3], KINDS[6], KINDS[9], KINDS[11], KINDS[14]]


def name_of(spec: ModelSpec) -> str:
    reset = "" if spec.reset_after is None else ("-after" if spec.reset_after else "-before")
    return f"{spec.implementation}-{spec.cell}{reset}-{spec.num_layers}"


def drawn_parameters(spec: ModelSpec, seed: int = 0) -> dict[str, FloatArray]:
    """Uniform in ±1/sqrt(h), biases too: no parameter is zero, and recurrences contract."""
    random = np.random.default_rng(seed)
    bound = spec.num_hiddens**-0.5
    return {
        name: random.uniform(-bound, bound, shape).astype(np.float32).astype(spec.dtype)
        for name, shape in parameter_shapes(spec).items()
    }


def drawn_batch(spec: ModelSpec, batch_size: int, num_steps: int, seed: int = 0) -> Batch:
    tokens = np.random.default_rng(seed).integers(0, spec.vocab_size, (batch_size, num_steps + 1))
    tokens = tokens.astype(np.int32)
    return Batch(np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:]))


def learners(
    backend: Backend, reference: Backend, spec: ModelSpec, training: TrainingSpec, seed: int = 0
) -> tuple[Learner, Learner]:
    """The same model twice: on the backend in `spec.dtype`, and on the reference in float64."""
    parameters = drawn_parameters(spec, seed)
    exact = dataclasses.replace(spec, dtype="float64")
    return (
        backend.learner(backend.build(spec, parameters), training, device="cpu"),
        reference.learner(reference.build(exact, parameters), training),
    )
