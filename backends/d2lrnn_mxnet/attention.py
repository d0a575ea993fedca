"""Attention: a mean of values, weighted by how well their keys fit a query.

B = batch size, Q = number of queries, K = number of keys, and of values.
"""

from __future__ import annotations

import math
from typing import Any

from mxnet import np, npx
from mxnet.gluon import nn
from mxnet.util import use_np as use_np_in

from d2lrnn_mxnet.encoder_decoder import Decoder
from d2lrnn_mxnet.module import Block
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np

# A score that comes to a weight of zero. Not -inf: a row of which nothing counts would become NaN.
_OUT = -1e6


@use_np_in
def masked_softmax(X: Array, valid_lens: Array | None) -> Array:
    """Softmax over the last axis, of its first entries alone.

    Args:
        X: scores (B, Q, K).
        valid_lens: how many entries count: (B,), or for each query (B, Q); None counts all. Where none
            counts, all weights are the same.

    Example:
        >>> masked_softmax(np.zeros((1, 2, 4)), np.array([[1, 2]])).tolist()
        [[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]]
    """
    if valid_lens is not None:
        lengths = valid_lens.reshape(len(X), -1, 1)
        positions = np.arange(X.shape[-1], dtype=lengths.dtype, ctx=lengths.ctx)
        X = np.where(positions < lengths, X, np.full_like(X, _OUT))
    return npx.softmax(X, axis=-1)


@use_np
class _Attention(Block):
    """What both kinds of attention have in common: `attention_weights`, and their use.

    Args:
        dropout: the rate at the weights while training.
        **kwargs: those of ``gluon.Block``.
    """

    def __init__(self, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout = nn.Dropout(dropout)
        # Not a public attribute of its own: a module takes those that are arrays for parameters.
        self._attention_weights: Array | None = None

    @property
    def attention_weights(self) -> Array | None:
        """The weights of the last call, (B, Q, K), before dropout; None before the first."""
        return self._attention_weights

    @attention_weights.setter
    def attention_weights(self, weights: Array) -> None:
        self._attention_weights = weights

    def _attend(self, scores: Array, values: Array, valid_lens: Array | None) -> Array:
        self.attention_weights = masked_softmax(scores, valid_lens)
        return npx.batch_dot(self.dropout(self.attention_weights), values)


@use_np
class DotProductAttention(_Attention):
    """Scaled dot product attention: the score of query q and key k, both (d,), is q · k / √d.

    Args:
        dropout: the rate at the weights while training.
        **kwargs: those of ``gluon.Block``.

    Example:
        >>> attention = DotProductAttention(dropout=0.5)
        >>> attention(np.ones((2, 1, 3)), np.ones((2, 10, 3)), np.ones((2, 10, 4)), np.array([2, 6])).shape
        (2, 1, 4)

    Source: Vaswani et al. 2017, Attention is all you need, section 3.2.1.
    """

    def forward(self, queries: Array, keys: Array, values: Array, valid_lens: Array | None = None) -> Array:
        """The weighted means of the values (B, Q, v).

        Args:
            queries: (B, Q, d).
            keys: (B, K, d).
            values: (B, K, v).
            valid_lens: see `masked_softmax`.
        """
        scores = npx.batch_dot(queries, keys, transpose_b=True) / math.sqrt(queries.shape[-1])
        return self._attend(scores, values, valid_lens)


@use_np
class AdditiveAttention(_Attention):
    """Additive attention: the score of query q and key k, of any sizes, is w_v · tanh(W_q q + W_k k).

    Args:
        num_hiddens: h, the size of the vector inside.
        dropout: the rate at the weights while training.
        **kwargs: those of ``gluon.Block``.

    Attributes:
        W_k: a ``nn.Dense`` from keys to (h,), without bias.
        W_q: one from queries to (h,).
        w_v: one from (h,) to a score.

    Example:
        >>> attention = AdditiveAttention(num_hiddens=8, dropout=0.1)
        >>> attention.initialize()
        >>> queries, keys, values = np.ones((2, 1, 20)), np.ones((2, 10, 2)), np.ones((2, 10, 4))
        >>> attention(queries, keys, values, np.array([2, 6])).shape, attention.attention_weights.shape
        ((2, 1, 4), (2, 1, 10))

    Source: Bahdanau et al. 2015, Neural machine translation by jointly learning to align and translate.
    """

    def __init__(self, num_hiddens: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(dropout, **kwargs)
        self.W_k = nn.Dense(num_hiddens, use_bias=False, flatten=False)
        self.W_q = nn.Dense(num_hiddens, use_bias=False, flatten=False)
        self.w_v = nn.Dense(1, use_bias=False, flatten=False)

    def forward(self, queries: Array, keys: Array, values: Array, valid_lens: Array | None = None) -> Array:
        """The weighted means of the values (B, Q, v).

        Args:
            queries: (B, Q, any size).
            keys: (B, K, any size).
            values: (B, K, v).
            valid_lens: see `masked_softmax`.
        """
        # Every query beside every key: (B, Q, 1, h) and (B, 1, K, h).
        features = np.tanh(np.expand_dims(self.W_q(queries), 2) + np.expand_dims(self.W_k(keys), 1))
        return self._attend(np.squeeze(self.w_v(features), axis=-1), values, valid_lens)


@use_np
class AttentionDecoder(Decoder):
    """A `Decoder` that looks at the encoder's outputs; a subclass has `attention_weights` too."""

    @property
    def attention_weights(self) -> Any:
        """The weights of the last call, an array for every time step.

        Raises:
            NotImplementedError: the decoder has none.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a property attention_weights")
