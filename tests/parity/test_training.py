"""Fifty clipped steps against the float64 reference; and what a step may and may not touch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from parity.models import REPRESENTATIVE, built_here, drawn_batch, learners, name_of

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch
from d2lrnn.data.batches import SequentialPartitioning
from d2lrnn.data.corpus import load_corpus

NUM_STEPS, BATCH_SIZE, UPDATES = 32, 64, 50

TRAINED = [
    ModelSpec(28, "rnn", "scratch"),
    ModelSpec(28, "rnn", "scratch", num_layers=2),
    ModelSpec(28, "gru", "scratch"),
    ModelSpec(28, "lstm", "scratch"),
    ModelSpec(28, "rnn", "concise"),
    ModelSpec(28, "gru", "concise", num_layers=2),
    ModelSpec(28, "gru", "concise", num_layers=2, dropout=0.3),
    ModelSpec(28, "lstm", "concise"),
    ModelSpec(28, "lstm", "concise", num_layers=3, dropout=0.5),
    # In float64: a unit whose input is zero but for rounding is on in one run and off in the other.
    ModelSpec(28, "rnn-relu", "scratch", dtype="float64"),
    ModelSpec(28, "rnn-relu", "concise", num_layers=2, dtype="float64"),
    ModelSpec(28, "mgu", "scratch", num_layers=2, dropout=0.3),
    ModelSpec(28, "lstm", "scratch", embedding_size=12, input_dropout=0.2, output_dropout=0.4),
    ModelSpec(
        28,
        "gru",
        "concise",
        num_layers=2,
        dropout=0.3,
        embedding_size=32,
        tied=True,
        input_dropout=0.5,
        output_dropout=0.2,
    ),
]
TRAINED = [spec for spec in TRAINED if built_here(spec)]


def _batches(vocab_size: int) -> list[Batch]:
    corpus = load_corpus("sample")
    assert len(corpus.vocab) == vocab_size
    data = SequentialPartitioning(corpus, batch_size=BATCH_SIZE, num_steps=NUM_STEPS)
    batches: list[Batch] = []
    while len(batches) < UPDATES:
        batches += data.train_batches(len(batches))
    return batches[:UPDATES]


@pytest.mark.parametrize("carried", [True, False], ids=["carried", "fresh"])
@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: name_of(spec) + f"-{spec.dropout}")
def test_fifty_steps(backend: Backend, reference: Backend, spec: ModelSpec, carried: bool) -> None:
    # A norm that most gradients of these starts exceed; the test says so if it stops being true.
    training = TrainingSpec(learning_rate=1.0, clip=0.1, seed=3)
    learner, judge = learners(backend, reference, spec, training)
    state, judge_state = learner.initial_state(BATCH_SIZE), judge.initial_state(BATCH_SIZE)
    losses, expected, norms, expected_norms = [], [], [], []
    for batch in _batches(spec.vocab_size):
        if not carried:
            state, judge_state = learner.initial_state(BATCH_SIZE), judge.initial_state(BATCH_SIZE)
        result, state = learner.train_step(batch, state)
        judged, judge_state = judge.train_step(batch, judge_state)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
        expected.append(float(judged.loss))
        expected_norms.append(float(judged.grad_norm))
    assert sum(norm > 0.1 for norm in expected_norms) > UPDATES / 2, "most steps must be clipped"
    assert expected[-1] < expected[0] - 0.2, "nothing was learned"
    np.testing.assert_allclose(losses, expected, rtol=1e-9 if spec.dtype == "float64" else 1e-5)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-3)
    assert learner.step == UPDATES


@pytest.mark.parametrize("start", [0.3, 0.02], ids=["chaotic", "tame"])
def test_float64_follows_even_a_chaotic_start(backend: Backend, reference: Backend, start: float) -> None:
    """Started with standard deviation 0.3, float32 runs part by 1e-2 whatever the code; float64 must not."""
    spec = ModelSpec(28, "rnn", "scratch", dtype="float64")
    learner, judge = learners(backend, reference, spec, TrainingSpec(learning_rate=1.0, clip=0.1))
    random = np.random.default_rng(5)
    large = {k: random.normal(0, start, v.shape) for k, v in learner.export_parameters().items()}
    learner.import_parameters(large)
    judge.import_parameters(large)
    state, judge_state = learner.initial_state(BATCH_SIZE), judge.initial_state(BATCH_SIZE)
    for batch in _batches(28)[:20]:
        result, state = learner.train_step(batch, state)
        judged, judge_state = judge.train_step(batch, judge_state)
        assert float(result.loss) == pytest.approx(float(judged.loss), rel=1e-9)


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_one_step_is_the_formula(backend: Backend, reference: Backend, spec: ModelSpec) -> None:
    """p - lr · g · theta / max(|g|, theta), for every parameter, clipped and not."""
    batch = drawn_batch(spec, batch_size=4, num_steps=7)
    for theta in (0.01, 100.0, None):
        learner, _ = learners(backend, reference, spec, TrainingSpec(learning_rate=0.5, clip=theta))
        before = learner.export_parameters()
        loss, gradients = learner.gradients(batch, learner.initial_state(4))
        result, _ = learner.train_step(batch, learner.initial_state(4))
        norm = np.sqrt(sum(float((np.float64(g) ** 2).sum()) for g in gradients.values()))
        assert float(result.loss) == pytest.approx(loss, rel=1e-6)
        assert float(result.grad_norm) == pytest.approx(norm, rel=1e-5)
        scale = 1.0 if theta is None else theta / max(norm, theta)
        for name, value in learner.export_parameters().items():
            assert not np.array_equal(value, before[name]), f"{name} is not trained"
            expected = before[name] - 0.5 * scale * gradients[name]
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_nothing_passed_in_is_changed(backend: Backend, reference: Backend, spec: ModelSpec) -> None:
    learner, _ = learners(backend, reference, spec, TrainingSpec())
    batch = drawn_batch(spec, batch_size=3, num_steps=5)
    kept = Batch(batch.inputs.copy(), batch.targets.copy())
    _, state = learner.train_step(batch, learner.initial_state(3))
    exported = [part.copy() for part in learner.export_state(state)]
    assert any(part.any() for part in exported)
    learner.train_step(batch, state)
    learner.eval_step(batch, state)
    learner.predict_step(batch.inputs[:, 0].copy(), state)
    learner.gradients(batch, state)
    for part, kept_part in zip(learner.export_state(state), exported, strict=True):
        np.testing.assert_array_equal(part, kept_part)
    np.testing.assert_array_equal(batch.inputs, kept.inputs)
    np.testing.assert_array_equal(batch.targets, kept.targets)


def test_a_batch_may_be_overwritten_after_the_call(backend: Backend, reference: Backend) -> None:
    """A backend that works ahead must not still be reading the caller's arrays."""
    spec = ModelSpec(28, "rnn", "concise", 64)
    runs = []
    for overwrite in (False, True):
        learner, _ = learners(backend, reference, spec, TrainingSpec())
        inputs, targets = np.empty((2, BATCH_SIZE, NUM_STEPS), np.int32)
        results = []
        for batch in _batches(28)[:8]:
            inputs[:], targets[:] = batch
            result, _ = learner.train_step(Batch(inputs, targets), learner.initial_state(BATCH_SIZE))
            results.append(result)
            if overwrite:
                inputs[:], targets[:] = 0, 0
        runs.append([float(result.loss) for result in results])
    assert runs[0] == runs[1]


def test_two_runs_are_bit_identical(backend: Backend, reference: Backend) -> None:
    spec = ModelSpec(28, "gru", "concise", num_layers=2, dropout=0.2)
    runs = []
    for _ in range(2):
        learner, _ = learners(backend, reference, spec, TrainingSpec(seed=1))
        state = learner.initial_state(BATCH_SIZE)
        losses = []
        for batch in _batches(28)[:5]:
            result, state = learner.train_step(batch, state)
            losses.append(float(result.loss))
        runs.append(losses)
    assert runs[0] == runs[1]


def test_a_step_can_be_repeated_from_exported_values(backend: Backend, reference: Backend) -> None:
    spec = ModelSpec(28, "lstm", "concise", num_layers=2, dropout=0.4)
    learner, _ = learners(backend, reference, spec, TrainingSpec(seed=2))
    batches = _batches(28)
    _, state = learner.train_step(batches[0], learner.initial_state(BATCH_SIZE))
    parameters, arrays, step = learner.export_parameters(), learner.export_state(state), learner.step
    first, _ = learner.train_step(batches[1], state)
    fresh, _ = learners(backend, reference, spec, TrainingSpec(seed=2), seed=9)
    fresh.import_parameters(parameters)
    fresh.step = step
    second, _ = fresh.train_step(batches[1], fresh.import_state(arrays))
    assert float(first.loss) == float(second.loss)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exported_parameters_are_those_put_in(backend: Backend, reference: Backend, dtype: str) -> None:
    for kind in REPRESENTATIVE:
        spec = dataclasses.replace(kind, dtype=dtype)
        learner, judge = learners(backend, reference, spec, TrainingSpec())
        exported = learner.export_parameters()
        for name, value in judge.export_parameters().items():
            assert exported[name].dtype == np.dtype(dtype)
            assert exported[name].flags.c_contiguous
            np.testing.assert_array_equal(exported[name], value)
            exported[name] += 1
        learner.import_parameters(exported)
        for name, value in learner.export_parameters().items():
            np.testing.assert_array_equal(value, exported[name])
