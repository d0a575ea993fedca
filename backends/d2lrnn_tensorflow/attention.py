"""Attention: means of values, weighted by how well their keys fit a query.

B = batch size, Q = number of queries, K = number of keys, each with its value.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from d2lrnn_tensorflow.encoder_decoder import Decoder
from d2lrnn_tensorflow.masking import masked_softmax
from d2lrnn_tensorflow.recurrence import Tensor


class _Attention(keras.layers.Layer):
    """Attention by scores that a subclass computes."""

    attention_weights: Tensor

    def __init__(self, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(dropout)

    def score(self, queries: Tensor, keys: Tensor) -> Tensor:
        """How well every key fits every query, (B, Q, K)."""
        raise NotImplementedError

    def call(self, queries: Tensor, keys: Tensor, values: Tensor, valid_lens: Any = None) -> Tensor:
        """The weighted mean of the values for each query, (B, Q, v); keeps `attention_weights`.

        Args:
            queries: (B, Q, q).
            keys: (B, K, k).
            values: (B, K, v).
            valid_lens: how many of the keys count, (B,) or (B, Q); None takes them all.
        """
        self.attention_weights = masked_softmax(self.score(queries, keys), valid_lens)
        return tf.matmul(self.dropout(self.attention_weights), values)


class DotProductAttention(_Attention):
    """Scaled dot-product attention: the score is ``qᵀk / sqrt(d)`` for queries and keys of size d.

    Args:
        dropout: the rate at the weights, while training.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        attention_weights: those of the last call, (B, Q, K), before dropout.

    Example:
        >>> attention = DotProductAttention(dropout=0.5)
        >>> queries, keys, values = tf.ones((2, 1, 3)), tf.ones((2, 10, 3)), tf.ones((2, 10, 4))
        >>> attention(queries, keys, values, tf.constant([2, 6])).shape, attention.attention_weights.shape
        (TensorShape([2, 1, 4]), TensorShape([2, 1, 10]))

    Source: Vaswani et al. 2017.
    """

    def score(self, queries: Tensor, keys: Tensor) -> Tensor:
        """How well every key fits every query, (B, Q, K)."""
        return tf.matmul(queries, keys, transpose_b=True) / queries.shape[-1] ** 0.5


class AdditiveAttention(_Attention):
    """Additive attention: the score is ``w_vᵀ tanh(W_q q + W_k k)``; queries and keys may differ in size.

    Args:
        key_size: k, as in the book; Keras takes it from the first keys.
        query_size: q, likewise from the first queries.
        num_hiddens: how many numbers queries and keys are projected to.
        dropout: the rate at the weights, while training.
        **kwargs: those of `keras.layers.Layer`.

    Attributes:
        attention_weights: those of the last call, (B, Q, K), before dropout.

    Example:
        >>> attention = AdditiveAttention(key_size=2, query_size=20, num_hiddens=8, dropout=0.1)
        >>> queries, keys, values = tf.ones((2, 1, 20)), tf.ones((2, 10, 2)), tf.ones((2, 10, 4))
        >>> attention(queries, keys, values, tf.constant([2, 6])).shape
        TensorShape([2, 1, 4])

    Source: Bahdanau et al. 2015.
    """

    def __init__(
        self, key_size: int, query_size: int, num_hiddens: int, dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(dropout, **kwargs)
        self.W_k = keras.layers.Dense(num_hiddens, use_bias=False)
        self.W_q = keras.layers.Dense(num_hiddens, use_bias=False)
        self.w_v = keras.layers.Dense(1, use_bias=False)

    def score(self, queries: Tensor, keys: Tensor) -> Tensor:
        """How well every key fits every query, (B, Q, K)."""
        # (B, Q, 1, h) and (B, 1, K, h): every query meets every key.
        features = tf.tanh(self.W_q(queries)[:, :, tf.newaxis] + self.W_k(keys)[:, tf.newaxis])
        return tf.squeeze(self.w_v(features), axis=-1)


class AttentionDecoder(Decoder):
    """The interface of a decoder that attends to what the encoder gave it."""

    @property
    def attention_weights(self) -> Any:
        """The weights of the last call, an array for each of its steps.

        Raises:
            NotImplementedError: the decoder does not say what they are.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a property attention_weights")
