"""The concise models: PyTorch's own recurrent layers.

PyTorch, like cuDNN, adds two biases to every gate. Under SGD their sum would move at twice the rate, and a
clipping norm would count it twice. The models here start the recurrent one at zero and keep it there, save
for the GRU's n gate, where it stands inside the reset and is a parameter of its own (b_hn).

On a GPU they call cuDNN. On a CPU there are faster ways to the same function on the same weights: the
recurrences of `d2lrnn_torch.recurrence`, layer by layer, and for a single step PyTorch's cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.hooks import unserializable_hook

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn.errors import SpecError
from d2lrnn_torch.layer import project
from d2lrnn_torch.module import Module
from d2lrnn_torch.recurrence import GRURecurrence, LSTMRecurrence, TanhRecurrence
from d2lrnn_torch.tokens import check_tensor, takes_tokens, vectors


# benchmarks/tricks: torch, states of the layers apart
class LayerStates(list[Any]):
    """The states of the layers, each H (B, h) or ``(H, C)``, as they leave a single step.

    Stacking and unbinding them at every step would slow down the generation of text.
    """


class RNN(Module):
    """A tanh RNN on `torch.nn.RNN`.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.

    Example:
        >>> outputs, H = RNN(28, 32, num_layers=2)(torch.ones(5, 3, 28))
        >>> outputs.shape, H.shape
        (torch.Size([5, 3, 32]), torch.Size([2, 3, 32]))
    """

    cell: ClassVar[Cell] = cells.RNN
    _native: ClassVar[Callable[..., nn.RNNBase]] = nn.RNN

    def __init__(self, num_inputs: int, num_hiddens: int, num_layers: int = 1, dropout: float = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        # PyTorch warns of a rate where there is one layer, and so nothing to drop between layers.
        rate = dropout if num_layers > 1 else 0.0
        self.rnn = self._native(num_inputs, num_hiddens, num_layers, dropout=rate)
        with torch.no_grad():
            for bias in _recurrent_biases(self.rnn):
                bias.zero_()
        self._train_one_bias()

    @takes_tokens
    def forward(self, inputs: Tensor, state: Any = None, masks: Tensor | None = None) -> tuple[Tensor, Any]:
        """Runs all layers over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B) instead of one-hot vectors.
            state: (L, B, h); for an LSTM ``(H, C)``, each (L, B, h); or what `next_state` returned; None is
                zeros.
            masks: (L - 1, T, B, h), which multiply the outputs of all layers but the last. None leaves
                dropout to PyTorch: of the layers' own rate while training, else none.

        Returns:
            The outputs of the last layer (T, B, h), and the final state.
        """
        check_tensor(inputs)
        rnn = self.rnn
        if masks is not None:
            return _run_by_layer(rnn, inputs, state, masks)
        if inputs.is_cpu and is_plain(rnn) and not (rnn.training and rnn.dropout):
            if inputs.shape[0] > 1:
                return _run_by_layer(rnn, inputs, state)
            if state is None:
                state = _zeros(rnn, inputs.shape[1])
            H, states = run_cells(rnn, inputs[0], state)
            return H.unsqueeze(0), stacked(states)
        if isinstance(state, LayerStates):
            state = stacked(state)
        return rnn(vectors(inputs, rnn.input_size, like=rnn.weight_ih_l0), state)

    def next_state(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step, without dropout, as the generation of text needs it.

        Args:
            inputs: (B, num_inputs), or token indices (B,).
            state: see `forward`.

        Returns:
            The outputs of the last layer (B, h), and the next state, on a CPU as `LayerStates`.
        """
        rnn = self.rnn
        if inputs.is_cpu and is_plain(rnn):
            return run_cells(rnn, inputs, state)
        outputs, state = self(inputs.unsqueeze(0), state)
        return outputs[0], state

    def begin_state(self, batch_size: int) -> Any:
        """The state before the first step: zeros."""
        return _zeros(self.rnn, batch_size)

    def _train_one_bias(self) -> None:
        for bias in _recurrent_biases(self.rnn):
            bias.requires_grad_(False)


class ReluRNN(RNN):
    """A ReLU RNN on `torch.nn.RNN`; the arguments are those of `RNN`."""

    cell = cells.RELU_RNN
    _native = partial(nn.RNN, nonlinearity="relu")


class GRU(RNN):
    """A gated recurrent unit on `torch.nn.GRU`; the arguments are those of `RNN`."""

    cell = cells.GRU
    _native = nn.GRU

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copied or unpickled tensor has lost its hooks."""
        super().__setstate__(state)
        self._train_one_bias()

    def _train_one_bias(self) -> None:
        for bias in _recurrent_biases(self.rnn):
            bias.register_hook(_only_b_hn)


class LSTM(RNN):
    """Long short-term memory on `torch.nn.LSTM`; arguments as for `RNN`; the state is ``(H, C)``."""

    cell = cells.LSTM
    _native = nn.LSTM


#: The concise layers, by the name of their cell.
CONCISE_LAYERS: dict[str, type[RNN]] = {kind.cell.name: kind for kind in (RNN, ReluRNN, GRU, LSTM)}


def find_concise_layer(cell: str) -> type[RNN]:
    """The concise layer of a cell.

    Raises:
        SpecError: PyTorch has none.

    Example:
        >>> find_concise_layer(cells.GRU.name)
        <class 'd2lrnn_torch.concise.GRU'>
    """
    if cell not in CONCISE_LAYERS:
        raise SpecError(f"PyTorch has no layer of the cell {cell}: take the scratch implementation")
    return CONCISE_LAYERS[cell]


def _tanh_layer(
    inputs: Tensor, H: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = TanhRecurrence.apply(project(inputs, w_x.t(), b_x + b_h), H, w_h.t())
    return outputs, outputs[-1]


def _relu_layer(
    inputs: Tensor, H: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
) -> tuple[Tensor, Tensor]:
    X = vectors(inputs, w_x.shape[1], like=w_x)
    outputs, final = torch.rnn_relu(X, H.unsqueeze(0), [w_x, w_h, b_x, b_h], **_one_layer())
    return outputs, final.squeeze(0)


def _gru_layer(
    inputs: Tensor, H: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
) -> tuple[Tensor, Tensor]:
    h = H.shape[-1]
    projected = project(inputs, w_x.t(), b_x + pad(b_h[: 2 * h], (0, h)))
    outputs = GRURecurrence.apply(projected, H, w_h.t(), b_h[2 * h :])
    return outputs, outputs[-1]


# benchmarks/tricks: torch, PyTorch's own LSTM
def _lstm_layer(
    inputs: Tensor, state: tuple[Tensor, Tensor], w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """By the faster of two ways to the same numbers.

    `torch.lstm` is cuDNN's on a GPU, and oneDNN's on a CPU in float32. It needs one-hot vectors for tokens,
    which for a large vocabulary cost more than the layer, and in float64 it is a loop that autograd
    differentiates: in both cases `LSTMRecurrence` is faster.
    """
    H, C = state
    fused = H.is_cuda or (H.dtype is torch.float32 and torch.backends.mkldnn.is_available())
    few = inputs.is_floating_point() or w_x.shape[1] <= 2 * w_h.shape[1]
    if not (fused and few):
        outputs, C = LSTMRecurrence.apply(project(inputs, w_x.t(), b_x + b_h), H, C, w_h.t())
        return outputs, (outputs[-1], C)
    X = vectors(inputs, w_x.shape[1], like=w_x)
    outputs, H, C = torch.lstm(X, (H.unsqueeze(0), C.unsqueeze(0)), [w_x, w_h, b_x, b_h], **_one_layer())
    return outputs, (H.squeeze(0), C.squeeze(0))


def _one_layer() -> dict[str, Any]:
    """The further arguments of PyTorch's functions for all steps, for one layer."""
    return {
        "has_biases": True,
        "num_layers": 1,
        "dropout": 0.0,
        "train": torch.is_grad_enabled(),
        "bidirectional": False,
        "batch_first": False,
    }


class _Functions(NamedTuple):
    """What computes one layer on a CPU, from its weights as PyTorch stores them.

    Attributes:
        step: one step, from inputs (B, in) and a state to the next state.
        sequence: all steps, from inputs (T, B, in) or tokens (T, B) and a state to outputs and a state.
    """

    step: Callable[..., Any]
    sequence: Callable[..., tuple[Tensor, Any]]


#: By the `mode` of PyTorch's layers.
_FUNCTIONS = {
    "RNN_TANH": _Functions(torch.rnn_tanh_cell, _tanh_layer),
    "RNN_RELU": _Functions(torch.rnn_relu_cell, _relu_layer),
    "GRU": _Functions(torch.gru_cell, _gru_layer),
    "LSTM": _Functions(torch.lstm_cell, _lstm_layer),
}


def is_plain(rnn: nn.Module) -> bool:
    """Whether the functions above compute what `rnn` does: a subclass may have put any layer there."""
    return (
        isinstance(rnn, nn.RNNBase)
        and rnn.mode in _FUNCTIONS
        and rnn.bias
        and not (rnn.bidirectional or rnn.batch_first or rnn.proj_size)
    )


# benchmarks/tricks: torch, a single step by PyTorch's cells
def run_cells(rnn: nn.RNNBase, inputs: Tensor, state: Any) -> tuple[Tensor, LayerStates]:
    """What ``rnn`` computes for one step, inputs (B, in) or tokens (B,): the last H (B, h), and all states.

    A cell for every layer takes 0.2 to 0.75 of the time of the function for all layers and steps
    (benchmarks/results/tricks.md).
    """
    cell = _FUNCTIONS[rnn.mode].step
    H = vectors(inputs, rnn.input_size, like=rnn._flat_weights[0])
    states = LayerStates()
    for l, before in enumerate(_by_layer(state)):
        after = cell(H, before, *_weights(rnn, l))
        H = after if isinstance(after, Tensor) else after[0]
        states.append(after)
    return H, states


def _run_by_layer(
    rnn: nn.RNNBase, inputs: Tensor, state: Any, masks: Tensor | None = None
) -> tuple[Tensor, Any]:
    """What ``rnn(inputs, state)`` computes, with `masks` between the layers."""
    sequence = _FUNCTIONS[rnn.mode].sequence
    if state is None:
        state = _zeros(rnn, inputs.shape[1])
    outputs, states = inputs, LayerStates()
    for l, before in enumerate(_by_layer(state)):
        if masks is not None and l > 0:
            outputs = outputs * masks[l - 1]
        outputs, after = sequence(outputs, before, *_weights(rnn, l))
        states.append(after)
    return outputs, stacked(states)


def _zeros(rnn: nn.RNNBase, batch_size: int) -> Any:
    """The state before the first step."""
    zeros = rnn.weight_ih_l0.new_zeros(rnn.num_layers, batch_size, rnn.hidden_size)
    return (zeros, zeros) if isinstance(rnn, nn.LSTM) else zeros


def _by_layer(state: Any) -> LayerStates:
    """A state in either form, split by layer."""
    if isinstance(state, LayerStates):
        return state
    if isinstance(state, Tensor):
        return LayerStates(state.unbind())
    return LayerStates(zip(*(part.unbind() for part in state), strict=True))


def stacked(states: LayerStates) -> Any:
    """A state as PyTorch's own layers take it: one tensor (L, B, h), or ``(H, C)`` of two."""
    if isinstance(states[0], Tensor):
        return torch.stack(states)
    return tuple(torch.stack(part) for part in zip(*states, strict=True))


def _weights(rnn: nn.RNNBase, l: int) -> list[Tensor]:
    """w_ih, w_hh, b_ih, b_hh of layer l, from the list that PyTorch's own layers read."""
    return rnn._flat_weights[4 * l : 4 * l + 4]


def _recurrent_biases(rnn: nn.RNNBase) -> list[nn.Parameter]:
    return [getattr(rnn, f"bias_hh_l{l}") for l in range(rnn.num_layers)]


@unserializable_hook
def _only_b_hn(gradient: Tensor) -> Tensor:
    """Zeroes the gradient of the r and z parts of a GRU's recurrent bias (3·h,)."""
    h = len(gradient) // 3
    return pad(gradient[2 * h :], (2 * h, 0))
