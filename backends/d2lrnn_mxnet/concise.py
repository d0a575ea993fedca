"""The concise models: Gluon's own recurrent layers, any number of them, with dropout between.

Layers of one layer each are stacked here. Gluon's own ``num_layers`` has wrong gradients on the CPU (in
float64 always, in float32 without oneDNN), and its ``dropout`` does nothing there.

Gluon keeps two biases a gate whose sum is all that counts. The recurrent one stays zero and is not trained,
save that of a GRU's n gate, which the reset gate multiplies.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet import np
from mxnet.gluon import nn, rnn
from mxnet.ndarray import NDArray

from d2lrnn_mxnet.recurrence import Array, cut


@mx.util.use_np
class _GRULayer(rnn.GRU):
    """Gluon's GRU layer with the recurrent biases of its r and z gates held at zero."""

    def hybrid_forward(
        self, F: Any, inputs: Array, states: list[Array], sequence_length: Any = None, **parameters: Array
    ) -> Any:
        _, _, b_hn = cut(F, parameters["l0_h2h_bias"], 3)
        zeros = F.np.zeros_like(b_hn)
        parameters["l0_h2h_bias"] = F.np.concatenate([zeros, zeros, b_hn], axis=0)
        return super().hybrid_forward(F, inputs, states, sequence_length, **parameters)


@mx.util.use_np
class RNN(nn.HybridBlock):
    """A tanh RNN on ``gluon.rnn.RNN``.

    Args:
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training, never after the last.
        num_inputs: size of the input vectors; 0 takes it from the first call, as Gluon does.

    Attributes:
        layers: Gluon's layers, the lowest first.

    Example:
        >>> outputs, H = RNN(32, num_layers=2)(np.ones((5, 3, 28)))
        >>> outputs.shape, H.shape
        ((5, 3, 32), (2, 3, 32))
    """

    num_states = 1

    def __init__(
        self, num_hiddens: int, num_layers: int = 1, dropout: float = 0, *, num_inputs: int = 0
    ) -> None:
        super().__init__()
        self.num_hiddens, self.num_layers = num_hiddens, num_layers
        with self.name_scope():
            self.layers = nn.HybridSequential()
            for l in range(num_layers):
                self.layers.add(self._layer(num_hiddens, num_inputs if l == 0 else num_hiddens))
            self.dropout = nn.Dropout(dropout)
        self.initialize()

    def _layer(self, num_hiddens: int, num_inputs: int) -> Any:
        layer = rnn.RNN(num_hiddens, activation="tanh", input_size=num_inputs)
        layer.l0_h2h_bias.grad_req = "null"
        return layer

    def forward(self, inputs: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """Runs all layers over all time steps.

        Args:
            inputs: (T, B, in).
            state: (L, B, h), for an LSTM ``(H, C)``, each (L, B, h); None is zeros. It is not changed.
            masks: L - 1 dropout masks, each (T, B, h), that multiply the outputs of all layers but the last;
                an empty list drops nothing. None leaves dropout to Gluon: on inside ``autograd.record()``,
                else off.

        Returns:
            The outputs of the last layer (T, B, h) and the final state.
        """
        if state is None:
            shape = self.num_layers, inputs.shape[1], self.num_hiddens
            parts = [np.zeros(shape, dtype=inputs.dtype, ctx=inputs.ctx) for _ in range(self.num_states)]
        else:
            parts = [state] if self.num_states == 1 else state
        F = mx.nd if isinstance(inputs, NDArray) else mx.sym
        by_layer = zip(*(cut(F, part, self.num_layers) for part in parts), strict=True)
        outputs, finals = inputs, []
        for l, (layer, layer_state) in enumerate(zip(self.layers, by_layer, strict=True)):
            if l > 0 and masks is None:
                outputs = self.dropout(outputs)
            elif l > 0 and masks:
                outputs = outputs * masks[l - 1]
            outputs, final = layer(outputs, list(layer_state))
            finals.append(final)
        state = tuple(F.np.concatenate(part, axis=0) for part in zip(*finals, strict=True))
        return outputs, state[0] if self.num_states == 1 else state


@mx.util.use_np
class GRU(RNN):
    """A gated recurrent unit on ``gluon.rnn.GRU``; the arguments are those of `RNN`."""

    def _layer(self, num_hiddens: int, num_inputs: int) -> Any:
        return _GRULayer(num_hiddens, input_size=num_inputs)


@mx.util.use_np
class LSTM(RNN):
    """Long short-term memory on ``gluon.rnn.LSTM``; the arguments are those of `RNN`.

    Its state is ``(H, C)``.
    """

    num_states = 2

    def _layer(self, num_hiddens: int, num_inputs: int) -> Any:
        layer = rnn.LSTM(num_hiddens, input_size=num_inputs)
        layer.l0_h2h_bias.grad_req = "null"
        return layer
