"""Layers of the NumPy tab, copied and pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from d2lrnn import numpy as d2l

LAYERS = [
    lambda: d2l.RNN(40, 32),
    lambda: d2l.GRU(40, 32, num_layers=2),
    lambda: d2l.LSTM(40, 32),
    lambda: d2l.ReluRNN(40, 32),
    lambda: d2l.GRUScratch(40, 32, reset_after=True),
    lambda: d2l.MGUScratch(40, 32),
]


@pytest.mark.parametrize("make", LAYERS)
def test_a_layer_that_has_computed_has_no_more_than_its_parameters(make: Callable[[], Any]) -> None:
    layer = make()
    inputs = np.random.default_rng(0).normal(size=(30, 20, 40)).astype(np.float32)
    outputs, _ = layer(inputs)
    expected = outputs.copy()
    _, gradients = layer.backward(np.ones_like(expected))
    size = sum(value.nbytes for value in layer.parameters().values())
    assert len(pickle.dumps(layer)) < size + 2048
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer)
        np.testing.assert_array_equal(other(inputs)[0], expected)
        for name, gradient in other.backward(np.ones_like(expected))[1].items():
            np.testing.assert_array_equal(gradient, gradients[name])
        for name, value in other.parameters().items():
            assert not np.shares_memory(value, layer.parameters()[name])


def test_a_tied_weight_stays_a_view_of_the_embedding() -> None:
    model = d2l.RNNLMScratch(d2l.RNNScratch(8, 8), 20)
    model.embedding, model.tied = np.ones((20, 8), np.float32), True
    model.w = model.embedding.T
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.shares_memory(other.w, other.embedding)
        np.testing.assert_array_equal(other(np.zeros((1, 2), int)), model(np.zeros((1, 2), int)))
