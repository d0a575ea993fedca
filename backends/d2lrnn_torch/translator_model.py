"""The translator's modules in PyTorch; `d2lrnn.translation.spec` has the model in words.

B = batch size, S = source steps, T = target steps, h = hidden units, E = embedding size, L = layers. Steps
come first, as in the scratch models, whose GRUs these are. Dropout comes from masks that are handed in:
nothing here has a training mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn_torch.products import affine
from d2lrnn_torch.recurrence import GRURecurrence
from d2lrnn_torch.scratch import GRUScratch
from d2lrnn_torch.tokens import look_up


class Memory(NamedTuple):
    """What the encoder made of a batch, and how far the decoder is: it goes on from here.

    Attributes:
        outputs: M, the encoder's last layer (S, B, h); behind a row's end anything finite.
        padded: (S, B), whether a position is behind the row's end.
        keys: M w_k (S, B, h); None without attention.
        last: M_n, the encoder's last state (B, h).
        states: those of the decoder's layers, each (B, h).
    """

    outputs: Tensor
    padded: Tensor
    keys: Tensor | None
    last: Tensor
    states: Sequence[Tensor]


class EmbeddedGRUs(nn.ModuleList):
    """An embedding and the layers of GRUs above it: one side of the translator.

    Args:
        vocab_size: V.
        num_inputs: of the lowest layer, E or more.
        spec: the translator.
    """

    def __init__(self, vocab_size: int, num_inputs: int, spec: TranslatorSpec) -> None:
        h = spec.num_hiddens
        sizes = [num_inputs] + [h] * (spec.num_layers - 1)
        super().__init__(GRUScratch(size, h, reset_after=True) for size in sizes)
        self.embedding = nn.Parameter(torch.empty(vocab_size, spec.embedding_size))

    def forward(self, projected: Tensor, states: Sequence[Tensor], masks: Tensor | None) -> list[Tensor]:
        """Runs all layers over all steps.

        Args:
            projected: the inputs of the lowest layer, ``X w_x + b`` (T, B, 3·h).
            states: those before the first step, each (B, h).
            masks: (L - 1, T, B, h), which multiply the outputs of all layers but the last.

        Returns:
            The states of each layer at all steps (T, B, h), the lowest first.
        """
        outputs: list[Tensor] = []
        layer: Any
        for l, (layer, H) in enumerate(zip(self, states, strict=True)):
            if l > 0:
                below = outputs[-1] if masks is None else outputs[-1] * masks[l - 1]
                projected = _product(below, layer.W_x, layer.b)
            outputs.append(GRURecurrence.apply(projected, H, layer.W_h, layer.b_hn))
        return outputs


class AdditiveAttention(nn.Module):
    """The mean of M_1 … M_n by the weights softmax(w_v · tanh(M w_k + H w_q)).

    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate".
    """

    def __init__(self, num_hiddens: int) -> None:
        super().__init__()
        self.w_k = nn.Parameter(torch.empty(num_hiddens, num_hiddens))
        self.w_q = nn.Parameter(torch.empty(num_hiddens, num_hiddens))
        self.w_v = nn.Parameter(torch.empty(num_hiddens))

    def forward(self, query: Tensor, memory: Memory) -> Tensor:
        """The context (B, h) of a decoder's state (B, h)."""
        features = torch.tanh(memory.keys + _product(query.unsqueeze(0), self.w_q))
        scores = (features @ self.w_v).masked_fill(memory.padded, -torch.inf)
        return (scores.softmax(dim=0).unsqueeze(-1) * memory.outputs).sum(dim=0)


class Head(nn.Module):
    """The logits ``H w + b``."""

    def __init__(self, num_hiddens: int, vocab_size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(num_hiddens, vocab_size))
        self.b = nn.Parameter(torch.empty(vocab_size))

    def forward(self, H: Tensor) -> Tensor:
        """(T, B, h) to (T, B, V)."""
        return _product(H, self.w, self.b)


class TranslatorModule(nn.Module):
    """Encoder, attention, decoder and output layer.

    The names of `named_parameters` are the canonical ones, but for the capital W of the GRUs.

    Example:
        >>> model = TranslatorModule(TranslatorSpec(source_size=20, target_size=30, num_layers=1))
        >>> list(model.canonical())[:5]
        ['encoder.embedding', 'encoder.0.w_x', 'encoder.0.w_h', 'encoder.0.b', 'encoder.0.b_hn']
    """

    def __init__(self, spec: TranslatorSpec) -> None:
        super().__init__()
        E, h = spec.embedding_size, spec.num_hiddens
        self.encoder = EmbeddedGRUs(spec.source_size, E, spec)
        self.attention = AdditiveAttention(h) if spec.attention else None
        self.decoder = EmbeddedGRUs(spec.target_size, E + h, spec)
        self.head = Head(h, spec.target_size)

    def canonical(self) -> dict[str, nn.Parameter]:
        """The parameters by canonical name."""
        return {name.replace("W_", "w_"): p for name, p in self.named_parameters()}

    def read(self, source: Tensor, lengths: Tensor, masks: Tensor | None = None) -> Memory:
        """What the decoder begins with.

        Args:
            source: tokens (S, B).
            lengths: of the rows (B,), int64.
            masks: (L - 1, S, B, h).
        """
        num_steps, size = source.shape
        lowest: Any = self.encoder[0]
        projected = _product(look_up(source, self.encoder.embedding), lowest.W_x, lowest.b)
        zeros = projected.new_zeros(size, self.head.w.shape[0])
        outputs = self.encoder(projected, [zeros] * len(self.encoder), masks)
        # The layers run on behind a row's end: so all steps are one recurrence, without a choice at each.
        # What they make of padding gets nowhere: the states are those at the end, and attention masks it.
        rows = torch.arange(size, device=source.device)
        states = [H[lengths - 1, rows] for H in outputs]
        padded = torch.arange(num_steps, device=source.device).unsqueeze(1) >= lengths
        keys = None if self.attention is None else _product(outputs[-1], self.attention.w_k)
        return Memory(outputs[-1], padded, keys, states[-1], states)

    def write(self, tokens: Tensor, memory: Memory, masks: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Logits (T, B, V) after each of the tokens (T, B), and the memory after the last.

        Args:
            tokens: (T, B).
            memory: what the encoder or the step before left.
            masks: (L - 1, T, B, h).
        """
        lowest: Any = self.decoder[0]
        E = self.decoder.embedding.shape[1]
        embedded = _product(look_up(tokens, self.decoder.embedding), lowest.W_x[:E], lowest.b)
        w_context = lowest.W_x[E:]
        if self.attention is None:
            projected = embedded + _product(memory.last.unsqueeze(0), w_context)
            outputs = self.decoder(projected, memory.states, masks)
            return self.head(outputs[-1]), memory._replace(states=[H[-1] for H in outputs])
        states, written = memory.states, []
        for t, X in enumerate(embedded.split(1)):
            context = self.attention(states[-1], memory)
            of_step = None if masks is None else masks[:, t : t + 1]
            outputs = self.decoder(X + _product(context.unsqueeze(0), w_context), states, of_step)
            states = [H[-1] for H in outputs]
            written.append(outputs[-1])
        return self.head(torch.cat(written)), memory._replace(states=states)


def _product(X: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """``X w + b`` for (T, B, m), (m, n), (n,), by the fast product of `affine`, which always has a bias.

    `affine` takes a first axis of length 1 for a single step of a few rows, where the call counts more than
    the product. A step of this decoder in training has the rows of a whole batch: there they come first.
    """
    b = w.new_zeros(w.shape[1]) if b is None else b
    return affine(X.transpose(0, 1), w, b).transpose(0, 1) if len(X) == 1 else affine(X, w, b)
