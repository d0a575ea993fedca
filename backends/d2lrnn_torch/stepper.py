"""A single step of a model: from one token each to the logits of the next ones.

A learner, `RNNLMScratch.predict` and the first edition's `predict_ch8` generate text with it. At this size
calls from Python take most of the time, not arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn_torch.devices import full_precision_inference, full_precision_no_grad

#: From tokens (B,) of int64 and a state to logits (B, V) and the next state.
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class Stepper:
    """A model in the form that `d2lrnn.generation.generate` takes; the caller has switched dropout off.

    Args:
        step: one step of the model.
        initial_state: from a batch size to the state before the first token.
        device: where the model is.
        makes_parameters: whether the step may make parameters, as a lazy layer does at its first call. If
            not, it runs in `torch.inference_mode`, in which no tensor that is trained later may be made.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> stepper = Stepper(model.next_logits, model.rnn.begin_state, torch.device("cpu"))
        >>> logits, state = stepper.predict_step(np.array([3], np.int32), stepper.initial_state(1))
        >>> logits.shape
        (1, 28)
    """

    def __init__(
        self,
        step: Step,
        initial_state: Callable[[int], Any],
        device: torch.device,
        *,
        makes_parameters: bool = True,
    ) -> None:
        self.step, self.initial_state, self.device = step, initial_state, device
        # benchmarks/tricks: torch, single steps in inference mode
        self._context = full_precision_no_grad if makes_parameters else full_precision_inference

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """One time step: tokens int32 (B,) to logits (B, V) as NumPy, and the next state; no graph."""
        with self._context(self.device):
            # benchmarks/tricks: torch, tokens copied by NumPy
            # A copy by NumPy, which PyTorch takes over: cheaper than one by PyTorch.
            own = torch.from_numpy(tokens.astype(np.int64)).to(self.device)
            logits, state = self.step(own, state)
            return logits.numpy(force=True), state
