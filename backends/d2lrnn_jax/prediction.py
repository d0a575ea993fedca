"""A single time step, for the learner, the heads' ``predict`` and the first edition's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from d2lrnn.contract.values import FloatArray, IntArray, State

#: ``(params, tokens (B,), state) -> (logits (B, V), state)``, compiled.
Step: TypeAlias = Callable[[Any, IntArray, State], tuple[jax.Array, State]]


def compiled_step(unroll: Callable[[Any, jax.Array, State], tuple[jax.Array, State]]) -> Step:
    """The compiled single step of a model.

    Args:
        unroll: ``(params, tokens (B, 1), state) -> (logits, state)``, dropout off, with logits (B, 1, V) or
            (B, V).

    Returns:
        A function that compiles once for every batch size and structure of the state.
    """

    @jax.jit
    def step(params: Any, tokens: jax.Array, state: State) -> tuple[jax.Array, State]:
        # By default a GPU multiplies float32 in fewer bits (TF32).
        with jax.default_matmul_precision("highest"):
            logits, state = unroll(params, tokens[:, None], state)
        return logits.reshape(len(tokens), -1), state

    return step


class Predictor:
    """A model in the form that `d2lrnn.generation.generate` takes: a compiled step with its parameters.

    Attributes:
        params: the parameters; others of the same shapes may be assigned.

    Args:
        step: see `compiled_step`.
        params: the parameters.
        initial_state: the state for a batch size; None begins without one, which compiles a second step.
    """

    def __init__(
        self, step: Step, params: Any, initial_state: Callable[[int], State] = lambda batch_size: None
    ) -> None:
        self._compiled, self.params = step, params
        self._initial_state = initial_state

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token."""
        return self._initial_state(batch_size)

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """Logits (B, V), a copy, for one step."""
        logits, state = self._compiled(self.params, tokens, state)
        return np.array(logits), state
