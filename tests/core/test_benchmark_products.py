"""The products of a training step, counted in two ways."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from d2lrnn.benchmark.products import factors, multiply_adds, shapes
from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray

SPECS = [ModelSpec(11, cell, "scratch", 6, layers) for cell in CELLS for layers in (1, 3)]
SPECS.append(ModelSpec(11, "lstm", "concise", 6, 2, embedding_size=7))


@pytest.mark.parametrize(
    "spec", SPECS, ids=lambda spec: f"{spec.cell}-{spec.num_layers}-{spec.embedding_size}"
)
def test_the_shapes_are_as_many_multiply_adds_as_the_formula_says(spec: ModelSpec) -> None:
    assert sum(m * k * n for m, k, n in shapes(spec, 4, 5)) == multiply_adds(spec, 4, 5)


def test_an_embedding_is_three_products_more() -> None:
    """Inputs, their weights' gradient, and the gradient of the rows."""
    one_hot = ModelSpec(11, "lstm", "concise", 6)
    embedded = ModelSpec(11, "lstm", "concise", 6, embedding_size=7)
    more = Counter(shapes(embedded, 4, 5)) - Counter(shapes(one_hot, 4, 5))
    assert more == Counter([(20, 7, 24), (7, 20, 24), (20, 24, 7)])
    assert not Counter(shapes(one_hot, 4, 5)) - Counter(shapes(embedded, 4, 5))


def test_factors_fit_and_time_steps_share_them() -> None:
    spec = ModelSpec(11, "gru", "scratch", 6, 2)
    rows: list[int] = []

    def right(array: FloatArray, m: int) -> FloatArray:
        rows.append(m)
        return array

    pairs = factors(spec, 4, 5, lambda array: array, right)
    assert [(len(a), *b.shape) for a, b in pairs] == list(shapes(spec, 4, 5))
    assert all(a.shape[1] == len(b) and a.dtype == b.dtype == np.float32 for a, b in pairs)
    # Gates and candidate of the first two steps.
    assert pairs[0][1] is pairs[2][1]
    assert pairs[1][1] is pairs[3][1]
    assert len(rows) == len(set(shapes(spec, 4, 5)))
