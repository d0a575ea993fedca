"""A language model compiled: Gluon's cached operators for one shape of batch."""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet.gluon import nn

from d2lrnn_mxnet.language_model import RNNLMScratch
from d2lrnn_mxnet.loss import CrossEntropy, CrossEntropyGradient
from d2lrnn_mxnet.recurrence import Array, tracing


class Program:
    """The parts of a training or an evaluation step, each one graph.

    A graph's memory is planned at its first run and kept: allocation at every step would cost time. Use a
    program for one shape of batch and one purpose, or it is planned anew.

    Attributes:
        unroll: tokens (B, T), the state and dropout masks (`RNNLMScratch.unroll_by_step`) to logits (T, B, V)
            and the final state.
        loss: logits (T, B, V) and targets (B, T) to the mean loss.
        loss_gradient: the same to the gradient at the logits.
    """

    def __init__(self, model: RNNLMScratch, batch_size: int, num_steps: int) -> None:
        dtype = model.spec.dtype
        self.unroll = _Unroll(model, batch_size, num_steps)
        self.loss = CrossEntropy(dtype)
        self.loss_gradient = CrossEntropyGradient(model.vocab_size, dtype)
        for part in (self.unroll, self.loss, self.loss_gradient):
            part.hybridize(static_alloc=True, static_shape=True)


# benchmarks/tricks: mxnet, all steps as one graph
@mx.util.use_np
class _Unroll(nn.HybridBlock):
    """A whole model as one graph, for one shape of batch."""

    def __init__(self, model: RNNLMScratch, batch_size: int, num_steps: int) -> None:
        super().__init__()
        # The methods and not the model: Gluon would register that as a child and hybridise it for its other
        # users, too.
        self._unroll, self._parameters = model.unroll_by_step, model.collect_params
        self._batch_size, self._num_steps = batch_size, num_steps

    def collect_params(self, select: Any = None) -> Any:
        """The model's parameters."""
        return self._parameters(select)

    def hybrid_forward(self, F: Any, tokens: Array, state: Any, masks: Any = None) -> tuple[Array, Any]:
        """See `Program`."""
        with tracing(self._num_steps, self._batch_size):
            return self._unroll(tokens.T, state, masks)
