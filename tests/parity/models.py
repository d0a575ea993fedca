"""The models that the parity tests compare, and how a pair of them is made."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

import d2lrnn
from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray

#: Every function that the library can compute, in each implementation that it has, small.
_ALL = [
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
    ModelSpec(11, "rnn-relu", "scratch", 8, num_layers=2),
    ModelSpec(11, "rnn-relu", "concise", 8, num_layers=2),
    ModelSpec(11, "mgu", "scratch", 8),
    ModelSpec(11, "mgu", "scratch", 8, num_layers=2),
    ModelSpec(11, "gru", "scratch", 8, embedding_size=5),
    ModelSpec(11, "lstm", "concise", 8, num_layers=2, embedding_size=5),
    ModelSpec(11, "rnn", "scratch", 8, num_layers=2, embedding_size=8, tied=True),
    ModelSpec(11, "gru", "concise", 8, embedding_size=8, tied=True),
]

#: Where the learners under test compute; `benchmarks/gpu.py` asks for a GPU.
DEVICE = os.environ.get("D2LRNN_TEST_DEVICE", "cpu")

BACKEND = d2lrnn.backend(os.environ.get("D2LRNN_BACKEND"))


def built_here(spec: ModelSpec) -> bool:
    """Whether the backend under test has the model: one of another package may have few cells."""
    return spec.cell in BACKEND.cells(spec.implementation)


#: Cells that other packages bring, in both of the ways in which a cell can stand in a model.
_OF_OTHERS = [
    ModelSpec(11, name, "scratch", 8, num_layers)
    for name in BACKEND.cells("scratch")
    if name not in CELLS
    for num_layers in (1, 2)
]

KINDS = [spec for spec in [*_ALL, *_OF_OTHERS] if built_here(spec)]

#: One model of each kind of layer, for tests whose subject is not the number of layers.
REPRESENTATIVE = [
    spec
    for spec in [*(_ALL[index] for index in (0, 1, 3, 6, 9, 11, 14, 16, 17, 19, 21, 22)), *_OF_OTHERS[::2]]
    if built_here(spec)
]


def name_of(spec: ModelSpec) -> str:
    reset = "" if spec.reset_after is None else ("-after" if spec.reset_after else "-before")
    head = "-tied" if spec.tied else ""
    embedding = f"-embedding{head}" if spec.embedding_size else ""
    return f"{spec.implementation}-{spec.cell}{reset}-{spec.num_layers}{embedding}"


def resized(spec: ModelSpec, num_hiddens: int) -> ModelSpec:
    """The same model of another size; a tied embedding goes with it."""
    embedding = num_hiddens if spec.tied else spec.embedding_size
    return dataclasses.replace(spec, num_hiddens=num_hiddens, embedding_size=embedding)


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
    """The same model on the backend, in `spec.dtype` on `DEVICE`, and on the reference, in float64."""
    parameters = drawn_parameters(spec, seed)
    exact = dataclasses.replace(spec, dtype="float64")
    return (
        backend.learner(backend.build(spec, parameters), training, device=DEVICE),
        reference.learner(reference.build(exact, parameters), training),
    )
