"""The book's package on TensorFlow; see `book`.

It was written for Keras 2, which ``tf_keras`` still is: `book` asks TensorFlow for that. So nothing here may
import d2lrnn's TensorFlow backend, which needs Keras 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from book_trainer import Trained
from d2l import tensorflow as book

from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, Parameters


def _whole(value: Any) -> int:
    return int(np.asarray(value).item())


# `predict` calls int() on a tensor of one element and one dimension, which NumPy has stopped converting.
book.int = _whole


class LSTM(book.GRU):
    """The package has only the GRU; its LSTM is in a chapter."""

    def __init__(self, num_hiddens: int, num_layers: int) -> None:
        book.Module.__init__(self)
        cells = [tf.keras.layers.LSTMCell(num_hiddens) for _ in range(num_layers)]
        self.rnn = tf.keras.layers.RNN(cells, return_sequences=True, return_state=True, time_major=True)


class Contestant(Trained):
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec) -> None:
        self.spec = spec
        V, h, L = spec.vocab_size, spec.num_hiddens, spec.num_layers
        if spec.implementation == "scratch":
            self.model = book.RNNLMScratch(book.RNNScratch(V, h), V, training.learning_rate)
        else:
            rnn = {"rnn": lambda: book.RNN(h), "gru": lambda: book.GRU(h, L), "lstm": lambda: LSTM(h, L)}
            self.model = book.RNNLM(rnn[spec.cell](), V, training.learning_rate)
        self.model(tf.zeros((1, 1), tf.int32))  # its layers take their sizes from an input
        self.prepare(book, training)

    def arrays(self, batch: Batch) -> tuple[Any, Any]:
        """Tensors."""
        return tf.constant(batch.inputs), tf.constant(batch.targets)

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        layers, head = self._variables()
        with tf.GradientTape() as tape:
            loss = self.loss(batch)
        layer_values, head_values = tape.gradient(loss, (layers, head))
        values: dict[str, FloatArray] = {}
        for l, layer in enumerate(layer_values):
            w_x, w_h, b = (np.array(value) for value in layer)
            if self.spec.cell == "gru":
                values[f"rnn.{l}.b_hn"] = b[1, 2 * self.spec.num_hiddens :]
                w_x, w_h, b = (_first_gates_swapped(value) for value in (w_x, w_h, b[0]))
            values |= {f"rnn.{l}.w_x": w_x, f"rnn.{l}.w_h": w_h, f"rnn.{l}.b": b}
        return float(loss), values | dict(zip(("head.w", "head.b"), map(np.array, head_values), strict=True))

    def import_parameters(self, parameters: Parameters) -> None:
        """In place."""
        layers, head = self._variables()
        for l, layer in enumerate(layers):
            values = [parameters[f"rnn.{l}.{name}"] for name in ("w_x", "w_h", "b")]
            if self.spec.cell == "gru":
                w_x, w_h, b = map(_first_gates_swapped, values)
                b_hn = parameters[f"rnn.{l}.b_hn"]
                values = [w_x, w_h, np.stack([b, np.concatenate([np.zeros(2 * len(b_hn)), b_hn])])]
            for variable, value in zip(layer, values, strict=True):
                variable.assign(value)
        for variable, name in zip(head, ("head.w", "head.b"), strict=True):
            variable.assign(parameters[name])

    def synchronize(self) -> None:
        """The step is eager."""
        tf.test.experimental.sync_devices()

    def _variables(self) -> tuple[list[list[Any]], list[Any]]:
        """Of every recurrent layer the weights of inputs and state and the biases; and the output layer's."""
        model = self.model
        if self.spec.implementation == "scratch":
            return [[model.rnn.W_xh, model.rnn.W_hh, model.rnn.b_h]], [model.W_hq, model.b_q]
        own = model.rnn.rnn.trainable_variables
        return [own[l : l + 3] for l in range(0, len(own), 3)], model.linear.trainable_variables


def _first_gates_swapped(value: FloatArray) -> FloatArray:
    """Between the gates' order here, r z n, and Keras', z r n; either way."""
    r, z, n = np.split(value, 3, axis=-1)
    return np.concatenate([z, r, n], axis=-1)
