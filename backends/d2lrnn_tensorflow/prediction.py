"""A single time step, for the learner, the heads' ``predict`` and the first edition's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn_tensorflow.recurrence import Tensor

#: About this many uncompiled steps take as long as compilation.
REPAID_AFTER = 64


class SingleStep:
    """One time step of a model, compiled by XLA for each batch size.

    XLA takes tenths of a second to compile a step, which then takes a fraction of its time. A step that
    cannot be compiled, because its model reads values in Python, runs uncompiled.

    Args:
        step: from tokens (B, 1) and a state to logits (B, V) and the next state.
        plain_steps: how many steps run uncompiled first, as a short text is done before compilation is.

    Attributes:
        compiled: the `tf.function`.

    Example:
        >>> count = SingleStep(lambda tokens, state: (tf.one_hot(tokens[:, 0], 3), state + 1))
        >>> logits, state = count(np.array([2], np.int32), tf.constant(4))
        >>> logits, int(state)
        (array([[0., 0., 1.]], dtype=float32), 5)
    """

    def __init__(
        self, step: Callable[[Tensor, Any], tuple[Tensor, Any]], plain_steps: int = REPAID_AFTER
    ) -> None:
        self._step = step
        self._plain_steps: float = plain_steps
        self.compiled = tf.function(step, autograph=False, jit_compile=True)
        self._concrete: dict[tuple[int, type], Any] = {}

    def __call__(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) for tokens int32 (B,) as NumPy, and the next state."""
        inputs = tf.constant(tokens[:, None], tf.int32)
        if self._plain_steps <= 0:
            try:
                logits, state = self._find(inputs, state)(inputs, state)
                return logits.numpy(), state
            except Exception:  # an error of the step itself is raised again below
                self._plain_steps = float("inf")
        self._plain_steps -= 1
        logits, state = self._step(inputs, state)
        return logits.numpy(), state

    def _find(self, inputs: Tensor, state: Any) -> Any:
        """A concrete function skips the look-up by argument types, which costs half as much as the step."""
        key = len(inputs), type(state)
        if key not in self._concrete:
            self._concrete[key] = self.compiled.get_concrete_function(inputs, state)
        return self._concrete[key]
