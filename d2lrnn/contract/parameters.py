"""The canonical parameters: one layout for every backend.

Row vectors multiply from the left (``x @ W``). With G gates side by side on the last axis, a model with h
hidden units and an embedding of size E (or none, and E = V) has

=================  ===========  ==============================================================
``embedding.w``    (V, E)       only with an embedding: its rows stand for the tokens
``rnn.{l}.w_x``    (in, G·h)    in = E for the first layer, h for the others
``rnn.{l}.w_h``    (h, G·h)
``rnn.{l}.b``      (G·h,)
``rnn.{l}.b_hn``   (h,)         only for a GRU with ``reset_after``: the bias inside the reset
``head.w``         (h, V)       not where it is tied to the embedding
``head.b``         (V,)
=================  ===========  ==============================================================

and what else its cell says (`d2lrnn.contract.cells`, which has the gates and their order). Frameworks that
keep two biases a gate train one of them here: under SGD their sum would move at twice the rate, and a
clipping norm would count it twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.optimizers import Optimizer, slot_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError


def parameter_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The canonical names of a model's parameters and their shapes, in canonical order.

    Example:
        >>> parameter_shapes(ModelSpec(vocab_size=28, cell="lstm"))["rnn.0.w_h"]
        (32, 128)
    """
    h, cell = spec.num_hiddens, find_cell(spec.cell)
    shapes: dict[str, tuple[int, ...]] = {}
    if spec.embedding_size is not None:
        shapes["embedding.w"] = (spec.vocab_size, spec.embedding_size)
    for l in range(spec.num_layers):
        layer = cell.shapes(spec.num_inputs if l == 0 else h, h, reset_after=spec.reset_after)
        shapes |= {f"rnn.{l}.{name}": shape for name, shape in layer.items()}
    if not spec.tied:
        shapes["head.w"] = (h, spec.vocab_size)
    shapes["head.b"] = (spec.vocab_size,)
    return shapes


def check_parameters(spec: ModelSpec, parameters: Parameters) -> dict[str, FloatArray]:
    """Checks names, shapes and values against `spec`, and returns them in canonical order.

    Returns:
        C-contiguous arrays of `spec.dtype`, copied only where they were not that already.

    Raises:
        ParameterError: a name is missing or too many, a shape differs, or a value is not a finite number.
    """
    return check_arrays("parameter", parameter_shapes(spec), parameters, spec.dtype)


def check_optimizer_state(spec: ModelSpec, optimizer: Optimizer, arrays: Parameters) -> dict[str, FloatArray]:
    """The same for what an optimiser remembers of the parameters of `spec`."""
    return check_arrays("optimizer state", slot_shapes(optimizer, parameter_shapes(spec)), arrays, spec.dtype)


def check_reset(spec: ModelSpec, framework: str) -> None:
    """Raises a ParameterError where `spec` is the one GRU that most frameworks' layers do not compute."""
    if spec.reset_after is False:
        raise ParameterError(
            f"a GRU that resets before the matrix product is none of {framework}'s layers: only one with "
            "reset_after=True can be exchanged with them"
        )


def check_arrays(
    what: str, shapes: Mapping[str, tuple[int, ...]], arrays: Parameters, dtype: str
) -> dict[str, FloatArray]:
    """The same for arrays of any names and shapes; `what` is what an error calls one of them."""
    if missing := [name for name in shapes if name not in arrays]:
        raise ParameterError(f"{what}s are missing: {', '.join(missing)}")
    if extra := [name for name in arrays if name not in shapes]:
        raise ParameterError(f"{what}s that the model does not have: {', '.join(map(repr, extra))}")
    checked: dict[str, FloatArray] = {}
    for name, shape in shapes.items():
        value = np.asarray(arrays[name])
        if value.shape != shape:
            raise ParameterError(f"{what} {name} has shape {value.shape}; the model needs {shape}")
        if value.dtype.kind != "f":
            raise ParameterError(f"{what} {name} has type {value.dtype}; the model needs real numbers")
        if not np.isfinite(value).all():
            raise ParameterError(f"{what} {name} holds a value that is not a finite number")
        checked[name] = np.ascontiguousarray(value, dtype=dtype)
    return checked
