"""Which of the described functions a function of a flax module is: it is asked.

An activation is a function object, and `jnp.tanh`, `nn.tanh` and ``lambda x: jnp.tanh(x)`` are three. A few
numbers tell them from others; the proof of a conversion then compares what the whole module computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.description import Activation, Merge
from d2lrnn.ports.reference import ACTIVATIONS

#: From where functions differ near zero to where a bounded one has reached its bound.
_NUMBERS: FloatArray = np.array([-100, -7, -2.5, -1, -0.3, -0.01, 0, 0.01, 0.3, 1, 2.5, 7, 100], np.float32)


def average(a: jax.Array, b: jax.Array) -> jax.Array:
    """The merge ``"ave"``, for which JAX has no function."""
    return (a + b) / 2


#: What is built with; the defaults of flax are the same objects.
FUNCTIONS: dict[Activation, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "linear": jax.nn.identity,
}

#: The same of merges; that of ``"concat"`` is the default, and has no public name.
MERGES: dict[Merge, Callable[[Any, Any], Any]] = {"sum": jnp.add, "mul": jnp.multiply, "ave": average}

_MERGED: dict[Merge, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
}


def activation_of(function: Callable[[Any], Any]) -> Activation:
    """The activation that a function is.

    Raises:
        PortError: it is none that has a description.

    Example:
        >>> activation_of(lambda x: jnp.maximum(x, 0))
        'relu'
    """
    values = np.asarray(function(jnp.asarray(_NUMBERS)))
    for name, known in ACTIVATIONS.items():
        if values.shape == _NUMBERS.shape and np.allclose(values, known(_NUMBERS), rtol=1e-5, atol=1e-6):
            return name
    raise PortError(
        f"the activation {_name(function)} has no description: it is one of {', '.join(ACTIVATIONS)}"
    )


def merge_of(function: Callable[[Any, Any], Any]) -> Merge:
    """How a function makes one output of two.

    Raises:
        PortError: it is no way that has a description.

    Example:
        >>> merge_of(jnp.add)
        'sum'
    """
    a, b = _NUMBERS[:6].reshape(2, 3), _NUMBERS[6:12].reshape(2, 3)
    values = np.asarray(function(jnp.asarray(a), jnp.asarray(b)))
    for name, known in _MERGED.items():
        if np.array_equal(values, known(a, b)):
            return name
    raise PortError(
        f"the merge_fn {_name(function)} has no description: it is one of {', '.join(_MERGED)} of two outputs"
    )


def _name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)
