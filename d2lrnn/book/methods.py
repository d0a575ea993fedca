"""The book's tensor helpers that call a method: of a framework's array, or of one of NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def method(name: str) -> Callable[..., Any]:
    """A function of an array that calls its method of this name with the other arguments.

    Example:
        >>> method("upper")("to be")
        'TO BE'
    """

    def call(x: Any, *args: Any, **options: Any) -> Any:
        return getattr(x, name)(*args, **options)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"The array's own method `{name}`, with the other arguments."
    return call
