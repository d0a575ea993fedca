"""What searches by beam have in common: the scores of tokens, and the best of them."""

from __future__ import annotations

import numpy as np

from d2lrnn.contract.values import FloatArray, IntArray


def log_softmax(logits: FloatArray) -> FloatArray:
    """The logarithms of the probabilities of logits (B, V), in float64.

    Example:
        >>> np.exp(log_softmax(np.zeros((1, 4)))).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def largest(scores: FloatArray, count: int) -> tuple[IntArray, IntArray]:
    """The rows and columns of the largest entries, the largest first; of equal ones the first.

    Args:
        scores: (B, V).
        count: how many, or all if there are fewer.

    Example:
        >>> [places.tolist() for places in largest(np.array([[1.0, 3.0], [3.0, 2.0]]), 3)]
        [[0, 1, 1], [1, 0, 1]]
    """
    best = np.argsort(-scores, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(best, scores.shape)
    return rows.astype(np.int32), columns.astype(np.int32)
