"""The canonical parameters (`d2lrnn.contract.parameters`) in Gluon's layout and back.

The scratch models keep them as they are. Gluon's layers keep weights as (out, in) with the gates in the same
order, and a GRU's ``b_hn`` as the last third of a second bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mxnet import np as mxnp

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters


class Slot(NamedTuple):
    """Where a canonical parameter lives.

    Attributes:
        parameter: the ``gluon.Parameter``.
        to_native: canonical NumPy values to Gluon's layout.
        to_canonical: the inverse, for values and for gradients.
    """

    parameter: Any
    to_native: Callable[[FloatArray], FloatArray]
    to_canonical: Callable[[FloatArray], FloatArray]

    def set(self, value: FloatArray) -> None:
        """Writes a canonical value into the parameter, on its device."""
        self.parameter.set_data(mxnp.array(self.to_native(value), dtype=value.dtype))

    def get(self) -> FloatArray:
        """A copy of the parameter, C-contiguous."""
        return np.ascontiguousarray(self.to_canonical(self.parameter.data().asnumpy()))

    def gradient(self) -> FloatArray:
        """A copy of the gradient that the last backward pass left."""
        return np.ascontiguousarray(self.to_canonical(self.parameter.grad().asnumpy()))


def parameter_slots(model: Any, spec: ModelSpec) -> dict[str, Slot]:
    """All parameters of a language model by canonical name, in canonical order."""
    slots: dict[str, Slot] = {}
    if spec.implementation == "scratch":
        layers = model.rnn.rnns if spec.num_layers > 1 else [model.rnn]
        for l, layer in enumerate(layers):
            slots[f"rnn.{l}.w_x"] = _as_it_is(layer.W_xh)
            slots[f"rnn.{l}.w_h"] = _as_it_is(layer.W_hh)
            slots[f"rnn.{l}.b"] = _as_it_is(layer.b_h)
            if spec.reset_after:
                slots[f"rnn.{l}.b_hn"] = _as_it_is(layer.b_hn)
        slots["head.w"] = _as_it_is(model.W_hq)
        slots["head.b"] = _as_it_is(model.b_q)
    else:
        native = model.rnn.rnn
        for l in range(spec.num_layers):
            slots[f"rnn.{l}.w_x"] = _transposed(getattr(native, f"l{l}_i2h_weight"))
            slots[f"rnn.{l}.w_h"] = _transposed(getattr(native, f"l{l}_h2h_weight"))
            slots[f"rnn.{l}.b"] = _as_it_is(getattr(native, f"l{l}_i2h_bias"))
            if spec.reset_after:
                slots[f"rnn.{l}.b_hn"] = _last_third(getattr(native, f"l{l}_h2h_bias"))
        slots["head.w"] = _transposed(model.linear.weight)
        slots["head.b"] = _as_it_is(model.linear.bias)
    return slots


def set_parameters(slots: dict[str, Slot], parameters: Parameters) -> None:
    """Writes checked canonical parameters into a model."""
    for name, slot in slots.items():
        slot.set(parameters[name])


def _as_it_is(parameter: Any) -> Slot:
    return Slot(parameter, lambda value: value, lambda value: value)


def _transposed(parameter: Any) -> Slot:
    return Slot(parameter, np.transpose, np.transpose)


def _last_third(parameter: Any) -> Slot:
    return Slot(
        parameter,
        lambda b_hn: np.concatenate([np.zeros(2 * len(b_hn), b_hn.dtype), b_hn]),
        lambda bias: bias[2 * len(bias) // 3 :],
    )
