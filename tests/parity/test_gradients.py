"""The loss and the gradient of every parameter against the float64 reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from parity.models import KINDS, REPRESENTATIVE, drawn_batch, learners, name_of, resized

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_gradient_of_every_parameter(
    backend: Backend, reference: Backend, spec: ModelSpec, dtype: str
) -> None:
    _compare(backend, reference, dataclasses.replace(spec, dtype=dtype), batch_size=4, num_steps=10)


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_wide_layers(backend: Backend, reference: Backend, spec: ModelSpec) -> None:
    """Backends may multiply large matrices in other ways than small ones."""
    _compare(backend, reference, resized(spec, 192), batch_size=48, num_steps=5)


def _compare(backend: Backend, reference: Backend, spec: ModelSpec, batch_size: int, num_steps: int) -> None:
    tolerance = TOLERANCE[spec.dtype]
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    batch = drawn_batch(spec, batch_size, num_steps)
    # From a state that is not zero, so that the first step's recurrent product counts.
    _, state = learner.eval_step(batch, learner.initial_state(batch_size))
    _, judge_state = judge.eval_step(batch, judge.initial_state(batch_size))

    before = learner.export_parameters()
    loss, gradients = learner.gradients(batch, state)
    expected_loss, expected = judge.gradients(batch, judge_state)
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    assert list(gradients) == list(expected)
    largest = max(float(np.abs(value).max()) for value in expected.values())
    for name, value in gradients.items():
        assert np.abs(expected[name]).max() > 0, f"{name} is not trained"
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance * largest, err_msg=name)
    for name, value in learner.export_parameters().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_padding_counts_for_nothing(backend: Backend, reference: Backend, spec: ModelSpec) -> None:
    learner, _ = learners(backend, reference, spec, TrainingSpec())
    batch = drawn_batch(spec, batch_size=5, num_steps=6)
    inputs, targets = batch.inputs.copy(), batch.targets.copy()
    inputs[3:], targets[3:] = 0, PADDING
    padded = Batch(inputs, targets)
    short = Batch(inputs[:3].copy(), targets[:3].copy())
    loss, gradients = learner.gradients(padded, learner.initial_state(5))
    expected_loss, expected = learner.gradients(short, learner.initial_state(3))
    assert padded.num_tokens == 18
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, value in gradients.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-7, err_msg=name)
    evaluated, _ = learner.eval_step(padded, learner.initial_state(5))
    assert float(evaluated) == pytest.approx(loss, rel=1e-6)
