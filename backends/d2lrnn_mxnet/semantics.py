"""NumPy semantics for a class or a block of code, without switching them on globally.

``mx.util.use_np`` does that for a class without a base class. On others it copies every inherited method into
the class: a method that a chapter adds to the base later (``d2l.add_to_class``) would not be found, and one
that inspects its caller (``save_hyperparameters``) would find a wrapper there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isfunction
from typing import TypeVar

import mxnet as mx

_Class = TypeVar("_Class", bound=type)


def use_np(cls: _Class) -> _Class:
    """A class decorator: the methods that the class itself defines run with NumPy semantics."""
    for name, method in list(vars(cls).items()):
        if isfunction(method):
            setattr(cls, name, mx.util.use_np(method))
    return cls


@contextmanager
def semantics(*, numpy: bool) -> Iterator[None]:
    """NumPy's arrays and shapes, or MXNet's own, whatever the caller has."""
    # MXNet takes arrays of its own with NumPy's shapes, but no others with its own shapes.
    switches = (mx.util.np_shape(numpy), mx.util.np_array(numpy))
    first, second = switches if numpy else switches[::-1]
    with first, second:
        yield
