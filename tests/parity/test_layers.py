"""Outputs and final states of every model against the float64 reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity.models import KINDS, drawn_parameters, name_of, resized

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec

TOLERANCE = {"float32": 1e-6, "float64": 1e-9}


def _compare(
    backend: Backend, reference: Backend, spec: ModelSpec, batch_size: int, num_steps: int, seed: int
) -> None:
    parameters = drawn_parameters(spec, seed)
    model = backend.build(spec, parameters)
    judge = reference.build(dataclasses.replace(spec, dtype="float64"), parameters)
    inputs = np.random.default_rng(seed).uniform(-1, 1, (num_steps, batch_size, spec.num_inputs))
    inputs = inputs.astype(np.float32).astype(spec.dtype)
    kept = inputs.copy()

    outputs, state = backend.run_layers(model, inputs)
    expected, expected_state = reference.run_layers(judge, inputs.astype(np.float64))
    assert outputs.dtype == np.dtype(spec.dtype)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE[spec.dtype])
    assert len(state) == len(expected_state) == spec.num_states
    for part, expected_part in zip(state, expected_state, strict=True):
        assert part.shape == (spec.num_layers, batch_size, spec.num_hiddens)
        np.testing.assert_allclose(part, expected_part, rtol=0, atol=TOLERANCE[spec.dtype])
    # The last output of the top layer is its final hidden state.
    np.testing.assert_array_equal(outputs[-1], state[0][-1])

    # The state goes back in, whatever the batch size, and neither it nor the inputs are changed.
    kept_state = [part.copy() for part in state]
    again, _ = backend.run_layers(model, inputs, state)
    expected_again, _ = reference.run_layers(judge, inputs.astype(np.float64), expected_state)
    np.testing.assert_allclose(again, expected_again, rtol=0, atol=TOLERANCE[spec.dtype])
    np.testing.assert_array_equal(inputs, kept)
    for part, kept_part in zip(state, kept_state, strict=True):
        np.testing.assert_array_equal(part, kept_part)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_outputs_and_states(backend: Backend, reference: Backend, spec: ModelSpec, dtype: str) -> None:
    _compare(backend, reference, dataclasses.replace(spec, dtype=dtype), batch_size=3, num_steps=9, seed=1)


specs = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(
        lambda num_hiddens, **sizes: dataclasses.replace(resized(kind, num_hiddens), **sizes),
        num_hiddens=st.integers(1, 24),
        vocab_size=st.integers(1, 30),
        num_layers=st.integers(1, 3),
    )
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(spec=specs, batch_size=st.integers(1, 6), num_steps=st.integers(1, 12), seed=st.integers(0, 99))
def test_any_shape(
    backend: Backend, reference: Backend, spec: ModelSpec, batch_size: int, num_steps: int, seed: int
) -> None:
    _compare(backend, reference, spec, batch_size, num_steps, seed)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_further_layer_is_fed_by_the_one_below(backend: Backend, cell: str) -> None:
    """With a second layer of zero weights, what layers above it see is constant: the input cannot matter."""
    spec = ModelSpec(5, cell, "concise", 4, num_layers=3)  # type: ignore[arg-type]
    parameters = drawn_parameters(spec)
    for name in parameters:
        if name.startswith("rnn.1."):
            parameters[name] = np.zeros_like(parameters[name])
    model = backend.build(spec, parameters)
    random = np.random.default_rng(0)
    one, _ = backend.run_layers(model, random.normal(size=(6, 2, 5)).astype(np.float32))
    two, _ = backend.run_layers(model, random.normal(size=(6, 2, 5)).astype(np.float32))
    np.testing.assert_array_equal(one, two)


def test_scratch_and_concise_are_one_function(backend: Backend) -> None:
    for cell in ("rnn", "gru", "lstm"):
        concise = ModelSpec(7, cell, "concise", 6, num_layers=2)  # type: ignore[arg-type]
        scratch = dataclasses.replace(concise, implementation="scratch")
        parameters = drawn_parameters(concise)
        inputs = np.random.default_rng(2).normal(size=(8, 3, 7)).astype(np.float32)
        one, _ = backend.run_layers(backend.build(concise, parameters), inputs)
        two, _ = backend.run_layers(backend.build(scratch, parameters), inputs)
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
