"""The scratch models: the formulas in plain sight.

Every model takes inputs (T, B, num_inputs), or token indices (T, B) instead of one-hot vectors, and returns
the hidden states of all steps (T, B, h) with its final state. `step` is the formula of one time step, and
`next_state` takes it alone, for inputs (B, num_inputs) or (B,): text is written by it. A sequence runs
through the same formula with a backward pass by hand (`d2lrnn_torch.recurrence`), which is faster than
autograd's.

T = time steps, B = batch size, h = hidden units; weights are (in, out), and gates stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2lrnn_torch.module import Module
from d2lrnn_torch.recurrence import (
    GRUBeforeRecurrence,
    GRURecurrence,
    TanhRecurrence,
    lstm,
    project,
    project_step,
)
from d2lrnn_torch.tokens import takes_tokens


class RNNScratch(Module):
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

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * sigma)
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    @takes_tokens
    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B).
            state: (B, h); None is zeros.

        Returns:
            The hidden states (T, B, h), and the last of them.
        """
        if state is None:
            state = self.W_hh.new_zeros(inputs.shape[1], self.num_hiddens)
        if len(inputs) == 1:
            H, state = self.next_state(inputs[0], state)
            return H.unsqueeze(0), state
        outputs = TanhRecurrence.apply(project(inputs, self.W_xh, self.b_h), state, self.W_hh)
        return outputs, outputs[-1]

    def next_state(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: from inputs (B, num_inputs) or token indices (B,) to H (B, h), and the state it is."""
        H = self.step(project_step(inputs, self.W_xh, self.b_h), state)
        return H, H

    def step(self, X: Tensor, H: Tensor) -> Tensor:
        """The next state (B, h) from projected inputs ``X_t W_xh + b_h`` (B, h) and the state (B, h)."""
        return torch.tanh(X + H @ self.W_hh)


class GRUScratch(Module):
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
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, *, reset_after: bool = False
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_x = nn.Parameter(torch.randn(num_inputs, 3 * num_hiddens) * sigma)
        self.W_h = nn.Parameter(torch.randn(num_hiddens, 3 * num_hiddens) * sigma)
        self.b = nn.Parameter(torch.zeros(3 * num_hiddens))
        self.b_hn = nn.Parameter(torch.zeros(num_hiddens)) if reset_after else None

    @takes_tokens
    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Runs over all steps; see `RNNScratch.forward`."""
        if state is None:
            state = self.W_h.new_zeros(inputs.shape[1], self.num_hiddens)
        if len(inputs) == 1:
            H, state = self.next_state(inputs[0], state)
            return H.unsqueeze(0), state
        if self.b_hn is None:
            (W_xrz, W_xn), (W_hrz, W_hn), (b_rz, b_n) = map(self._cut, (self.W_x, self.W_h, self.b))
            projected = project(inputs, W_xrz, b_rz), project(inputs, W_xn, b_n)
            outputs = GRUBeforeRecurrence.apply(*projected, state, W_hrz, W_hn)
        else:
            outputs = GRURecurrence.apply(project(inputs, self.W_x, self.b), state, self.W_h, self.b_hn)
        return outputs, outputs[-1]

    def next_state(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step; see `RNNScratch.next_state`."""
        H = self.step(project_step(inputs, self.W_x, self.b), state)
        return H, H

    def step(self, X: Tensor, H: Tensor) -> Tensor:
        """The next state (B, h) from projected inputs ``X_t W_x + b`` (B, 3·h) and the state (B, h)."""
        (X_rz, X_n), (W_rz, W_n) = self._cut(X), self._cut(self.W_h)
        R, Z = torch.sigmoid(X_rz + H @ W_rz).chunk(2, dim=1)
        if self.b_hn is None:
            N = torch.tanh(X_n + (R * H) @ W_n)
        else:
            N = torch.tanh(X_n + R * (H @ W_n + self.b_hn))
        return torch.lerp(N, H, Z)  # Z ∘ H + (1 - Z) ∘ N

    def _cut(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """What belongs to the two gates and to the candidate, (…, 2·h) and (…, h), of (…, 3·h)."""
        # `Tensor.split`, which is written in Python, takes twice as long.
        return gates.split_with_sizes([2 * self.num_hiddens, self.num_hiddens], dim=-1)


class LSTMScratch(Module):
    """Long short-term memory of one layer (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    - ``I, F, O = σ(X_t W_x[ifo] + H W_h[ifo] + b[ifo])``; ``G = tanh(X_t W_x[g] + H W_h[g] + b[g])``
    - ``C_t = F ∘ C + I ∘ G``; ``H_t = O ∘ tanh(C_t)``

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; biases start at zero.
    """

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        # Column by column in memory: `torch.lstm` wants them transposed, and takes them as they are.
        self.W_x = nn.Parameter((torch.randn(4 * num_hiddens, num_inputs) * sigma).t())
        self.W_h = nn.Parameter((torch.randn(4 * num_hiddens, num_hiddens) * sigma).t())
        self.b = nn.Parameter(torch.zeros(4 * num_hiddens))

    @takes_tokens
    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs over all steps; see `RNNScratch.forward`. The state is ``(H, C)``, each (B, h)."""
        H, C = (self.W_h.new_zeros(inputs.shape[1], self.num_hiddens),) * 2 if state is None else state
        if len(inputs) == 1:
            H, state = self.next_state(inputs[0], (H, C))
            return H.unsqueeze(0), state
        outputs, C = lstm(inputs, H, C, self.W_x, self.W_h, self.b)
        return outputs, (outputs[-1], C)

    def next_state(
        self, inputs: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; see `RNNScratch.next_state`."""
        state = self.step(project_step(inputs, self.W_x, self.b), state)
        return state[0], state

    def step(self, X: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The next ``(H, C)`` from projected inputs ``X_t W_x + b`` (B, 4·h) and ``(H, C)``."""
        H, C = state
        I, F, G, O = (X + H @ self.W_h).chunk(4, dim=1)
        C = torch.sigmoid(F) * C + torch.sigmoid(I) * torch.tanh(G)
        return torch.sigmoid(O) * torch.tanh(C), C


class StackedRNNScratch(Module):
    """`num_layers` layers, each fed with the outputs of the one below it.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h, of every layer.
        num_layers: L.
        sigma: standard deviation of the initial weights.
        layer: makes a layer from (num_inputs, num_hiddens, sigma): a class of this module or a partial of it.

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
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["layer"])
        sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
        # A ModuleList, so that the parameters of every layer are known to an optimiser.
        self.rnns = nn.ModuleList(layer(size, num_hiddens, sigma) for size in sizes)

    @takes_tokens
    def forward(self, inputs: Tensor, state: Sequence[Any] | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        """Runs all layers over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B).
            state: the states of the layers, the lowest first; None is zeros. It is not changed.

        Returns:
            The hidden states of the top layer (T, B, h), and the final states of all layers.
        """
        outputs, final = inputs, []
        for rnn, before in zip(self.rnns, state or [None] * self.num_layers, strict=True):
            outputs, after = rnn(outputs, before)
            final.append(after)
        return outputs, tuple(final)

    def next_state(self, inputs: Tensor, state: Sequence[Any]) -> tuple[Tensor, tuple[Any, ...]]:
        """One step: from inputs (B, num_inputs) or tokens (B,) to the top H (B, h), and the states."""
        H, final = inputs, []
        for rnn, before in zip(self.rnns, state, strict=True):
            H, after = rnn.next_state(H, before)
            final.append(after)
        return H, tuple(final)
