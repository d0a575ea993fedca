"""Which recurrent layers take token indices in place of one-hot vectors.

A one-hot vector times a matrix is a row of it. Layers that look the row up need no one-hot vectors, which at
a vocabulary of words would be larger than everything else. Layers that somebody else wrote do not know
tokens, nor does a subclass with a `forward` of its own: so the method is marked, not the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

_Forward = TypeVar("_Forward", bound=Callable[..., object])


def takes_tokens(forward: _Forward) -> _Forward:
    """Marks a `forward` that takes token indices (T, B) as well as vectors (T, B, num_inputs)."""
    forward.takes_tokens = True  # type: ignore[attr-defined]  # a mark on a function
    return forward


def can_take_tokens(rnn: nn.Module) -> bool:
    """Whether the layers' `forward` is one that `takes_tokens`."""
    return getattr(type(rnn).forward, "takes_tokens", False)
