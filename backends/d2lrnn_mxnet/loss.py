"""Cross-entropy over the targets that are not padding, and its gradient at the logits.

Both take logits (T, B, V) and targets (B, T), where a negative target is padding, and divide by the number of
targets that are not. The gradient is written out and handed to ``logits.backward``, because the one that
autograd derives costs more than the recurrence: MXNet's reductions over a short last axis are slow on the CPU
(at batch 1024, 32 steps and 28 tokens the gradient takes 34 ms by autograd's log-sum-exp, 3 ms here).
"""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet.gluon import nn

from d2lrnn_mxnet.recurrence import Array

#: Probabilities below this are close to the smallest of float32.
_SMALL = 1e-30


@mx.util.use_np
class CrossEntropy(nn.HybridBlock):
    """-log softmax(o)[y], the mean over all positions that are not padding.

    The logarithm of ``npx.softmax`` is as exact as a log-sum-exp. ``npx.log_softmax`` is not (oneDNN's has an
    error of 1e-6, always of one sign): it is used only where a probability would underflow.

    Args:
        dtype: that of the logits.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self._dtype = dtype

    def hybrid_forward(self, F: Any, logits: Array, targets: Array) -> Array:
        """A scalar."""
        targets = targets.T
        # pick reads an index of -1 as 0; the weight of such a position is zero.
        likelihoods = F.npx.pick(F.npx.softmax(logits, axis=-1), targets)
        fallback = F.npx.pick(F.npx.log_softmax(logits, axis=-1), targets)
        losses = -F.np.where(likelihoods > _SMALL, F.np.log(F.np.maximum(likelihoods, _SMALL)), fallback)
        return F.np.sum(losses * _weights(F, targets, self._dtype))


# benchmarks/tricks: mxnet, the loss's gradient written out
@mx.util.use_np
class CrossEntropyGradient(nn.HybridBlock):
    """(softmax(o) - one_hot(y)) / number of targets, zero where there is padding.

    Args:
        vocab_size: V.
        dtype: that of the logits.
    """

    def __init__(self, vocab_size: int, dtype: str) -> None:
        super().__init__()
        self._vocab_size, self._dtype = vocab_size, dtype

    def hybrid_forward(self, F: Any, logits: Array, targets: Array) -> Array:
        """(T, B, V)."""
        targets = targets.T
        expected = F.npx.one_hot(targets, self._vocab_size, dtype=self._dtype)
        weights = F.np.expand_dims(_weights(F, targets, self._dtype), axis=2)
        return (F.npx.softmax(logits, axis=-1) - expected) * weights


def _weights(F: Any, targets: Array, dtype: str) -> Array:
    """One over the number of targets that are not padding, and zero where there is padding."""
    valid = (targets >= 0).astype(dtype)
    return valid / F.np.maximum(F.np.sum(valid), 1)
