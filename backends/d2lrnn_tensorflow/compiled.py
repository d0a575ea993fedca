"""Functions that are compiled if they can be traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class Compiled:
    """A function of tensors, compiled to a graph; uncompiled if it cannot be traced.

    A model that a chapter's cell defined may read the values of tensors in Python. That works when the
    function runs eagerly, and fails while it is traced. A graph is traced once for every shape.

    Args:
        function: takes tensors and structures of them. Side effects happen only while it is traced.

    Attributes:
        is_graph: whether it was traced; None before the first call.

    Example:
        >>> double = Compiled(lambda x: 2 * x)
        >>> float(double(tf.constant(4.0))), double.is_graph
        (8.0, True)
        >>> double = Compiled(lambda x: 2 * x.numpy())
        >>> float(double(tf.constant(4.0))), double.is_graph
        (8.0, False)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._graph = tf.function(function, autograph=False)
        self.is_graph: bool | None = None

    def __call__(self, *args: Any) -> Any:
        """What the function returns."""
        if self.is_graph is None:
            try:
                self._graph.get_concrete_function(*args)
            except Exception:  # an error of the function itself is raised again below
                self.is_graph = False
            else:
                self.is_graph = True
        return self._graph(*args) if self.is_graph else self._function(*args)
