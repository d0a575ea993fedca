"""The scratch models: the formulas spelt out, on weights of their own.

A cell is a subclass of `ScratchLayer` with its formula in `step`. It takes real vectors (T, B, num_inputs),
or token indices (T, B) in place of one-hot vectors, and returns the outputs (T, B, h) and the state after the
last step. `d2lrnn_tensorflow.recurrence` runs the formula over a sequence and differentiates it: there is no
other implementation of a cell, for training or prediction, on a CPU or a GPU.

Another package's cell is such a subclass too, by entry point (`d2lrnn.contract.cells`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import keras
import tensorflow as tf

from d2lrnn.book.current_edition import sole_state
from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn_tensorflow.dropout import drop
from d2lrnn_tensorflow.module import Module
from d2lrnn_tensorflow.recurrence import LayerState, Step, Tensor, Weight, project, recurrence
from d2lrnn_tensorflow.tokens import takes_tokens

#: The product of a tensor (B, h) with a weight.
Product = Callable[[Tensor], Tensor]


class ScratchLayer(Module):
    """One recurrent layer; a subclass gives its cell and the formula of one `step`.

    The parameters are those that the cell has in `d2lrnn.contract.cells`, in its order. ``w_x`` is the
    attribute ``W_x``, and so on. Matrices start from N(0, σ²), vectors at zero.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: σ, the standard deviation of the initial weights.
        reset_after: for a cell with a reset gate, whether it is applied after the matrix product.
        **kwargs: those of `keras.layers.Layer`: ``dtype``, ``name``.

    Example:
        >>> class LinearRNN(ScratchLayer):
        ...     cell = cells.RNN  # its parameters; a new cell brings a `Cell` of its own
        ...     @staticmethod
        ...     def step(X, state, product):
        ...         (H,) = state
        ...         return (X + product(H),)
        >>> outputs, H = LinearRNN(28, 32)(tf.ones((5, 2, 28)))
        >>> outputs.shape, H.shape
        (TensorShape([5, 2, 32]), TensorShape([2, 32]))
    """

    cell: ClassVar[Cell]

    #: ``step(X, state, *products, **vectors)``, a static method: the formula of one time step. X is
    #: ``X_t w_x + b`` (B, G·h), made for all steps at once; the state before the step and the one that is
    #: returned are tuples (B, h), the output first. The products are functions of tensors (B, h), one for
    #: each of `gates_of_products`: in most cells there is one, and ``product(H)`` is ``H w_h``. Each is
    #: called once, so that its weight gradient can be taken for all steps at once. The vectors are the
    #: cell's, by name.
    step: ClassVar[Step]

    #: Attribute names of parameters, where they differ from the contract's.
    attributes: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        sigma: float = 0.01,
        *,
        reset_after: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters(ignore=["kwargs"])
        for name, shape in self.cell.shapes(num_inputs, num_hiddens, reset_after=reset_after).items():
            # `add_weight`: Keras 3 does not track a plain `tf.Variable` and would not train it. And an
            # initialiser for each weight: one that is used twice draws the same numbers twice.
            normal = keras.initializers.RandomNormal(stddev=sigma)
            attribute = self._attribute(name)
            initializer = normal if len(shape) == 2 else "zeros"
            setattr(self, attribute, self.add_weight(shape=shape, initializer=initializer, name=attribute))
        self.built = True  # the sizes are known: nothing is built at the first call

    def _attribute(self, name: str) -> str:
        return self.attributes.get(name, name.replace("w_", "W_"))

    def gates_of_products(self) -> Sequence[tuple[str, ...]]:
        """Which gates each product of `step` is for, where they cannot all be multiplied at once."""
        return [self.cell.gates]

    def weights_of_step(self) -> list[Weight]:
        """The weights of the products of `step`; see `d2lrnn_tensorflow.recurrence.Weight`."""
        w_h, widths = getattr(self, self._attribute("w_h")), self._widths()
        return [(w_h,)] if len(widths) == 1 else [(part,) for part in tf.split(w_h, widths, axis=1)]

    def _widths(self) -> list[int]:
        return [len(gates) * self.num_hiddens for gates in self.gates_of_products()]

    @takes_tokens
    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Outputs (T, B, h) and the state after the last step.

        Args:
            inputs: (T, B, num_inputs) or (T, B).
            state: one tensor (B, h), or a tuple of them for a cell with several; None is zeros.
        """
        if state is None:
            parts = (self._zeros(inputs),) * len(self.cell.states)
        else:
            parts = tuple(state) if len(self.cell.states) > 1 else (sole_state(state),)
        projected = project(inputs, *(getattr(self, self._attribute(name)) for name in ("w_x", "b")))
        vectors = {name: getattr(self, self._attribute(name)) for name in self.cell.vectors}
        if projected.shape[0] == 1 and len(self._widths()) > 1:
            parts = self.step(projected[0], parts, *self._whole_products(), **vectors)
            outputs = parts[0][tf.newaxis]
        else:
            outputs, parts = recurrence(self.step, projected, parts, self.weights_of_step(), vectors)
        return outputs, parts if len(parts) > 1 else parts[0]

    def _whole_products(self) -> list[Product]:
        """The products for a single step: with all of w_h, of whose result the step takes its gates' columns.

        In XLA a single step with products by some columns of w_h takes four to six times as long at h = 512.
        """
        w_h, widths = tf.convert_to_tensor(getattr(self, self._attribute("w_h"))), self._widths()

        def product(k: int, left: Tensor) -> Tensor:
            return tf.split(tf.matmul(left, w_h), widths, axis=1)[k]

        return [partial(product, k) for k in range(len(widths))]

    def _zeros(self, inputs: Tensor) -> Tensor:
        return tf.zeros((tf.shape(inputs)[1], self.num_hiddens), self.compute_dtype)


class RNNScratch(ScratchLayer):
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

    cell = cells.RNN
    attributes: ClassVar = {"w_x": "W_xh", "w_h": "W_hh", "b": "b_h"}

    @staticmethod
    def step(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """``tanh(X + H W_hh)``."""
        (H,) = state
        return (tf.tanh(X + product(H)),)


class ReluRNNScratch(ScratchLayer):
    """A ReLU RNN of one layer: ``H_t = max(0, X_t W_xh + H_{t-1} W_hh + b_h)`` (Le et al. 2015).

    The arguments and the state are those of `RNNScratch`.
    """

    cell = cells.RELU_RNN
    attributes: ClassVar = RNNScratch.attributes

    @staticmethod
    def step(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """``max(0, X + H W_hh)``."""
        (H,) = state
        return (tf.nn.relu(X + product(H)),)


class GRUScratch(ScratchLayer):
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

    cell = cells.GRU

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        sigma: float = 0.01,
        *,
        reset_after: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_inputs, num_hiddens, sigma, reset_after=reset_after, **kwargs)

    @staticmethod
    def step(X: Tensor, state: LayerState, *products: Product) -> LayerState:
        """The formulas of the class: with one product, the reset follows it; with two, it is between them."""
        (H,) = state
        h = H.shape[1]
        X_rz, X_n = tf.split(X, [2 * h, h], axis=1)
        if len(products) == 1:
            H_rz, H_n = tf.split(products[0](H), [2 * h, h], axis=1)
            R, Z = tf.split(tf.sigmoid(X_rz + H_rz), 2, axis=1)
            N = tf.tanh(X_n + R * H_n)
        else:
            product_rz, product_n = products
            R, Z = tf.split(tf.sigmoid(X_rz + product_rz(H)), 2, axis=1)
            N = tf.tanh(X_n + product_n(R * H))
        return (N + Z * (H - N),)

    def gates_of_products(self) -> Sequence[tuple[str, ...]]:
        """All at once, or the candidate's product after those of the gates."""
        return [("r", "z", "n")] if self.reset_after else [("r", "z"), ("n",)]

    def weights_of_step(self) -> list[Weight]:
        """``W_h``, with ``b_hn`` as the bias of its last third; or ``W_h[rz]`` and ``W_h[n]``."""
        if not self.reset_after:
            return super().weights_of_step()
        zeros = tf.zeros(2 * self.num_hiddens, self.compute_dtype)
        return [(self.W_h, tf.concat([zeros, self.b_hn], axis=0))]


class LSTMScratch(ScratchLayer):
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

    cell = cells.LSTM

    @staticmethod
    def step(X: Tensor, state: LayerState, product: Product) -> LayerState:
        """The formulas of the class."""
        H, C = state
        I, F, G, O = tf.split(X + product(H), 4, axis=1)
        C = tf.sigmoid(F) * C + tf.sigmoid(I) * tf.tanh(G)
        return tf.sigmoid(O) * tf.tanh(C), C


class MGUScratch(ScratchLayer):
    """A minimal gated unit of one layer (Zhou et al. 2016).

    The gates f, n stand side by side in ``W_x`` (in, 2h), ``W_h`` (h, 2h) and ``b`` (2h,):

    - ``F = σ(X_t W_x[f] + b[f] + H W_h[f])``;  ``N = tanh(X_t W_x[n] + b[n] + (F ∘ H) W_h[n])``
    - ``H' = (1 - F) ∘ H + F ∘ N``, which is ``H + F ∘ (N - H)``

    The arguments and the state are those of `RNNScratch`.
    """

    cell = cells.MGU

    @staticmethod
    def step(X: Tensor, state: LayerState, product_f: Product, product_n: Product) -> LayerState:
        """The formulas of the class."""
        (H,) = state
        X_f, X_n = tf.split(X, 2, axis=1)
        F = tf.sigmoid(X_f + product_f(H))
        N = tf.tanh(X_n + product_n(F * H))
        return (H + F * (N - H),)

    def gates_of_products(self) -> Sequence[tuple[str, ...]]:
        """The candidate's product comes after the gate's."""
        return [("f",), ("n",)]


#: The library's own scratch layers, by the name of their cell.
SCRATCH: dict[str, type[ScratchLayer]] = {
    layer.cell.name: layer for layer in (RNNScratch, ReluRNNScratch, GRUScratch, LSTMScratch, MGUScratch)
}


def find_scratch(cell: str) -> type[ScratchLayer]:
    """The scratch layer of a cell, the library's own or another package's.

    Raises:
        SpecError: no package has one for this backend.

    Example:
        >>> find_scratch("mgu").__name__
        'MGUScratch'
    """
    if cell in SCRATCH:
        return SCRATCH[cell]
    layer: type[ScratchLayer] = cells.find_formula("tensorflow", cell)
    return layer


class StackedRNNScratch(Module):
    """Scratch layers on top of each other, each fed with the outputs of the one below it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h, of every layer.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: makes a layer: a scratch class, or a function with the same arguments.
        dropout: the rate between layers while training, never after the last.
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
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters(ignore=["layer", "kwargs"])
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        self.rnns = [layer(size, num_hiddens, sigma, dtype=self.dtype_policy) for size in sizes]
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.built = True

    @takes_tokens
    def forward(
        self, inputs: Tensor, state: Sequence[Any] | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Outputs of the last layer (T, B, h) and the states of all.

        Args:
            inputs: (T, B, num_inputs) or (T, B).
            state: what it returned before, or None.
            masks: (L - 1, T, B, h), multiply the outputs of all layers but the last in place of dropout.
        """
        outputs = inputs
        states = []
        for l, rnn in enumerate(self.rnns):
            if l > 0:
                outputs = drop(self.dropout, outputs, None if masks is None else masks[l - 1])
            outputs, final = rnn(outputs, None if state is None else state[l])
            states.append(final)
        return outputs, tuple(states)
