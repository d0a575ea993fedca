"""The inputs of recurrent layers: vectors or token indices, in one array or a list of steps.

A one-hot vector times a matrix is a row of it. Layers that look the row up need no one-hot vectors. A
chapter's own layers take vectors only, and so does a subclass that overrides ``__call__``: therefore the
method is marked, not the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
from flax import linen as nn
from jax import numpy as jnp

_Call = TypeVar("_Call", bound=Callable[..., Any])


# benchmarks/tricks: jax, tokens looked up, not multiplied
def takes_tokens(call: _Call) -> _Call:
    """Marks a ``__call__`` that takes token indices (T, B) as well as vectors (T, B, num_inputs)."""
    call.takes_tokens = True  # type: ignore[attr-defined]  # a mark on a function
    return call


def can_take_tokens(rnn: nn.Module) -> bool:
    """Whether the layers' ``__call__`` is one that `takes_tokens`."""
    return getattr(type(rnn).__call__, "takes_tokens", False)


def stacked(steps: jax.Array | Iterable[jax.Array]) -> jax.Array:
    """The arrays of all steps as one: chapters pass lists of them, and ``reversed(…)``."""
    return steps if hasattr(steps, "shape") else jnp.stack(list(steps))


def as_indices(tokens: jax.Array) -> jax.Array:
    """Tokens (B, T), which chapters also pass as floats, as indices (T, B)."""
    return jnp.swapaxes(tokens, 0, 1).astype(jnp.int32)
