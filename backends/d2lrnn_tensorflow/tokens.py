"""Which recurrent layers take token indices in place of one-hot vectors.

A one-hot vector times a matrix is a row of it: this package's layers look the row up. A layer that a chapter
defines takes vectors only, and so does a subclass that overrides `forward`: therefore the method is marked,
not the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Forward = TypeVar("_Forward", bound=Callable[..., object])


def takes_tokens(forward: _Forward) -> _Forward:
    """Marks a `forward` that takes token indices (T, B) as well as vectors (T, B, num_inputs)."""
    forward.takes_tokens = True  # type: ignore[attr-defined]  # a mark on a function
    return forward


def can_take_tokens(rnn: Any) -> bool:
    """Whether the layers' `forward` is one that `takes_tokens`, and runs the library's own layers."""
    # A subclass of `d2lrnn_tensorflow.RNN` with an attribute `rnn` runs that Keras layer instead.
    return getattr(type(rnn).forward, "takes_tokens", False) and not hasattr(rnn, "rnn")
