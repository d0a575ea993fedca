"""The concise models: Gluon's own recurrent layers, any number of them, with dropout between.

Each layer is run by itself (`d2lrnn_mxnet.layers`): for more than one layer Gluon has wrong gradients on the
CPU.

Gluon keeps two biases a gate, of which only the sum matters. The recurrent one stays zero and is not trained,
save that of a GRU's n gate, which the reset gate multiplies.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mxnet import np
from mxnet.gluon import nn, rnn

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn_mxnet.layers import run_layers
from d2lrnn_mxnet.module import Module
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


@use_np
class RNN(Module, nn.HybridBlock):
    """A tanh RNN on ``gluon.rnn.RNN``.

    A subclass may skip this constructor and make a Gluon layer of its own, ``self.rnn``: `forward` runs it,
    whatever its kind, also a bidirectional one.

    Args:
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training, never after the last.
        num_inputs: size of the input vectors; 0 takes it from the first call, as Gluon does.

    Attributes:
        rnn: Gluon's layer, which holds the parameters of all L.

    Example:
        >>> outputs, H = RNN(32, num_layers=2)(np.ones((5, 3, 28)))
        >>> outputs.shape, H.shape
        ((5, 3, 32), (2, 3, 32))
    """

    cell: ClassVar[Cell] = cells.RNN

    #: A layer that a chapter has made trains all its biases.
    _one_bias = False

    def __init__(
        self, num_hiddens: int, num_layers: int = 1, dropout: float = 0, *, num_inputs: int = 0
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self._one_bias = True
        with self.name_scope():
            self.rnn = self._native(num_hiddens, num_layers, dropout, num_inputs)
        self.initialize()
        self._unused = True

    def _native(self, num_hiddens: int, num_layers: int, dropout: float, num_inputs: int) -> Any:
        layer = rnn.RNN(num_hiddens, num_layers, "tanh", dropout=dropout, input_size=num_inputs)
        return _without_recurrent_biases(layer)

    def forward(self, inputs: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """Runs all layers over all time steps.

        Args:
            inputs: (T, B, in).
            state: (L, B, h), for an LSTM ``(H, C)``, each (L, B, h); None is zeros. It is not changed.
            masks: L - 1 dropout masks, each (T, B, h), that multiply the outputs of all layers but the last;
                an empty list drops nothing. None leaves dropout to MXNet: on inside ``autograd.record()``,
                else off.

        Returns:
            The outputs of the last layer (T, B, h) and the final state.
        """
        self._unused = False
        if state is None:
            infos = self.rnn.state_info(inputs.shape[1])
            parts = [np.zeros(info["shape"], dtype=inputs.dtype, ctx=inputs.ctx) for info in infos]
        else:
            parts = [*state] if isinstance(state, (list, tuple)) else [state]
        outputs, final = run_layers(self.rnn, inputs, parts, masks, one_bias=self._one_bias)
        return outputs, final[0] if len(final) == 1 else tuple(final)


@use_np
class ReluRNN(RNN):
    """A ReLU RNN on ``gluon.rnn.RNN``; the arguments are those of `RNN`."""

    cell = cells.RELU_RNN

    def _native(self, num_hiddens: int, num_layers: int, dropout: float, num_inputs: int) -> Any:
        layer = rnn.RNN(num_hiddens, num_layers, "relu", dropout=dropout, input_size=num_inputs)
        return _without_recurrent_biases(layer)


@use_np
class GRU(RNN):
    """A gated recurrent unit on ``gluon.rnn.GRU``; the arguments are those of `RNN`."""

    cell = cells.GRU

    def _native(self, num_hiddens: int, num_layers: int, dropout: float, num_inputs: int) -> Any:
        # Its biases are trained: `run_layers` replaces those of the r and z gates by zeros.
        return rnn.GRU(num_hiddens, num_layers, dropout=dropout, input_size=num_inputs)


@use_np
class LSTM(RNN):
    """Long short-term memory on ``gluon.rnn.LSTM``; the arguments are those of `RNN`.

    Its state is ``(H, C)``.
    """

    cell = cells.LSTM

    def _native(self, num_hiddens: int, num_layers: int, dropout: float, num_inputs: int) -> Any:
        layer = rnn.LSTM(num_hiddens, num_layers, dropout=dropout, input_size=num_inputs)
        return _without_recurrent_biases(layer)


#: The concise models by the name of their cell.
CONCISE: dict[str, type[RNN]] = {kind.cell.name: kind for kind in (RNN, ReluRNN, GRU, LSTM)}


def _without_recurrent_biases(layer: Any) -> Any:
    """The layer, whose recurrent biases, which are zero, are no longer trained."""
    for parameter in layer.collect_params(".*h2h_bias").values():
        parameter.grad_req = "null"
    return layer
