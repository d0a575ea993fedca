"""Several workers come to the numbers of one: those of the float64 reference on the whole batch."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workers.cases import CLIP, Case, cases
from workers.worker_of_cases import trained

import d2lrnn
from d2lrnn.workers.supervisor import Outcome

#: Of all steps, and of the first: there nothing has added up.
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
FIRST_TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


@pytest.mark.parametrize(
    ("size", "dtype", "some"),
    [
        # Of the cells, the iterators and what else there is: each kind with one of them.
        (2, "float32", slice(6, None, 8)),
        (3, "float64", slice(11, 12)),
        pytest.param(2, "float64", slice(None), marks=pytest.mark.slow),
        pytest.param(3, "float32", slice(None), marks=pytest.mark.slow),
    ],
)
def test_many_are_one(
    size: int, dtype: str, some: slice, start: Callable[..., Outcome], tmp_path: Path
) -> None:
    chosen = list(cases(dtype))[some]
    (tmp_path / "cases").write_bytes(pickle.dumps(chosen))
    outcome = start("workers.worker_of_cases", size, {"folder": str(tmp_path)})
    assert outcome.code == 0, (outcome.message, *outcome.detail)
    every_worker = [pickle.loads((tmp_path / f"results-{rank}").read_bytes()) for rank in range(size)]
    for case in chosen:
        first, *others = (each[case.name] for each in every_worker)
        for other in others:
            _assert_same_bits(first, other)
        _compare(case, first)


def _assert_same_bits(first: Any, other: Any) -> None:
    """Whatever worker is asked: there is one run."""
    if isinstance(first, dict):
        assert first.keys() == other.keys()
        for key in first:
            _assert_same_bits(first[key], other[key])
    elif isinstance(first, (list, tuple)):
        for one, two in zip(first, other, strict=True):
            _assert_same_bits(one, two)
    else:
        np.testing.assert_array_equal(first, other)


def _compare(case: Case, got: dict[str, Any]) -> None:
    exact = replace(case, spec=replace(case.spec, dtype="float64"))
    expected = trained(exact, d2lrnn.backend("numpy"))
    tolerance, first = TOLERANCE[case.spec.dtype], FIRST_TOLERANCE[case.spec.dtype]
    clipped = sum(norm > CLIP for norm in expected["norms"])
    assert clipped > 25, f"{case.name}: most steps must be clipped, not {clipped}"
    near = np.testing.assert_allclose
    near(got["losses"][0], expected["losses"][0], rtol=first, err_msg=case.name)
    near(got["norms"][0], expected["norms"][0], rtol=first, err_msg=case.name)
    near(got["losses"], expected["losses"], rtol=tolerance, err_msg=case.name)
    near(got["norms"], expected["norms"], rtol=100 * tolerance, err_msg=case.name)
    near(got["validation"], expected["validation"], rtol=tolerance, err_msg=case.name)
    assert got["gradients"][0] == pytest.approx(expected["gradients"][0], rel=first)
    for name, gradient in expected["gradients"][1].items():
        near(got["gradients"][1][name], gradient, rtol=0, atol=first * max(1.0, abs(gradient).max()))
    for what in ("parameters", "optimizer state"):
        for name, value in expected[what].items():
            scale = max(1.0, float(abs(value).max()))
            near(got[what][name], value, rtol=0, atol=10 * tolerance * scale, err_msg=f"{case.name} {name}")
    for what in ("state", "state after validation"):
        near(got[what], expected[what], rtol=0, atol=10 * tolerance, err_msg=f"{case.name} {what}")
    assert got["step"] == expected["step"] == len(case.batches)
