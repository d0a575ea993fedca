"""How large a model is, before anything is allocated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec


def num_parameters(spec: ModelSpec) -> int:
    """The numbers in a model's parameters, without making anything for every layer.

    Example:
        >>> num_parameters(ModelSpec(28, num_hiddens=32, num_layers=2))
        4956
    """
    one, two = (_count(replace(spec, num_layers=layers)) for layers in (1, 2))
    return one + (spec.num_layers - 1) * (two - one)


def parameter_bytes(spec: ModelSpec) -> int:
    """What the parameters of a model take."""
    return np.dtype(spec.dtype).itemsize * num_parameters(spec)


def _count(spec: ModelSpec) -> int:
    return sum(map(math.prod, parameter_shapes(spec).values()))
