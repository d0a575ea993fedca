"""The concise models: Keras' own recurrent layers, any number of them, with dropout between.

The weights are those of `keras.layers.SimpleRNN`, `GRU` and `LSTM`, one layer each, made, initialised and
named by Keras. The time steps run through `d2lrnn_tensorflow.recurrence` instead of Keras' own loop, which
takes (batch, time) only and adds up its weight gradients step by step. A test compares each model with its
Keras layers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn_tensorflow.dropout import drop
from d2lrnn_tensorflow.module import Module
from d2lrnn_tensorflow.recurrence import LayerState, Step, Tensor, Weight, project, recurrence
from d2lrnn_tensorflow.scratch import LSTMScratch, Product, ReluRNNScratch, RNNScratch
from d2lrnn_tensorflow.tokens import takes_tokens


class RNN(Module):
    """A tanh RNN on `keras.layers.SimpleRNN`.

    Args:
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training, never after the last.
        **kwargs: those of `keras.layers.Layer`: ``dtype``, ``name``.

    It takes real vectors (T, B, num_inputs), or token indices (T, B) in place of one-hot vectors once it is
    built. The state is one tensor (L, B, h); None is zeros.

    Example:
        >>> rnn = RNN(32, num_layers=2)
        >>> outputs, H = rnn(tf.ones((5, 3, 28)))
        >>> outputs, H = rnn(tf.ones((5, 3, 28)), H)
        >>> outputs.shape, H.shape
        (TensorShape([5, 3, 32]), TensorShape([2, 3, 32]))
    """

    cell: ClassVar[Cell] = cells.RNN
    _keras_layer = keras.layers.SimpleRNN
    _options: ClassVar[dict[str, Any]] = {}

    def __init__(self, num_hiddens: int, num_layers: int = 1, dropout: float = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters(ignore=["kwargs"])
        self.rnns = [
            self._keras_layer(
                num_hiddens,
                return_sequences=True,
                return_state=True,
                dtype=self.dtype_policy,
                **self._options,
            )
            for _ in range(num_layers)
        ]
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights for inputs (T, B, num_inputs); Keras calls it at the first use.

        Raises:
            ValueError: the inputs are token indices, from which `num_inputs` cannot be inferred.
        """
        if hasattr(self, "rnn"):
            return
        if len(input_shape) != 3:
            raise ValueError(
                f"the first inputs have shape {tuple(input_shape)}: they must be vectors (T, B, num_inputs); "
                "for token indices call build((None, None, num_inputs)) first"
            )
        num_inputs = input_shape[-1]
        for rnn in self.rnns:
            rnn.build((None, None, num_inputs))
            num_inputs = self.num_hiddens

    @takes_tokens
    def forward(self, inputs: Tensor, state: Any = None, masks: Tensor | None = None) -> tuple[Tensor, Any]:
        """Runs all layers over all steps.

        Args:
            inputs: (T, B, num_inputs) or (T, B).
            state: what it returned before, or None; of one layer also (B, h), as Keras' layers have it.
            masks: (L - 1, T, B, h), multiply the outputs of all layers but the last in place of dropout.

        Returns:
            The outputs of the last layer (T, B, h), and the state after the last step.
        """
        if hasattr(self, "rnn"):
            outputs, *parts = self.rnn(inputs, state)
            return outputs, parts[0] if len(parts) == 1 else parts
        if state is None:
            zeros = tf.zeros((self.num_layers, tf.shape(inputs)[1], self.num_hiddens), self.compute_dtype)
            before: LayerState = (zeros,) * len(self.cell.states)
        else:
            before = tuple(map(_by_layer, state if len(self.cell.states) > 1 else (state,)))
        outputs, states = inputs, []
        for l, rnn in enumerate(self.rnns):
            if l > 0:
                outputs = drop(self.dropout, outputs, None if masks is None else masks[l - 1])
            W_x, b, step, weight = self._formula(rnn.cell)
            projected = project(outputs, W_x, b)
            outputs, final = recurrence(step, projected, tuple(part[l] for part in before), [weight])
            states.append(final)
        parts = tuple(tf.stack(part) for part in zip(*states, strict=True))
        return outputs, parts if len(parts) > 1 else parts[0]

    def _formula(self, cell: keras.layers.Layer) -> tuple[Tensor, Tensor, Step, Weight]:
        """W_x and b, the step, and the weight of its product."""
        return cell.kernel, cell.bias, RNNScratch.step, (cell.recurrent_kernel,)


class ReluRNN(RNN):
    """A ReLU RNN on ``keras.layers.SimpleRNN(activation="relu")``; arguments as for `RNN`."""

    cell = cells.RELU_RNN
    _options: ClassVar = {"activation": "relu"}

    def _formula(self, cell: keras.layers.Layer) -> tuple[Tensor, Tensor, Step, Weight]:
        return cell.kernel, cell.bias, ReluRNNScratch.step, (cell.recurrent_kernel,)


class GRU(RNN):
    """A gated recurrent unit on `keras.layers.GRU`, reset after the matrix product; arguments as for `RNN`.

    Keras orders the gates z, r, h and keeps two biases, ``bias`` (2, 3h). The second one of z and r adds
    nothing that the first one cannot: trained, their sum would move at twice the rate. It is not trained.
    """

    cell = cells.GRU
    _keras_layer = keras.layers.GRU

    @staticmethod
    def step(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """`GRUScratch.step`, reset after the product, in Keras' order of the gates."""
        (H,) = state
        h = H.shape[1]
        X_zr, X_n = tf.split(X, [2 * h, h], axis=1)
        H_zr, H_n = tf.split(product(H), [2 * h, h], axis=1)
        Z, R = tf.split(tf.sigmoid(X_zr + H_zr), 2, axis=1)
        N = tf.tanh(X_n + R * H_n)
        return (N + Z * (H - N),)

    def _formula(self, cell: keras.layers.Layer) -> tuple[Tensor, Tensor, Step, Weight]:
        b, recurrent = tf.unstack(cell.bias)
        b_zr, b_n = tf.split(recurrent, [2 * self.num_hiddens, self.num_hiddens])
        recurrent = tf.concat([tf.stop_gradient(b_zr), b_n], axis=0)
        return cell.kernel, b, self.step, (cell.recurrent_kernel, recurrent)


class LSTM(RNN):
    """Long short-term memory on `keras.layers.LSTM`; arguments as for `RNN`.

    The state is ``(H, C)``, each (L, B, h). Keras starts the forget gate's bias at one.
    """

    cell = cells.LSTM
    _keras_layer = keras.layers.LSTM

    def _formula(self, cell: keras.layers.Layer) -> tuple[Tensor, Tensor, Step, Weight]:
        # Keras' order, i, f, c, o, is that of the scratch layer.
        return cell.kernel, cell.bias, LSTMScratch.step, (cell.recurrent_kernel,)


#: The concise layers, by the name of their cell.
CONCISE: dict[str, type[RNN]] = {layer.cell.name: layer for layer in (RNN, ReluRNN, GRU, LSTM)}


def _by_layer(part: Any) -> Any:
    """A part of the state, by layers: (L, B, h) or a list of L; of one layer (B, h) as well."""
    return part if isinstance(part, (list, tuple)) or len(part.shape) == 3 else [part]
