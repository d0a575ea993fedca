"""Compatibility shims: what flax and NumPy removed and the book's chapters still use.

The chapter runner installs a shim while a chapter that needs it runs, and removes it afterwards. The library
itself uses none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from flax import linen as nn

from d2lrnn.chapters.runner import Restored

_CELLS = ("GRUCell", "LSTMCell", "OptimizedLSTMCell")


@contextmanager
def cells_without_features() -> Iterator[None]:
    """``nn.GRUCell()``: a cell that takes its size from the carry.

    The classes in `flax.linen` are replaced by subclasses whose field has a default; a cell computes with the
    size of the carry in any case.
    """
    originals = {name: getattr(nn, name) for name in _CELLS}
    try:
        for name, cell in originals.items():
            fields = {"__annotations__": {"features": int | None}, "features": None}
            # The same name: flax names a scope after the class.
            setattr(nn, name, type(name, (cell,), {**fields, "__module__": cell.__module__}))
        yield
    finally:
        for name, cell in originals.items():
            setattr(nn, name, cell)


@contextmanager
def carries_of_a_class() -> Iterator[None]:
    """``nn.GRUCell.initialize_carry(rng, batch_dims, size)`` on the class; on a cell, as in flax."""
    cells = [getattr(nn, name) for name in _CELLS]
    # The class in `flax.linen` may be a subclass, see above.
    owners = {next(cls for cls in cell.__mro__ if "initialize_carry" in vars(cls)) for cell in cells}
    methods = {cls: vars(cls)["initialize_carry"] for cls in owners}
    try:
        for cls, method in methods.items():
            cls.initialize_carry = _OfClassOrCell(method)
        yield
    finally:
        for cls, method in methods.items():
            cls.initialize_carry = method


class _OfClassOrCell:
    """A method of a cell that is another function when it is read from the class."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __get__(self, cell: nn.RNNCellBase | None, kind: type[nn.RNNCellBase]) -> Callable[..., Any]:
        if cell is not None:
            return self._method.__get__(cell, kind)

        def initialize_carry(rng: Any, batch_dims: tuple[int, ...], size: int) -> Any:
            # Without a parent: inside a module's call it would become a part of that module.
            return self._method(kind(features=size, parent=None), rng, (*batch_dims, size))

        return initialize_carry


@contextmanager
def numbers_of_one_entry() -> Iterator[None]:
    """``int(array)`` for an array of shape (1,) or (1, 1)."""
    kind: Any = type(jax.numpy.zeros(()))
    original = kind.__int__

    def to_int(array: jax.Array) -> int:
        return int(original(array.reshape(()) if array.size == 1 else array))

    kind.__int__ = to_int
    try:
        yield
    finally:
        kind.__int__ = original


def _uses(pattern: str) -> Callable[[str], bool]:
    return lambda source: re.search(pattern, source) is not None


_CELL = rf"\b(?:{'|'.join(_CELLS)})"

RESTORED = (
    Restored(
        "nn.GRUCell() and LSTM cells without features",
        "flax cells now need their size: nn.GRUCell(features)",
        # By name, or through nn.scan.
        _uses(rf"{_CELL}\(\s*\)|\bscan\(\s*(?:\w+\.)*{_CELL}\s*,"),
        cells_without_features,
    ),
    Restored(
        "nn.GRUCell.initialize_carry(rng, batch_dims, size) of a class",
        "flax now has it as a method of a cell: cell.initialize_carry(rng, input_shape)",
        _uses(rf"{_CELL}\.initialize_carry\("),
        carries_of_a_class,
    ),
    Restored(
        "int() of an array with one entry",
        "JAX now converts only arrays without dimensions: array.item()",
        # An array from a function, or from a method that can leave one entry.
        _uses(r"\bint\([^()\n]*\b(?:d2l|jnp)\.|\bint\([^\n]*\.(?:reshape|argmax)\("),
        numbers_of_one_entry,
    ),
)
