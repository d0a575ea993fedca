"""The scratch models: the formulas spelt out.

Every model takes inputs (T, B, num_inputs), or token indices (T, B) instead of one-hot vectors, and returns
the hidden states of all steps (T, B, h) with its final state. `step` is the formula of one time step;
`d2lrnn_torch.layer` does the rest. The formulas with their sources are in `d2lrnn.contract.cells`.

The tanh RNN, the GRU and the LSTM run over a sequence by the same formula with a backward pass by hand
(`d2lrnn_torch.recurrence`), which is faster than autograd's. No model here calls a recurrent layer or a fused
recurrent operator of PyTorch.

T = time steps, B = batch size, h = hidden units; weights are (in, out), and gates stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2lrnn.contract import cells
from d2lrnn_torch.dropout import dropped
from d2lrnn_torch.layer import ScratchLayer, project, with_sequence
from d2lrnn_torch.module import Module
from d2lrnn_torch.recurrence import GRUBeforeRecurrence, GRURecurrence, LSTMRecurrence, TanhRecurrence
from d2lrnn_torch.tokens import takes_tokens


def _tanh_sequence(layer: RNNScratch, inputs: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
    outputs = TanhRecurrence.apply(project(inputs, layer.W_xh, layer.b_h), H, layer.W_hh)
    return outputs, outputs[-1]


def _gru_sequence(layer: GRUScratch, inputs: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
    if layer.b_hn is None:
        (W_xrz, W_xn), (W_hrz, W_hn), (b_rz, b_n) = map(layer.split_gates, (layer.W_x, layer.W_h, layer.b))
        projected = project(inputs, W_xrz, b_rz), project(inputs, W_xn, b_n)
        outputs = GRUBeforeRecurrence.apply(*projected, H, W_hrz, W_hn)
    else:
        outputs = GRURecurrence.apply(project(inputs, layer.W_x, layer.b), H, layer.W_h, layer.b_hn)
    return outputs, outputs[-1]


def _lstm_sequence(layer: LSTMScratch, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
    outputs, C = LSTMRecurrence.apply(project(inputs, layer.W_x, layer.b), *state, layer.W_h)
    return outputs, (outputs[-1], C)


class RNNScratch(ScratchLayer):
    """A tanh RNN of one layer: ``H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h)``.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; biases start at zero.

    Example:
        >>> outputs, state = RNNScratch(28, 32)(torch.ones(5, 2, 28))
        >>> outputs.shape, state.shape
        (torch.Size([5, 2, 32]), torch.Size([2, 32]))
    """

    cell = cells.RNN
    own_names = {"w_x": "W_xh", "w_h": "W_hh", "b": "b_h"}  # noqa: RUF012  # the book's

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__(num_inputs, num_hiddens, sigma)

    @with_sequence(_tanh_sequence)
    def step(self, X: Tensor, H: Tensor) -> Tensor:
        """The next state (B, h) from projected inputs ``X_t W_xh + b_h`` (B, h) and the state (B, h)."""
        return torch.tanh(X + H @ self.W_hh)


class ReluRNNScratch(RNNScratch):
    """A ReLU RNN of one layer: ``H_t = max(0, X_t W_xh + H_{t-1} W_hh + b_h)``.

    The arguments are those of `RNNScratch`. Source: Le, Jaitly and Hinton 2015, "A simple way to initialize
    recurrent networks of rectified linear units".
    """

    cell = cells.RELU_RNN

    def step(self, X: Tensor, H: Tensor) -> Tensor:
        """See `RNNScratch.step`."""
        return torch.relu(X + H @ self.W_hh)


class GRUScratch(ScratchLayer):
    """A gated recurrent unit of one layer (Cho et al. 2014).

    - reset and update gate: ``R, Z = σ(X_t W_x[rz] + H W_h[rz] + b[rz])``
    - candidate, the book's form: ``N = tanh(X_t W_x[n] + (R ∘ H) W_h[n] + b[n])``
    - candidate, reset after the product: ``N = tanh(X_t W_x[n] + R ∘ (H W_h[n] + b_hn) + b[n])``
    - ``H_t = Z ∘ H + (1 - Z) ∘ N``

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; biases start at zero.
        reset_after: where the reset gate is applied; after the product is what concise layers compute.

    Example:
        >>> outputs, state = GRUScratch(28, 32, reset_after=True)(torch.ones(5, 2, 28))
        >>> outputs.shape, state.shape
        (torch.Size([5, 2, 32]), torch.Size([2, 32]))
    """

    cell = cells.GRU

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, *, reset_after: bool = False
    ) -> None:
        super().__init__(num_inputs, num_hiddens, sigma, reset_after=reset_after)
        self.save_hyperparameters()
        if not reset_after:
            self.register_parameter("b_hn", None)

    @with_sequence(_gru_sequence)
    def step(self, X: Tensor, H: Tensor) -> Tensor:
        """The next state (B, h) from projected inputs ``X_t W_x + b`` (B, 3·h) and the state (B, h)."""
        (X_rz, X_n), (W_rz, W_n) = self.split_gates(X), self.split_gates(self.W_h)
        R, Z = torch.sigmoid(X_rz + H @ W_rz).chunk(2, dim=1)
        if self.b_hn is None:
            N = torch.tanh(X_n + (R * H) @ W_n)
        else:
            N = torch.tanh(X_n + R * (H @ W_n + self.b_hn))
        return torch.lerp(N, H, Z)  # Z ∘ H + (1 - Z) ∘ N

    def split_gates(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """What belongs to the two gates and to the candidate, (…, 2·h) and (…, h), of (…, 3·h)."""
        # benchmarks/tricks: torch, gates split without Python
        # `Tensor.split`, which is written in Python, takes almost twice as long.
        return gates.split_with_sizes([2 * self.num_hiddens, self.num_hiddens], dim=-1)


class LSTMScratch(ScratchLayer):
    """Long short-term memory of one layer (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    - ``I, F, O = σ(X_t W_x[ifo] + H W_h[ifo] + b[ifo])``; ``G = tanh(X_t W_x[g] + H W_h[g] + b[g])``
    - ``C_t = F ∘ C + I ∘ G``; ``H_t = O ∘ tanh(C_t)``

    The state is ``(H, C)``, each (B, h).

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; biases start at zero.

    Example:
        >>> outputs, (H, C) = LSTMScratch(28, 32)(torch.ones(5, 2, 28))
        >>> outputs.shape, C.shape
        (torch.Size([5, 2, 32]), torch.Size([2, 32]))
    """

    cell = cells.LSTM

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__(num_inputs, num_hiddens, sigma)

    @with_sequence(_lstm_sequence)
    def step(self, X: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The next ``(H, C)`` from projected inputs ``X_t W_x + b`` (B, 4·h) and ``(H, C)``."""
        H, C = state
        I, F, G, O = (X + H @ self.W_h).chunk(4, dim=1)
        C = torch.sigmoid(F) * C + torch.sigmoid(I) * torch.tanh(G)
        return torch.sigmoid(O) * torch.tanh(C), C


class MGUScratch(ScratchLayer):
    """A minimal gated unit of one layer; the arguments are those of `RNNScratch`.

    - ``F = σ(X_t W_x[f] + H W_h[f] + b[f])``; ``N = tanh(X_t W_x[n] + (F ∘ H) W_h[n] + b[n])``
    - ``H_t = (1 - F) ∘ H + F ∘ N``

    Source: Zhou, Wu, Zhang and Zhou 2016, "Minimal gated unit for recurrent neural networks".
    """

    cell = cells.MGU

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__(num_inputs, num_hiddens, sigma)

    def step(self, X: Tensor, H: Tensor) -> Tensor:
        """The next state (B, h) from projected inputs ``X_t W_x + b`` (B, 2·h) and the state (B, h)."""
        (X_f, X_n), (W_f, W_n) = X.chunk(2, dim=1), self.W_h.chunk(2, dim=1)
        F = torch.sigmoid(X_f + H @ W_f)
        N = torch.tanh(X_n + (F * H) @ W_n)
        return torch.lerp(H, N, F)  # (1 - F) ∘ H + F ∘ N


#: The library's own scratch layers, by the name of their cell.
SCRATCH_LAYERS: dict[str, type[ScratchLayer]] = {
    kind.cell.name: kind for kind in (RNNScratch, ReluRNNScratch, GRUScratch, LSTMScratch, MGUScratch)
}


def find_scratch_layer(cell: str) -> type[ScratchLayer]:
    """The scratch layer of a cell, the library's own or another package's.

    Raises:
        SpecError: there is none for this backend.

    Example:
        >>> find_scratch_layer(cells.MGU.name)
        <class 'd2lrnn_torch.scratch.MGUScratch'>
    """
    return SCRATCH_LAYERS.get(cell) or cells.find_formula("torch", cell)


class StackedRNNScratch(Module):
    """`num_layers` layers, each fed with the outputs of the one below it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h, of every layer.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: makes a layer from (num_inputs, num_hiddens, sigma): a `ScratchLayer` or a partial of one.
        dropout: the rate between layers while training.

    Example:
        >>> outputs, states = StackedRNNScratch(28, 32, num_layers=2, layer=GRUScratch)(torch.ones(5, 2, 28))
        >>> outputs.shape, [H.shape for H in states]
        (torch.Size([5, 2, 32]), [torch.Size([2, 32]), torch.Size([2, 32])])
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int,
        sigma: float = 0.01,
        *,
        layer: Callable[[int, int, float], nn.Module] = RNNScratch,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["layer"])
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        # A ModuleList registers the parameters of every layer, so that an optimiser gets them.
        self.rnns = nn.ModuleList(layer(size, num_hiddens, sigma) for size in sizes)

    @takes_tokens
    def forward(
        self, inputs: Tensor, state: Sequence[Any] | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Runs all layers over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B).
            state: the states of the layers, the lowest first; None is zeros. It is not changed.
            masks: (L - 1, T, B, h), which multiply the outputs of all layers but the last. None leaves
                dropout to PyTorch: at the layers' own rate while training, else none.

        Returns:
            The hidden states of the top layer (T, B, h), and the final states of all layers.
        """
        outputs, final = inputs, []
        for l, (rnn, before) in enumerate(zip(self.rnns, state or [None] * self.num_layers, strict=True)):
            if l > 0:
                mask = None if masks is None else masks[l - 1]
                outputs = dropped(outputs, mask, self.dropout, training=self.training)
            outputs, after = rnn(outputs, before)
            final.append(after)
        return outputs, tuple(final)

    def next_state(self, inputs: Tensor, state: Sequence[Any]) -> tuple[Tensor, tuple[Any, ...]]:
        """One step, without dropout: inputs (B, num_inputs) or tokens (B,) to the top H, and the states."""
        H, final = inputs, []
        for rnn, before in zip(self.rnns, state, strict=True):
            H, after = rnn.next_state(H, before)
            final.append(after)
        return H, tuple(final)

    def begin_state(self, batch_size: int) -> tuple[Any, ...]:
        """The state before the first step: zeros."""
        return tuple(rnn.begin_state(batch_size) for rnn in self.rnns)
