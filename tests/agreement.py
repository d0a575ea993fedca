"""What the book's own package gives, and what this library gives, compared."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from hypothesis import settings

_Test = TypeVar("_Test", bound=Callable[..., Any])

#: Few examples, and the same ones in every run.
few = settings(max_examples=20, derandomize=True, deadline=None, database=None)
fewest = settings(few, max_examples=6)

# Of models fewer where each example is compiled: most of the time goes there.
_COMPILING = {"tensorflow": 3, "jax": 8}.get(os.environ.get("D2LRNN_BACKEND", ""), 1)
of_models = settings(few, max_examples=max(3, 20 // _COMPILING))
of_trainings = settings(few, max_examples=max(1, 6 // _COMPILING))


def compares(names: str) -> Callable[[_Test], _Test]:
    """Marks a test as the one that compares these names of ``d2l``; a test collects the marks."""
    assert names

    def mark(test: _Test) -> _Test:
        return test

    return mark


def is_array(value: Any) -> bool:
    """Whether it is an array of any framework."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def numbers(value: Any) -> Any:
    """An array of any framework as NumPy's."""
    if hasattr(value, "detach"):
        value = value.detach()
    return value.asnumpy() if hasattr(value, "asnumpy") else np.asarray(value)


def agree(ours: Any, theirs: Any, *, exact_types: bool = True) -> None:
    """Raises AssertionError unless both are the same, arrays up to the last digits of float32.

    Args:
        ours: what this library gave.
        theirs: what the book's package gave.
        exact_types: whether the types of arrays, their entries and their containers count.
    """
    if is_array(theirs) or is_array(ours):
        if exact_types and is_array(theirs):
            assert type(ours).__module__.split(".")[0] == type(theirs).__module__.split(".")[0]
            assert str(ours.dtype) == str(theirs.dtype)
        assert tuple(np.shape(numbers(ours))) == tuple(np.shape(numbers(theirs)))
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-5, atol=1e-6)
    elif isinstance(theirs, (list, tuple)):
        if exact_types:
            assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            agree(a, b, exact_types=exact_types)
    elif isinstance(theirs, Mapping):
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            agree(ours[name], value, exact_types=exact_types)
    elif isinstance(theirs, float):
        assert isinstance(ours, float)
        assert math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-9)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs
