"""Hidden states in a model's own form and in the contract's, ``(h,)`` or ``(h, c)``, each (L, B, h)."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.values import State, StateArrays
from d2lrnn_jax.concise import RNN
from d2lrnn_jax.language_model import RNNLMScratch
from d2lrnn_jax.layer import alone
from d2lrnn_jax.scratch import StackedRNNScratch


def initial_state(module: RNNLMScratch, params: Any, batch_size: int) -> State:
    """The initial state of the recurrent layers of `module`: zeros."""
    return module.bind({"params": params}).rnn.initial_state(batch_size)


def from_arrays(module: RNNLMScratch, arrays: StateArrays, dtype: str) -> State:
    """The state in the form that `module` takes: copies of the arrays."""
    copies = tuple(jnp.array(part, dtype) for part in arrays)
    if isinstance(module.rnn, RNN):
        return alone(copies)
    layers = tuple(alone(tuple(part[l] for part in copies)) for l in range(len(copies[0])))
    return layers if isinstance(module.rnn, StackedRNNScratch) else layers[0]


def to_arrays(module: RNNLMScratch, state: State) -> StateArrays:
    """The inverse of `from_arrays`: NumPy copies."""
    if isinstance(module.rnn, RNN):
        return tuple(np.array(part) for part in jax.tree.leaves(state))
    layers = state if isinstance(module.rnn, StackedRNNScratch) else (state,)
    parts = zip(*(jax.tree.leaves(layer) for layer in layers), strict=True)
    return tuple(np.stack(part) for part in parts)
