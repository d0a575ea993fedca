"""NumPy semantics for a class, without switching them on for everybody.

``mx.util.use_np`` does that for a class that stands alone. On one that others derive from it would copy every
inherited method into the class: what a chapter adds to the base later (``d2l.add_to_class``) would not be
seen, and a method that looks at its caller (``save_hyperparameters``) would find a wrapper there.
"""

from __future__ import annotations

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
