"""The states of the models: PyTorch's own form, and NumPy's.

The state of a scratch layer is H (B, h) or a tuple of such tensors; of a stack, a tuple of its layers'
states; of PyTorch's layers H (L, B, h) or ``(H, C)``, and after a single step `LayerStates`. In all of them
the batch is the last axis but one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import State, StateArrays
from d2lrnn_torch.concise import LayerStates, stacked


def state_arrays(spec: ModelSpec, state: State) -> StateArrays:
    """``(h,)`` or ``(h, c)``, each (L, B, h), from the state of the model's recurrent layers: copies."""
    single = spec.num_states == 1
    if spec.implementation == "concise":
        whole = stacked(state) if isinstance(state, LayerStates) else state
        parts = (whole,) if single else whole
    else:
        layers = (state,) if spec.num_layers == 1 else state
        parts = tuple(torch.stack(part) for part in ((layers,) if single else zip(*layers, strict=True)))
    return tuple(part.numpy(force=True).copy() for part in parts)


def own_state(spec: ModelSpec, arrays: StateArrays, device: torch.device) -> State:
    """The inverse of `state_arrays`: copies, in the model's precision and on `device`."""
    parts = tuple(torch.tensor(part, dtype=getattr(torch, spec.dtype), device=device) for part in arrays)
    single = spec.num_states == 1
    if spec.implementation == "concise":
        return parts[0] if single else parts
    layers = tuple(parts[0]) if single else tuple(zip(*parts, strict=True))
    return layers[0] if spec.num_layers == 1 else layers


def trainable(state: State) -> State:
    """The state as autograd takes it: copied if it was made in `torch.inference_mode`, else as it is."""
    if isinstance(state, Tensor):
        return state.clone() if state.is_inference() else state
    return type(state)(trainable(part) for part in state)


def detached(state: State) -> State:
    """The state, detached."""
    return state.detach() if isinstance(state, Tensor) else type(state)(detached(part) for part in state)


def rows_of(state: State, rows: slice) -> State:
    """The state of a part of the batch."""
    if isinstance(state, Tensor):
        return state[..., rows, :].contiguous()  # as cuDNN needs it
    return type(state)(rows_of(part, rows) for part in state)


def join_rows(states: Sequence[State]) -> State:
    """The state of the whole batch, from those of its parts: the inverse of `rows_of`."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(tuple(states), dim=-2)
    return type(first)(join_rows(parts) for parts in zip(*states, strict=True))
