"""ONNX's own evaluator in NumPy, in any type of numbers, with the activations that its nodes leave out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops import op_gru, op_lstm, op_rnn

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    # 1 / (1 + exp(-x)), without its overflow.
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "affine": lambda x: x,
}


def evaluator(model: ModelProto) -> Any:
    """What runs a model whose nodes have their activations written out."""
    return ReferenceEvaluator(model, new_ops=[RNN, GRU, LSTM])


class RNN(op_rnn.RNN_14):
    """ONNX's, whose activation is tanh alone."""

    op_domain = ""

    def choose_act(self, name: str, alpha: Any, beta: Any) -> Callable[[Any], Any]:
        """The function of a name; alpha and beta are those of the identity."""
        return _FUNCTIONS[name.lower()]


class _Gated:
    """The functions f, g and h of a node, in the order of its activations."""

    op_domain = ""
    activations: list[str]

    def f(self, x: Any) -> Any:
        """Of the gates."""
        return _FUNCTIONS[self.activations[0].lower()](x)

    def g(self, x: Any) -> Any:
        """Of the candidate."""
        return _FUNCTIONS[self.activations[1].lower()](x)

    def h(self, x: Any) -> Any:
        """Of an LSTM's cell."""
        return _FUNCTIONS[self.activations[2].lower()](x)


class GRU(_Gated, op_gru.GRU):
    """ONNX's, whose activations are sigmoid and tanh alone."""


class LSTM(_Gated, op_lstm.LSTM):
    """ONNX's, whose activations are sigmoid and tanh alone."""
