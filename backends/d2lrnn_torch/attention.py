"""Attention: a mean of values whose weights are how well a query fits their keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from d2lrnn_torch.masking import masked_softmax


class _Attention(nn.Module):
    """What kinds of attention share; they differ in `scores`.

    Args:
        dropout: the rate at the weights while training.

    Attributes:
        attention_weights: those of the last call (B, Q, K), without their graph.
    """

    attention_weights: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """How well each query fits each key, (B, Q, K)."""
        raise NotImplementedError

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, valid_lens: Tensor | None = None
    ) -> Tensor:
        """The mean of the values for each query, (B, Q, size of a value).

        Args:
            queries: (B, Q, size of a query).
            keys: (B, K, size of a key).
            values: (B, K, size of a value).
            valid_lens: how many keys count: (B,), or (B, Q) where each query has its own number. None counts
                all.
        """
        weights = masked_softmax(self.scores(queries, keys), valid_lens)
        # To look at: with the graph a module that holds them could not be copied.
        self.attention_weights = weights.detach()
        return torch.bmm(self.dropout(weights), values)


class DotProductAttention(_Attention):
    """Scaled dot-product attention: softmax(q · k / √d), with d the size of queries and of keys.

    Args:
        dropout: the rate at the weights while training.

    Attributes:
        attention_weights: those of the last call (B, Q, K), without their graph.

    Example:
        >>> attention = DotProductAttention(dropout=0.1).eval()
        >>> keys = torch.ones(2, 10, 3)
        >>> attention(torch.ones(2, 1, 3), keys, torch.ones(2, 10, 4), torch.tensor([2, 5])).shape
        torch.Size([2, 1, 4])
        >>> attention.attention_weights[0, 0, :3]
        tensor([0.5000, 0.5000, 0.0000])

    Source: Vaswani et al. 2017, equation 1.
    """

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """``q · k / √d``, (B, Q, K)."""
        return torch.bmm(queries, keys.transpose(1, 2)) / math.sqrt(queries.shape[-1])


class AdditiveAttention(_Attention):
    """Additive attention: softmax(w_vᵀ tanh(W_q q + W_k k)); queries and keys may differ in size.

    The first batch tells their sizes.

    Args:
        num_hiddens: the size of the layer of tanh.
        dropout: the rate at the weights while training.

    Attributes:
        attention_weights: those of the last call (B, Q, K), without their graph.

    Example:
        >>> attention = AdditiveAttention(num_hiddens=8, dropout=0.1).eval()
        >>> attention(torch.ones(2, 1, 20), torch.ones(2, 10, 3), torch.ones(2, 10, 4)).shape
        torch.Size([2, 1, 4])

    Source: Bahdanau et al. 2015.
    """

    def __init__(self, num_hiddens: int, dropout: float) -> None:
        super().__init__(dropout)
        self.W_k = nn.LazyLinear(num_hiddens, bias=False)
        self.W_q = nn.LazyLinear(num_hiddens, bias=False)
        self.w_v = nn.LazyLinear(1, bias=False)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """``w_vᵀ tanh(W_q q + W_k k)``, (B, Q, K)."""
        # Each query with each key: (B, Q, 1, h) + (B, 1, K, h).
        features = torch.tanh(self.W_q(queries).unsqueeze(2) + self.W_k(keys).unsqueeze(1))
        return self.w_v(features).squeeze(-1)


class SizedAdditiveAttention(AdditiveAttention):
    """`AdditiveAttention` that is told the sizes, as in the first edition.

    Args:
        key_size: the size of a key.
        query_size: the size of a query.
        num_hiddens: the size of the layer of tanh.
        dropout: the rate at the weights while training.

    Example:
        >>> attention = SizedAdditiveAttention(key_size=3, query_size=20, num_hiddens=8, dropout=0.1)
        >>> attention.W_q.weight.shape
        torch.Size([8, 20])
    """

    def __init__(self, key_size: int, query_size: int, num_hiddens: int, dropout: float) -> None:
        super().__init__(num_hiddens, dropout)
        self.W_k = nn.Linear(key_size, num_hiddens, bias=False)
        self.W_q = nn.Linear(query_size, num_hiddens, bias=False)
        self.w_v = nn.Linear(num_hiddens, 1, bias=False)
