"""The values that training starts from: each kind of parameter by the rule that its docstring gives."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np
import pytest

from d2lrnn import initial_parameters
from d2lrnn.contract.cells import CELLS, GRU, LSTM, Cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray

#: The standard deviation of the book.
SIGMA = 0.01

V, H = 60, 50
LAYERS = [cell for cell in CELLS.values() if cell.has_layer]


def _is_uniform(values: FloatArray, limit: float) -> bool:
    """Whether they fill ±limit: their largest, and their variance limit² / 3, say so."""
    near = abs(values.std() * sqrt(3) / limit - 1) < 0.3  # a bias has few values
    return bool(np.abs(values).max() <= limit and np.abs(values).max() > 0.9 * limit and near)


def _others(values: dict[str, FloatArray], *names: str) -> Iterator[tuple[str, FloatArray]]:
    assert set(names) <= set(values)
    return ((name, value) for name, value in values.items() if name not in names)


@pytest.mark.parametrize("cell", LAYERS, ids=lambda cell: cell.name)
def test_a_concise_model_begins_with_first_weights_of_the_variance_of_one(cell: Cell) -> None:
    spec = ModelSpec(V, cell.name, "concise", H, num_layers=2)
    values = initial_parameters(spec)
    assert _is_uniform(values["rnn.0.w_x"], sqrt(3))
    for name, value in _others(values, "rnn.0.w_x"):
        assert _is_uniform(value, 1 / sqrt(H)), name


@pytest.mark.parametrize("tied", [False, True])
def test_with_an_embedding_that_is_what_tokens_pick_rows_of(tied: bool) -> None:
    values = initial_parameters(ModelSpec(V, LSTM.name, "concise", H, embedding_size=H, tied=tied))
    assert _is_uniform(values["embedding.w"], 1 / sqrt(H) if tied else sqrt(3))
    for name, value in _others(values, "embedding.w"):
        assert _is_uniform(value, 1 / sqrt(H)), name


@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda cell: cell.name)
@pytest.mark.parametrize("embedding_size", [None, 20])
def test_a_scratch_model_begins_as_the_books(cell: Cell, embedding_size: int | None) -> None:
    values = initial_parameters(ModelSpec(V, cell.name, "scratch", H, 2, embedding_size=embedding_size))
    if embedding_size is not None:
        assert _is_uniform(values.pop("embedding.w"), sqrt(3))
    for name, value in values.items():
        if value.ndim == 2:
            assert abs(value.std() / SIGMA - 1) < 0.1, name
            assert np.abs(value).max() > 2.5 * SIGMA, f"{name} is not drawn from a normal distribution"
        else:
            assert not value.any(), name


def test_every_parameter_has_a_stream_of_its_own() -> None:
    """A further layer leaves the others as they were, and no two parameters are alike."""
    one = initial_parameters(ModelSpec(V, GRU.name, "concise", H, num_layers=2), seed=3)
    more = initial_parameters(ModelSpec(V, GRU.name, "concise", H, num_layers=3), seed=3)
    for name, value in one.items():
        np.testing.assert_array_equal(value, more[name])
    assert not np.array_equal(one["rnn.0.w_h"], one["rnn.1.w_h"])
    other = initial_parameters(ModelSpec(V, GRU.name, "concise", H, num_layers=2), seed=4)
    assert not np.array_equal(one["rnn.0.w_h"], other["rnn.0.w_h"])


def test_both_precisions_begin_at_one_point() -> None:
    single = initial_parameters(ModelSpec(V, LSTM.name, "concise", H))
    double = initial_parameters(ModelSpec(V, LSTM.name, "concise", H, dtype="float64"))
    for name, value in double.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, single[name])
