"""The canonical parameters (`d2lrnn.contract.parameters`) in Gluon's layout and back.

The scratch models keep them as they are. Gluon's layers keep weights as (out, in) with the gates in the same
order, and a GRU's ``b_hn`` as the last third of a second bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mxnet import np as mxnp

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters


class Place(NamedTuple):
    """Where a canonical parameter is.

    Attributes:
        parameter: the ``gluon.Parameter``.
        to_native: canonical NumPy values to Gluon's layout.
        to_canonical: the inverse, for values, gradients and an optimiser's slots.
    """

    parameter: Any
    to_native: Callable[[FloatArray], FloatArray]
    to_canonical: Callable[[FloatArray], FloatArray]

    def set(self, value: FloatArray) -> None:
        """Writes a canonical value into the parameter, on its device."""
        self.parameter.set_data(mxnp.array(self.to_native(value), dtype=value.dtype))

    def get(self) -> FloatArray:
        """A copy of the parameter, C-contiguous."""
        return self.canonical(self.parameter.data())

    def canonical(self, array: Any) -> FloatArray:
        """A copy in the canonical layout of an array in the parameter's own."""
        return np.ascontiguousarray(self.to_canonical(array.asnumpy()))

    @property
    def is_transposed(self) -> bool:
        """Whether a weight (in, out) is stored as (out, in)."""
        return self.to_native is np.transpose

    @property
    def is_last_third(self) -> bool:
        """Whether it is the last third of Gluon's parameter, whose other two thirds are not used."""
        return self.to_native is _after_zeros


def parameter_places(model: Any, spec: ModelSpec) -> dict[str, Place]:
    """All parameters of a language model by canonical name, in canonical order."""
    head, layers = getattr(model, "linear", None), getattr(model.rnn, "rnn", None)  # Gluon's, if they are
    places: dict[str, Place] = {}
    if spec.embedding_size is not None:
        places["embedding.w"] = _as_it_is(model.embedding.weight if head else model.embedding)
    for l in range(spec.num_layers):
        layer = _scratch_layer(model.rnn, spec, l) if layers is None else _concise_layer(layers, spec, l)
        places |= {f"rnn.{l}.{name}": place for name, place in layer.items()}
    if not spec.tied:
        places["head.w"] = _transposed(head.weight) if head else _as_it_is(model.W_hq)
    places["head.b"] = _as_it_is(head.bias if head else model.b_q)
    return places


def set_parameters(places: dict[str, Place], parameters: Parameters) -> None:
    """Writes checked canonical parameters into a model."""
    for name, place in places.items():
        place.set(parameters[name])


def _scratch_layer(rnn: Any, spec: ModelSpec, l: int) -> dict[str, Place]:
    layer = rnn.rnns[l] if spec.num_layers > 1 else rnn
    attributes = {"w_x": "W_xh", "w_h": "W_hh", "b": "b_h"}
    names = find_cell(spec.cell).shapes(1, 1, reset_after=spec.reset_after)
    return {name: _as_it_is(getattr(layer, attributes.get(name, name))) for name in names}


def _concise_layer(native: Any, spec: ModelSpec, l: int) -> dict[str, Place]:
    cell = find_cell(spec.cell)
    places = {
        "w_x": _transposed(getattr(native, f"l{l}_i2h_weight")),
        "w_h": _transposed(getattr(native, f"l{l}_h2h_weight")),
        "b": _as_it_is(getattr(native, f"l{l}_i2h_bias")),
    }
    if cell.reset_bias is not None:
        places[cell.reset_bias] = _last_third(getattr(native, f"l{l}_h2h_bias"))
    return places


def _as_it_is(parameter: Any) -> Place:
    return Place(parameter, lambda value: value, lambda value: value)


def _transposed(parameter: Any) -> Place:
    return Place(parameter, np.transpose, np.transpose)


def _last_third(parameter: Any) -> Place:
    return Place(parameter, _after_zeros, lambda bias: bias[2 * len(bias) // 3 :])


def _after_zeros(value: FloatArray) -> FloatArray:
    return np.concatenate([np.zeros(2 * len(value), value.dtype), value])
