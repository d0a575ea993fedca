"""Optimisers as values: what they hold and refuse, and the reference's formulas in closed form."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from d2lrnn_numpy.optimizers import STEPS

from d2lrnn.contract.optimizers import (
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    find_optimizer,
    slot_shapes,
)
from d2lrnn.errors import SpecError


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (SGD, {"momentum": 1.0}, "momentum of sgd is 1.0: it must be at least 0 and below 1"),
        (SGD, {"nesterov": True}, "Nesterov's momentum needs a momentum above 0"),
        (Adam, {"beta2": -0.1}, "beta2 of adam is -0.1"),
        (Adam, {"epsilon": float("nan")}, "epsilon of adam is nan: it must be at least 0 and finite"),
        (AdamW, {"weight_decay": float("inf")}, "weight decay of adamw is inf"),
        (RMSprop, {"alpha": 1.5}, "alpha of rmsprop is 1.5"),
    ],
)
def test_values_out_of_range(make: type[Optimizer], values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(**values)


def test_an_unknown_name() -> None:
    with pytest.raises(SpecError, match="unknown optimizer 'lion': choose one of sgd, adam, adamw, rms"):
        find_optimizer("lion")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_way_through_json(name: str) -> None:
    optimizer = OPTIMIZERS[name](weight_decay=0.25)
    data = optimizer.to_json()
    assert OPTIMIZERS[data.pop("name")](**data) == optimizer
    assert optimizer.default_rate > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        optimizer.weight_decay = 1.0  # type: ignore[misc]


def test_slots() -> None:
    assert SGD().slots == ()
    assert RMSprop().slots == ("v",)
    assert RMSprop(momentum=0.5).slots == ("v", "m")
    assert list(slot_shapes(Adam(), {"head.b": (3,)})) == ["optimizer.m.head.b", "optimizer.v.head.b"]


def _steps(optimizer: Optimizer, gradients: list[float], rate: float, p: float = 2.0) -> float:
    """The values of one parameter over several steps."""
    parameter = np.array([p])
    slots = {slot: np.zeros(1) for slot in optimizer.slots}
    for t, g in enumerate(gradients, start=1):
        STEPS[optimizer.name](optimizer, parameter, np.array([g]), slots, rate, t)
    return float(parameter[0])


def test_momentum_of_a_constant_gradient() -> None:
    """m after t steps is (1 - μᵗ) / (1 - μ) · g; Nesterov's looks one step ahead."""
    expected = 2.0 - 0.1 * 3.0 * sum((1 - 0.5**t) / 0.5 for t in (1, 2, 3))
    assert _steps(SGD(momentum=0.5), [3.0] * 3, 0.1) == pytest.approx(expected, rel=1e-12)
    ahead = 2.0 - 0.1 * 3.0 * sum((1 - 0.5 ** (t + 1)) / 0.5 for t in (1, 2, 3))
    assert _steps(SGD(momentum=0.5, nesterov=True), [3.0] * 3, 0.1) == pytest.approx(ahead, rel=1e-12)


def test_adam_of_a_constant_gradient_moves_by_the_rate() -> None:
    """Both corrected moments are g and g² at every step, so that a step is η · g / (|g| + ε)."""
    for g in (3.0, -0.001):
        expected = 2.0 - 4 * 0.1 * g / (abs(g) + 1e-3)
        assert _steps(Adam(epsilon=1e-3), [g] * 4, 0.1) == pytest.approx(expected, rel=1e-12)


def test_weight_decay_is_coupled_in_adam_and_decoupled_in_adamw() -> None:
    """Without a gradient: Adam moves by the whole rate, AdamW shrinks by the factor 1 - η λ."""
    assert _steps(Adam(weight_decay=0.5, epsilon=0.0), [0.0], 0.1) == pytest.approx(1.9, rel=1e-12)
    assert _steps(AdamW(weight_decay=0.5), [0.0], 0.1) == pytest.approx(2.0 * (1 - 0.05), rel=1e-12)
    assert _steps(SGD(weight_decay=0.5), [0.0], 0.1) == pytest.approx(2.0 * (1 - 0.05), rel=1e-12)


def test_rmsprop_of_one_gradient() -> None:
    first = 3.0 / (np.sqrt(0.1 * 9.0) + 1e-3)
    assert _steps(RMSprop(alpha=0.9, epsilon=1e-3), [3.0], 0.1) == pytest.approx(2 - 0.1 * first, rel=1e-12)
    second = 3.0 / (np.sqrt(0.19 * 9.0) + 1e-3)
    expected = 2 - 0.1 * first - 0.1 * (0.5 * first + second)
    optimizer = RMSprop(alpha=0.9, epsilon=1e-3, momentum=0.5)
    assert _steps(optimizer, [3.0, 3.0], 0.1) == pytest.approx(expected, rel=1e-12)


def test_adagrad_of_a_constant_gradient_slows_down_as_the_root_of_time() -> None:
    expected = 2.0 - 0.1 * sum(1 / np.sqrt(t) for t in (1, 2, 3, 4))
    assert _steps(Adagrad(epsilon=0.0), [7.0] * 4, 0.1) == pytest.approx(expected, rel=1e-12)
