"""A vocabulary of words, where backends compute the loss in other ways than at one of characters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from parity.models import built_here, drawn_batch, learners, name_of

from d2lrnn.contract.optimizers import SGD, Adam, Optimizer
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}

#: More words and rows than go into one block of any backend.
WORDS, BATCH_SIZE, NUM_STEPS = 3000, 24, 20

MODELS = [
    spec
    for spec in (
        ModelSpec(WORDS, "lstm", "concise", 8, num_layers=2, embedding_size=5),
        ModelSpec(WORDS, "lstm", "scratch", 8, embedding_size=5),
        ModelSpec(WORDS, "gru", "concise", 8, embedding_size=8, tied=True),
        ModelSpec(WORDS, "rnn", "scratch", 8, embedding_size=8, tied=True),
        ModelSpec(WORDS, "rnn", "concise", 8),
    )
    if built_here(spec)
]


def _batch(spec: ModelSpec, seed: int = 0) -> Batch:
    """Frequent words and rare ones, most of all not there; the end of some rows is padding."""
    batch = drawn_batch(spec, BATCH_SIZE, NUM_STEPS, seed)
    inputs = np.where(batch.inputs < WORDS // 2, batch.inputs % 7, batch.inputs).astype(np.int32)
    targets = batch.targets.copy()
    inputs[5:9, 11:], targets[5:9, 11:] = 0, PADDING
    return Batch(inputs, targets)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_loss_and_gradients(backend: Backend, reference: Backend, spec: ModelSpec, dtype: str) -> None:
    spec, tolerance = dataclasses.replace(spec, dtype=dtype), TOLERANCE[dtype]
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    batch = _batch(spec)
    loss, gradients = learner.gradients(batch, learner.initial_state(BATCH_SIZE))
    expected_loss, expected = judge.gradients(batch, judge.initial_state(BATCH_SIZE))
    evaluated, _ = learner.eval_step(batch, learner.initial_state(BATCH_SIZE))
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    assert float(evaluated) == pytest.approx(expected_loss, rel=tolerance)
    assert list(gradients) == list(expected)
    largest = max(float(np.abs(value).max()) for value in expected.values())
    for name, value in gradients.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance * largest, err_msg=name)
    if not spec.tied and spec.embedding_size:
        absent = np.setdiff1d(np.arange(WORDS), batch.inputs)
        assert len(absent) > WORDS / 2
        assert not gradients["embedding.w"][absent].any()


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9, weight_decay=0.01), Adam()], ids=str)
@pytest.mark.parametrize("spec", MODELS[::2], ids=name_of)
def test_steps(backend: Backend, reference: Backend, spec: ModelSpec, optimizer: Optimizer) -> None:
    """Rows that do not occur move by momentum and decay, as in any other parameter; the norm is of all."""
    rate = 0.01 if optimizer.name == Adam.name else 1.0
    training = TrainingSpec(rate, clip=0.05, optimizer=optimizer)
    learner, judge = learners(backend, reference, dataclasses.replace(spec, dtype="float64"), training)
    for seed in range(4):
        batch = _batch(spec, seed)
        result, _ = learner.train_step(batch, learner.initial_state(BATCH_SIZE))
        expected, _ = judge.train_step(batch, judge.initial_state(BATCH_SIZE))
        assert float(result.loss) == pytest.approx(float(expected.loss), rel=1e-9)
        assert float(result.grad_norm) == pytest.approx(float(expected.grad_norm), rel=1e-9)
    right = judge.export_parameters()
    for name, value in learner.export_parameters().items():
        np.testing.assert_allclose(value, right[name], rtol=0, atol=1e-9, err_msg=name)
