"""Choosing for all rows of a batch at once: what each row's rule gives by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from d2lrnn.errors import SpecError
from d2lrnn.generation import RowChooser, Sampling, chooser

OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.8},
    {"temperature": 5e-324},
    {"temperature": 0.7, "top_k": 1},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 1.3, "top_k": 99},
    {"temperature": 1.2, "top_p": 0.9},
    {"temperature": 1.2, "top_p": 0.05},
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 2.0, "top_k": 7, "top_p": 0.6},
]
EVERYONE = np.arange(64, dtype=np.int32)


def _by_definition(
    logits: Any, random: Any, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None
) -> int:
    """One token: the likeliest ones in their order, the fewest of them that reach top_p, one by its share."""
    if temperature == 0:
        return int(np.argmax(logits))
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:top_k]
    with np.errstate(over="ignore"):
        shares = np.exp((logits[order].astype(np.float64) - logits[order[0]]) / temperature)
    sums = np.cumsum(shares)
    if top_p is not None:
        kept = next(number for number, sum_ in enumerate(sums) if sum_ >= top_p * sums[-1]) + 1
        order, sums = order[:kept], sums[:kept]
    drawn = random.random() * sums[-1]
    return order[next(number for number, sum_ in enumerate(sums) if sum_ > drawn)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_at_once_are_the_rows_one_by_one(options: dict[str, Any], dtype: Any) -> None:
    random = np.random.default_rng(5)
    steps = (3 * random.standard_normal((40, 64, 28))).astype(dtype)
    steps[::4] = np.round(steps[::4])  # with ties
    rows = RowChooser(Sampling(**options), range(64))
    together = np.array([rows(logits, EVERYONE) for logits in steps])
    assert rows(steps[0], EVERYONE).dtype == np.int32
    choosers = [chooser(seed=seed, **options) for seed in range(64)]
    np.testing.assert_array_equal(
        together, [[choose(row) for choose, row in zip(choosers, logits, strict=True)] for logits in steps]
    )
    draws = [np.random.default_rng(seed) for seed in range(64)]
    np.testing.assert_array_equal(
        together,
        [[_by_definition(row, draw, **options) for draw, row in zip(draws, logits, strict=True)]
         for logits in steps],
    )  # fmt: skip


def test_a_row_that_waits_draws_nothing() -> None:
    logits = np.random.default_rng(1).standard_normal((50, 3, 28)).astype(np.float32)
    choose, every = RowChooser(Sampling(1.0), [4, 5, 6]), np.arange(3, dtype=np.int32)
    late = np.array([0, 2], np.int32)
    for step in logits[:10]:
        choose(step[late], late)
    alone = chooser(temperature=1.0, seed=5)
    assert [choose(step, every)[1] for step in logits] == [alone(step[1]) for step in logits]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_what_is_not_allowed_might_as_well_not_be_there(options: dict[str, Any]) -> None:
    logits = np.random.default_rng(2).standard_normal((30, 64, 12)).astype(np.float32)
    allowed = np.array([0, 2, 3, 7, 8, 11], np.int32)
    logits[:, :, 5] = 50.0
    fewer, all_ = (RowChooser(Sampling(**options), range(64), some) for some in (allowed, None))
    for step in logits:
        np.testing.assert_array_equal(
            fewer(step, EVERYONE), allowed[all_(np.ascontiguousarray(step[:, allowed]), EVERYONE)]
        )


def test_a_rule_is_a_value() -> None:
    assert Sampling(0.5, seed=np.int64(3)) == Sampling(temperature=0.5, seed=3)
    with pytest.raises(SpecError, match="top_p is 2"):
        Sampling(0.5, top_p=2)
