"""The scratch models: the formulas in plain sight, on weights of their own.

Every model here is a `Module`, a Keras model. It takes real vectors (T, B, num_inputs), or token indices
(T, B) in place of one-hot vectors, and returns the outputs (T, B, h) and the state after the last step. Its
``step`` is the formula for one time step: ``X`` is ``X_t W_x + b`` there, made for all steps at once, and
``product(H)`` is ``H W_h`` (`d2lrnn_tensorflow.recurrence`).

Weights come from `add_weight`: Keras 3 does not see a plain ``tf.Variable`` attribute and would not train it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from d2lrnn_tensorflow.module import Module
from d2lrnn_tensorflow.recurrence import LayerState, Tensor, project, recurrence
from d2lrnn_tensorflow.tokens import takes_tokens

#: The product of a tensor (B, h) with a weight.
Product = Callable[[Tensor], Tensor]


class _ScratchLayer(Module):
    """Weights from N(0, σ²), biases of zero, states of zero."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters(ignore=[*kwargs])
        self.built = True  # the sizes are known: nothing waits for a first input

    def _normal(self, name: str, *shape: int) -> keras.Variable:
        # An initialiser of its own for every weight: one that is used twice draws the same numbers twice.
        initializer = keras.initializers.RandomNormal(stddev=self.sigma)
        return self.add_weight(shape=shape, initializer=initializer, name=name)

    def _zeros(self, name: str, *shape: int) -> keras.Variable:
        return self.add_weight(shape=shape, initializer="zeros", name=name)

    def _initial(self, inputs: Tensor) -> Tensor:
        return tf.zeros((tf.shape(inputs)[1], self.num_hiddens), self.compute_dtype)


class RNNScratch(_ScratchLayer):
    """A tanh RNN of one layer: ``H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h)``.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; the biases start at zero.
        **kwargs: those of `keras.layers.Layer`: ``dtype``, ``name``.

    The state is one tensor (B, h); None is zeros.

    Example:
        >>> rnn = RNNScratch(28, 32)
        >>> outputs, H = rnn(tf.ones((5, 2, 28)))
        >>> outputs, H = rnn(tf.ones((5, 2, 28)), H)
        >>> outputs.shape, H.shape
        (TensorShape([5, 2, 32]), TensorShape([2, 32]))
    """

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, **kwargs: Any) -> None:
        super().__init__(num_inputs, num_hiddens, sigma, **kwargs)
        self.W_xh = self._normal("W_xh", num_inputs, num_hiddens)
        self.W_hh = self._normal("W_hh", num_hiddens, num_hiddens)
        self.b_h = self._zeros("b_h", num_hiddens)

    @staticmethod
    def step(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """``tanh(X + H W_hh)``."""
        (H,) = state
        return (tf.tanh(X + product(H)),)

    @takes_tokens
    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (T, B, h) and the state (B, h) after the last step."""
        H = self._initial(inputs) if state is None else state
        projected = project(inputs, self.W_xh, self.b_h)
        outputs, (H,) = recurrence(self.step, projected, (H,), [(self.W_hh,)])
        return outputs, H


class GRUScratch(_ScratchLayer):
    """A gated recurrent unit of one layer (Cho et al. 2014), in both of its forms.

    The gates r, z, n stand side by side in ``W_x`` (in, 3h), ``W_h`` (h, 3h) and ``b`` (3h,):

    - ``R, Z = σ(X_t W_x[rz] + b[rz] + H W_h[rz])``
    - reset before the product, as in the book: ``N = tanh(X_t W_x[n] + b[n] + (R ∘ H) W_h[n])``
    - reset after it, as in cuDNN: ``N = tanh(X_t W_x[n] + b[n] + R ∘ (H W_h[n] + b_hn))``
    - ``H' = Z ∘ H + (1 - Z) ∘ N``, which is ``N + Z ∘ (H - N)``

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; the biases start at zero.
        reset_after: where the reset gate is applied.
        **kwargs: those of `keras.layers.Layer`.

    The state is one tensor (B, h); None is zeros.

    Example:
        >>> outputs, H = GRUScratch(28, 32)(tf.ones((5, 2, 28)))
        >>> outputs.shape, H.shape
        (TensorShape([5, 2, 32]), TensorShape([2, 32]))
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        sigma: float = 0.01,
        *,
        reset_after: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_inputs, num_hiddens, sigma, **kwargs)
        self.reset_after = reset_after
        self.W_x = self._normal("W_x", num_inputs, 3 * num_hiddens)
        self.W_h = self._normal("W_h", num_hiddens, 3 * num_hiddens)
        self.b = self._zeros("b", 3 * num_hiddens)
        if reset_after:
            self.b_hn = self._zeros("b_hn", num_hiddens)

    @staticmethod
    def step_before(X: Tensor, state: LayerState, product_rz: Product, product_n: Product) -> LayerState:
        """Reset before the product."""
        (H,) = state
        h = H.shape[1]
        X_rz, X_n = tf.split(X, [2 * h, h], axis=1)
        R, Z = tf.split(tf.sigmoid(X_rz + product_rz(H)), 2, axis=1)
        N = tf.tanh(X_n + product_n(R * H))
        return (N + Z * (H - N),)

    @staticmethod
    def step_after(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """Reset after the product, whose last third has ``b_hn`` in it."""
        (H,) = state
        h = H.shape[1]
        X_rz, X_n = tf.split(X, [2 * h, h], axis=1)
        H_rz, H_n = tf.split(product(H), [2 * h, h], axis=1)
        R, Z = tf.split(tf.sigmoid(X_rz + H_rz), 2, axis=1)
        N = tf.tanh(X_n + R * H_n)
        return (N + Z * (H - N),)

    @takes_tokens
    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (T, B, h) and the state (B, h) after the last step."""
        H = self._initial(inputs) if state is None else state
        h = self.num_hiddens
        projected = project(inputs, self.W_x, self.b)
        if self.reset_after:
            bias = tf.concat([tf.zeros(2 * h, self.compute_dtype), self.b_hn], axis=0)
            outputs, (H,) = recurrence(self.step_after, projected, (H,), [(self.W_h, bias)])
        else:
            W_hrz, W_hn = tf.split(self.W_h, [2 * h, h], axis=1)
            outputs, (H,) = recurrence(self.step_before, projected, (H,), [(W_hrz,), (W_hn,)])
        return outputs, H


class LSTMScratch(_ScratchLayer):
    """Long short-term memory of one layer (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000).

    The gates i, f, g, o stand side by side in ``W_x`` (in, 4h), ``W_h`` (h, 4h) and ``b`` (4h,):

    - ``I, F, O = σ(X_t W_x[ifo] + b[ifo] + H W_h[ifo])``;  ``G = tanh(X_t W_x[g] + b[g] + H W_h[g])``
    - ``C' = F ∘ C + I ∘ G``
    - ``H' = O ∘ tanh(C')``

    The arguments are those of `RNNScratch`. The state is ``(H, C)``, each (B, h); None is zeros.

    Example:
        >>> outputs, (H, C) = LSTMScratch(28, 32)(tf.ones((5, 2, 28)))
        >>> outputs.shape, H.shape, C.shape
        (TensorShape([5, 2, 32]), TensorShape([2, 32]), TensorShape([2, 32]))
    """

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, **kwargs: Any) -> None:
        super().__init__(num_inputs, num_hiddens, sigma, **kwargs)
        self.W_x = self._normal("W_x", num_inputs, 4 * num_hiddens)
        self.W_h = self._normal("W_h", num_hiddens, 4 * num_hiddens)
        self.b = self._zeros("b", 4 * num_hiddens)

    @staticmethod
    def step(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """The formulas of the class."""
        H, C = state
        I, F, G, O = tf.split(X + product(H), 4, axis=1)
        C = tf.sigmoid(F) * C + tf.sigmoid(I) * tf.tanh(G)
        return tf.sigmoid(O) * tf.tanh(C), C

    @takes_tokens
    def forward(self, inputs: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """Outputs (T, B, h) and the state ``(H, C)`` after the last step."""
        H, C = (self._initial(inputs), self._initial(inputs)) if state is None else state
        projected = project(inputs, self.W_x, self.b)
        return recurrence(self.step, projected, (H, C), [(self.W_h,)])


class StackedRNNScratch(Module):
    """Scratch layers on top of each other, each fed with the outputs of the one below it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h, of every layer.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: what makes a layer: a scratch class, or a function with the arguments of one.
        **kwargs: those of `keras.layers.Layer`.

    The state is a tuple of the layers' states; None is zeros. It is not changed.

    Example:
        >>> outputs, states = StackedRNNScratch(28, 32, num_layers=2, layer=LSTMScratch)(tf.ones((5, 2, 28)))
        >>> outputs.shape, len(states)
        (TensorShape([5, 2, 32]), 2)
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int,
        sigma: float = 0.01,
        *,
        layer: Callable[..., keras.layers.Layer] = RNNScratch,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters(ignore=["layer", *kwargs])
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        self.rnns = [layer(size, num_hiddens, sigma, dtype=self.dtype_policy) for size in sizes]
        self.built = True

    @takes_tokens
    def forward(self, inputs: Tensor, state: Sequence[Any] | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        """Outputs of the last layer (T, B, h) and the states of all."""
        outputs = inputs
        states = []
        for l, rnn in enumerate(self.rnns):
            outputs, final = rnn(outputs, None if state is None else state[l])
            states.append(final)
        return outputs, tuple(states)
