"""Attention: a mean of values, weighted by how well their keys fit a query."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.errors import SpecError
from d2lrnn_jax.encoder_decoder import DECODER_WEIGHTS, Decoder, sown

# What a masked score is: its exponential is 0. A finite one, so that a row of them alone has a softmax too.
_MASKED = -1e6


def masked_softmax(X: jax.Array, valid_lens: jax.Array | None) -> jax.Array:
    """The softmax over the last axis, in which only the first entries of each row count.

    Args:
        X: scores (B, Q, K).
        valid_lens: how many count, (B,) or for each query (B, Q); None: all. Where it is 0, all K entries are
            the same.

    Example:
        >>> masked_softmax(jnp.zeros((2, 1, 4)), jnp.array([1, 2])).tolist()
        [[[1.0, 0.0, 0.0, 0.0]], [[0.5, 0.5, 0.0, 0.0]]]
    """
    if valid_lens is None:
        return nn.softmax(X)
    lengths = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
    counts = jnp.arange(X.shape[-1]) < lengths[..., None]
    return nn.softmax(jnp.where(counts, X, _MASKED))


class DotProductAttention(nn.Module):
    """Scaled dot products as scores: q·k / √d.

    Attributes:
        dropout: the rate at the weights while training.

    Example:
        >>> attention = DotProductAttention(dropout=0.5)
        >>> queries, keys, values = jnp.ones((2, 1, 8)), jnp.ones((2, 10, 8)), jnp.ones((2, 10, 4))
        >>> outputs, weights = attention.apply({}, queries, keys, values, jnp.array([2, 6]))
        >>> outputs.shape, weights.shape
        ((2, 1, 4), (2, 1, 10))

    Source: Vaswani et al. 2017.
    """

    dropout: float

    @nn.compact
    def __call__(
        self,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
        valid_lens: jax.Array | None = None,
        training: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """For each query a mean of the values.

        Args:
            queries: (B, Q, d).
            keys: (B, K, d).
            values: (B, K, v).
            valid_lens: how many of the keys count, see `masked_softmax`.
            training: whether dropout is on; it draws from the stream ``"dropout"``.

        Returns:
            The means (B, Q, v), and the weights without dropout (B, Q, K).
        """
        scores = queries @ jnp.swapaxes(keys, 1, 2) / math.sqrt(queries.shape[-1])
        weights = masked_softmax(scores, valid_lens)
        return nn.Dropout(self.dropout, deterministic=not training)(weights) @ values, weights


class AdditiveAttention(nn.Module):
    """Scores by a layer of hidden units: w_v·tanh(W_q q + W_k k). Queries and keys may differ in size.

    Attributes:
        num_hiddens: h, the number of units.
        dropout: the rate at the weights while training.

    Example:
        >>> attention = AdditiveAttention(num_hiddens=8, dropout=0.1)
        >>> queries, keys, values = jnp.ones((2, 1, 20)), jnp.ones((2, 10, 2)), jnp.ones((2, 10, 4))
        >>> (outputs, weights), _ = attention.init_with_output(
        ...     jax.random.key(0), queries, keys, values, jnp.array([2, 6]))
        >>> outputs.shape, weights.shape
        ((2, 1, 4), (2, 1, 10))

    Source: Bahdanau et al. 2015.
    """

    num_hiddens: int
    dropout: float

    def setup(self) -> None:
        """The three weights."""
        self.W_k = nn.Dense(self.num_hiddens, use_bias=False)
        self.W_q = nn.Dense(self.num_hiddens, use_bias=False)
        self.w_v = nn.Dense(1, use_bias=False)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        queries: jax.Array,
        keys: jax.Array,
        values: jax.Array,
        valid_lens: jax.Array | None = None,
        training: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """For each query a mean of the values.

        Args:
            queries: (B, Q, q).
            keys: (B, K, k).
            values: (B, K, v).
            valid_lens: how many of the keys count, see `masked_softmax`.
            training: whether dropout is on; it draws from the stream ``"dropout"``.

        Returns:
            The means (B, Q, v), and the weights without dropout (B, Q, K).
        """
        # Every query with every key: (B, Q, 1, h) + (B, 1, K, h).
        features = self.W_q(queries)[:, :, None] + self.W_k(keys)[:, None]
        weights = masked_softmax(self.w_v(nn.tanh(features)).squeeze(-1), valid_lens)
        return self.drop(weights, deterministic=not training) @ values, weights


class AttentionDecoder(Decoder):
    """A decoder with attention.

    A flax module keeps nothing from call to call. Its ``__call__`` ends with
    ``self.sow("intermediates", "dec_attention_weights", weights)``: so `EncoderDecoder.predict_step` finds
    them, and `attention_weights`.
    """

    @property
    def attention_weights(self) -> Any:
        """What the last call has sown: ``decoder.bind(variables)``, with the variables that it returned.

        Raises:
            SpecError: there is none.
        """
        weights = None if self.scope is None else sown(self.variables, DECODER_WEIGHTS)
        if weights is None:
            raise SpecError(
                f"{type(self).__name__} has no attention weights: apply it with mutable='intermediates', and "
                "bind it to the variables that come back beside the outputs"
            )
        return weights
