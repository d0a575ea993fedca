"""The language-model head: tokens to recurrent layers to logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from d2lrnn_torch.tokens import can_take_tokens


class RNNLMScratch(nn.Module):
    """A language model on recurrent layers, with an output layer spelt out: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with (T, B, `vocab_size`) and a state; it has `num_hiddens`.
        vocab_size: V.
        lr: the learning rate that a trainer may read.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 28])
    """

    def __init__(self, rnn: nn.Module, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.rnn, self.vocab_size, self.lr = rnn, vocab_size, lr
        self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's parameters: N(0, σ²) with the layers' σ, and zeros."""
        sigma = getattr(self.rnn, "sigma", 0.01)
        self.W_hq = nn.Parameter(torch.randn(self.rnn.num_hiddens, self.vocab_size) * sigma)
        self.b_q = nn.Parameter(torch.zeros(self.vocab_size))

    def forward(self, tokens: Tensor, state: Any = None) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(self, tokens: Tensor, state: Any = None, masks: Tensor | None = None) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the final state.

        Args:
            tokens: (B, T).
            state: what the recurrent layers take; None is zeros.
            masks: dropout masks, for layers that take them (`d2lrnn_torch.RNN.forward`).
        """
        inputs = tokens.t() if can_take_tokens(self.rnn) else self.one_hot(tokens)
        outputs, state = self.rnn(inputs, state) if masks is None else self.rnn(inputs, state, masks)
        return self.output_layer(outputs), state

    def one_hot(self, tokens: Tensor) -> Tensor:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return one_hot(tokens.t().long(), self.vocab_size).to(next(self.parameters()).dtype)

    def output_layer(self, hiddens: Tensor) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), over all steps at once."""
        logits = torch.addmm(self.b_q, hiddens.flatten(0, 1), self.W_hq)
        return logits.unflatten(0, hiddens.shape[:2]).swapaxes(0, 1)


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with `torch.nn.Linear` for the output layer."""

    def init_params(self) -> None:
        """Makes the linear layer, with PyTorch's initial values."""
        self.linear = nn.Linear(self.rnn.num_hiddens, self.vocab_size)

    def output_layer(self, hiddens: Tensor) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), over all steps at once."""
        return self.linear(hiddens).swapaxes(0, 1)
