"""Schedules: what they hold and refuse, and what torch's schedulers say in closed form."""

from __future__ import annotations

from typing import Any

import pytest

from d2lrnn.errors import SpecError
from d2lrnn.training.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Exponential,
    Plateau,
    StepDecay,
    find_schedule,
)


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (Constant, {"warmup": -1}, "warmup of the constant schedule is -1: it must be 0 or above"),
        (Cosine, {"steps": 5, "warmup": 5}, "steps of the cosine schedule is 5: it must be more than"),
        (Cosine, {"final": 1.5}, "final of the cosine schedule is 1.5"),
        (StepDecay, {"every": 0}, "every of the step schedule is 0"),
        (Exponential, {"gamma": 0.0}, "gamma of the exponential schedule is 0.0"),
        (Plateau, {"patience": -1}, "patience of the plateau schedule is -1"),
        (Plateau, {"threshold": 1.0}, "threshold of the plateau schedule is 1.0"),
    ],
)
def test_values_out_of_range(make: type[Constant], values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(**values)


def test_an_unknown_name() -> None:
    with pytest.raises(SpecError, match="choose one of constant, cosine, step, exponential, plateau"):
        find_schedule("sawtooth")


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_and_goes_through_json(name: str) -> None:
    schedule = SCHEDULES[name](warmup=10)
    assert [schedule.factor(step, []) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert schedule.factor(10, []) == 1.0, "the decay begins after the warm-up"
    data = schedule.to_json()
    assert SCHEDULES[data.pop("name")](**data) == schedule


def test_a_cosine_ends_where_it_is_to() -> None:
    schedule = Cosine(steps=110, warmup=10, final=0.2)
    assert schedule.factor(60, []) == pytest.approx(0.6)
    assert schedule.factor(110, []) == pytest.approx(0.2)
    assert schedule.factor(500, []) == pytest.approx(0.2)


def test_decays() -> None:
    assert StepDecay(every=10, gamma=0.5).factor(29, []) == 0.25
    assert Exponential(every=10, gamma=0.5).factor(25, []) == pytest.approx(0.5**2.5)


def test_a_plateau_counts_as_torch_does() -> None:
    """The losses and rates of torch.optim's ReduceLROnPlateau(patience=2, factor=0.5, threshold=0.1)."""
    schedule = Plateau(patience=2, gamma=0.5, threshold=0.1)
    losses = [4.0, 3.0, 2.9, 2.8, 2.75, 2.0, 2.0, 1.9, 1.9, 1.9, 1.9, 1.9]
    factors = [schedule.factor(99, losses[:count]) for count in range(len(losses) + 1)]
    assert factors == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    assert schedule.factor(0, losses) == factors[-1], "a step's number does not count"
