"""The reference's hand-derived gradients against central finite differences in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from d2lrnn_numpy.adapter import LanguageModel
from d2lrnn_numpy.formulas import find_formula
from d2lrnn_numpy.layer import sum_rows_by_token
from d2lrnn_numpy.recurrence import FAST, StepRecurrence, rows_apart
from parity.models import KINDS, drawn_batch, drawn_parameters, name_of, resized

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import PADDING, Batch
from d2lrnn.training.initialization import initial_parameters


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_every_gradient(spec: ModelSpec, masked: bool) -> None:
    spec = dataclasses.replace(resized(spec, 4), vocab_size=5, dtype="float64")
    model = LanguageModel(spec, drawn_parameters(spec))
    inputs, targets = (part.copy() for part in drawn_batch(spec, batch_size=3, num_steps=4))
    targets[2, 1:] = PADDING
    batch = Batch(inputs, targets)
    random = np.random.default_rng(0)
    state = tuple(random.normal(size=part.shape) for part in model.rnn.initial_state(3))
    masks: DropoutMasks | None = None
    if masked:
        shapes = (4, 3, spec.embedding_size), (spec.num_layers - 1, 4, 3, 4), (4, 3, 4)
        drawn = [2.0 * random.integers(0, 2, shape) if all(shape) else None for shape in shapes]
        masks = DropoutMasks(*drawn)

    model.loss(*batch, state, masks)
    gradients = {name: value.copy() for name, value in model.backward().items()}
    epsilon = 1e-6
    for name, parameter in model.parameters().items():
        numeric = np.empty_like(parameter)
        for index in np.ndindex(*parameter.shape):
            kept = parameter[index]
            parameter[index] = kept + epsilon
            above, _ = model.loss(*batch, state, masks)
            parameter[index] = kept - epsilon
            below, _ = model.loss(*batch, state, masks)
            parameter[index] = kept
            numeric[index] = (above - below) / (2 * epsilon)
        np.testing.assert_allclose(gradients[name], numeric, rtol=0, atol=1e-8, err_msg=name)


def test_the_loss_is_the_negative_log_likelihood() -> None:
    spec = ModelSpec(5, "rnn", "scratch", 4, dtype="float64")
    model = LanguageModel(spec, drawn_parameters(spec))
    batch = drawn_batch(spec, batch_size=2, num_steps=3)
    logits = model(batch.inputs)
    likelihoods = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    expected = -np.mean([np.log(likelihoods[b, t, batch.targets[b, t]]) for b in range(2) for t in range(3)])
    assert model.loss(*batch)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("vocab_size", [28, 5000])
def test_rows_are_summed_by_token(vocab_size: int) -> None:
    """Small vocabularies go by a one-hot product, large ones by sorting."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, vocab_size, 600).astype(np.int32)
    rows = random.normal(size=(600, 3))
    expected = np.zeros((vocab_size, 3))
    np.add.at(expected, tokens, rows)
    np.testing.assert_allclose(sum_rows_by_token(tokens, rows, vocab_size), expected, atol=1e-12)


def test_rows_apart_are_the_same_numbers_with_gaps_between_the_rows() -> None:
    w = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    apart = rows_apart(w, 2)
    assert np.array_equal(apart, w)
    assert not np.shares_memory(apart, w)
    assert apart.strides == (w.strides[0] + 64, w.strides[1])
    assert rows_apart(w, 1) is w  # a copy would take longer than the one product


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("name", FAST)
def test_what_is_fast_is_the_formula(name: str, reset_after: bool, batch_size: int) -> None:
    """Outputs, final state and every gradient: the recurrence of all steps against the plain one."""
    cell, random = find_cell(name), np.random.default_rng(1)
    h, num_steps = 6, 5
    shapes = cell.shapes(3, h, reset_after=reset_after)
    weights = {n: random.normal(size=shape) for n, shape in shapes.items() if n not in ("w_x", "b")}
    projected = random.normal(size=(num_steps, batch_size, shapes["b"][0]))
    state = tuple(random.normal(size=(batch_size, h)) for _ in cell.states)
    d_outputs = random.normal(size=(num_steps, batch_size, h))
    results = []
    for recurrence in (FAST[name](reset_after), StepRecurrence(find_formula(name))):
        outputs, final = recurrence.forward(projected.copy(), weights, state)
        kept = outputs.copy()
        d_projected, gradients = recurrence.backward(d_outputs.copy())
        assert set(gradients) == set(weights)
        results.append([kept, *final, d_projected, *(gradients[n] for n in weights)])
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-12)


def test_large_batches_in_float32() -> None:
    """A sum of 32,768 rows, one after the other, would be 2e-4 off."""
    spec = ModelSpec(28, "rnn", "scratch", 8)
    batch, gradients = drawn_batch(spec, batch_size=1024, num_steps=32), []
    for dtype in ("float32", "float64"):
        # As a training begins, where all tokens are as likely: equal numbers are rounded to the same side.
        model = LanguageModel(dataclasses.replace(spec, dtype=dtype), initial_parameters(spec))
        model.loss(*batch)
        gradients.append(model.backward())
    got, exact = gradients
    for name, value in exact.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5 * abs(value).max(), err_msg=name)
