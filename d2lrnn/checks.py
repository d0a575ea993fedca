"""Checks of what a caller passes: a mistake is named before anything is computed with it."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from numbers import Integral, Real

from d2lrnn.errors import KindError, SpecError


def whole_number(what: str, value: object, least: int = 1) -> int:
    """`value` as an int.

    Raises:
        SpecError: it is not a whole number, as 2.0, '2' and True are not, or it is below `least`.

    Example:
        >>> whole_number("the batch size", np.int64(32))
        32
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise SpecError(f"{what} is {value!r}: it must be a whole number")
    number = operator.index(value)
    if number < least:
        raise SpecError(f"{what} is {number}: it must be {f'at least {least}' if least else '0 or above'}")
    return number


def check_positive(what: str, value: object) -> None:
    """Raises a SpecError where `value` is no finite number above 0."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise SpecError(f"{what} is {value!r}: it must be a number above 0")


def check_rate(what: str, value: object) -> None:
    """Raises a SpecError where `value` is no number in [0, 1)."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise SpecError(f"{what} is {value!r}: it must be a number of at least 0 and below 1")


def check_choice(what: str, value: object, choices: Collection[str]) -> None:
    """Raises a SpecError where `value` is none of the choices."""
    if value not in choices:
        raise SpecError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")


def check_learner(value: object, where: str, methods: Collection[str]) -> None:
    """Raises a KindError where `value` lacks a method of a learner: as a rule it is a model.

    Args:
        value: what was passed.
        where: what takes a learner.
        methods: those that are needed of it.

    Example:
        >>> check_learner("gru", "Trainer", ["train_step", "initial_state"])
        Traceback (most recent call last):
            ...
        d2lrnn.errors.KindError: Trainer takes a learner, and this is a str: ...
    """
    if not all(hasattr(value, method) for method in methods):
        raise KindError(
            f"{where} takes a learner, and this is a {type(value).__name__}: "
            "backend.learner(model, TrainingSpec()) makes one of a model"
        )
