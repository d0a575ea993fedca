"""Masks for sequences of different lengths in one array: what is behind the end of a sequence does not count.

B = batch size, T = time steps, V = vocabulary size.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from d2lrnn_tensorflow.recurrence import Tensor

#: What stands for a masked score: e to its power is 0 next to any real score.
_MASKED_SCORE = -1e6


def sequence_mask(X: Any, valid_len: Any, value: float = 0) -> Tensor:
    """The sequences with `value` behind their ends.

    Args:
        X: (B, T), or (B, T, …).
        valid_len: how many steps of each sequence count, (B,).
        value: what replaces the others.

    Example:
        >>> sequence_mask(tf.constant([[1, 2, 3], [4, 5, 6]]), tf.constant([1, 2]), value=-1).numpy()
        array([[ 1, -1, -1],
               [ 4,  5, -1]], dtype=int32)
    """
    X = tf.convert_to_tensor(X)
    mask = tf.sequence_mask(valid_len, X.shape[1])
    mask = mask[(..., *(tf.newaxis,) * (X.shape.rank - 2))]
    return tf.where(mask, X, tf.cast(value, X.dtype))


def masked_softmax(X: Tensor, valid_lens: Any = None) -> Tensor:
    """The softmax of scores over the last axis, among those that are not masked.

    Args:
        X: scores of K keys for Q queries, (B, Q, K).
        valid_lens: how many of the keys count: for each batch row (B,), or for each query (B, Q). None
            takes them all. With 0 keys each gets the same weight.

    Returns:
        Weights (B, Q, K) that sum to 1 over the keys.

    Example:
        >>> masked_softmax(tf.zeros((2, 1, 4)), tf.constant([2, 4])).numpy()
        array([[[0.5 , 0.5 , 0.  , 0.  ]],
        <BLANKLINE>
               [[0.25, 0.25, 0.25, 0.25]]], dtype=float32)
    """
    if valid_lens is None:
        return tf.nn.softmax(X, axis=-1)
    valid_lens = tf.convert_to_tensor(valid_lens)
    per_query = valid_lens if valid_lens.shape.rank == 2 else valid_lens[:, tf.newaxis]
    mask = tf.sequence_mask(per_query, X.shape[-1])
    return tf.nn.softmax(tf.where(mask, X, tf.cast(_MASKED_SCORE, X.dtype)), axis=-1)


class MaskedSoftmaxCELoss(keras.losses.Loss):
    """Cross-entropy of sequences, in which padding counts nothing.

    Args:
        valid_len: how many steps of each sequence count, (B,).

    Example:
        >>> loss = MaskedSoftmaxCELoss(tf.constant([4, 2, 0]))
        >>> loss(tf.ones((3, 4), tf.int32), tf.zeros((3, 4, 10))).numpy().round(3)
        array([2.303, 1.151, 0.   ], dtype=float32)
    """

    def __init__(self, valid_len: Any) -> None:
        super().__init__(reduction=None)
        self.valid_len = valid_len

    def call(self, label: Tensor, pred: Tensor) -> Tensor:
        """The loss of each sequence (B,): the sum over its steps, divided by T.

        Args:
            label: the right tokens (B, T).
            pred: logits (B, T, V).
        """
        # Keras turns labels into floating-point numbers.
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(label, tf.int32), pred)
        return tf.reduce_mean(sequence_mask(losses, self.valid_len), axis=1)
