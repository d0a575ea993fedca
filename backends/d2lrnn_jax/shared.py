"""The compiled functions of several workers: each computes its rows, and one sum goes over all of them.

`jax.shard_map` runs the function of one worker on all of them. What it takes is either the same everywhere,
or rows: of every array that is cut the second to last axis, be it tokens (B, T), or states and masks
(…, B, h). What is summed is one flat vector: a message costs the same however small it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from d2lrnn.contract.optimizers import Optimizer
from d2lrnn.contract.values import Batch, State
from d2lrnn.workers.protocols import PartResult
from d2lrnn_jax.compiled import exactly, gradient_and_loss, kept, loss_of, update_of
from d2lrnn_jax.language_model import RNNLMScratch

#: The mesh's only axis.
AXIS = "data"

#: What is the same on all workers.
SAME = PartitionSpec()


def rows_spec(ndim: int) -> PartitionSpec:
    """How an array of rows is cut.

    Example:
        >>> list(rows_spec(3))
        [None, 'data']
    """
    return PartitionSpec(*[None] * (ndim - 2), AXIS)


def local(tree: Any) -> Any:
    """This worker's part of arrays of all workers, without a copy; other arrays as they are."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


@kept
def shared_sum(mesh: Mesh) -> Callable[..., Any]:
    """``(arrays) -> sum``: of arrays (1, …), one of each worker, to (…)."""

    def add(arrays: jax.Array) -> jax.Array:
        return lax.psum(arrays[0], AXIS)

    return jax.jit(_on_all(add, mesh, in_specs=PartitionSpec(AXIS), out_specs=SAME))


@kept
def shared_loss(module: RNNLMScratch, mesh: Mesh) -> Callable[..., Any]:
    """``(params, num_tokens, batch, state) -> (loss, state)``, dropout off."""
    part_loss = loss_of(module)

    def loss(params: Any, num_tokens: Any, batch: Batch, state: State) -> tuple[jax.Array, State]:
        loss, state = part_loss(params, batch, state, None, num_tokens)
        return lax.psum(loss, AXIS), state

    def on_all(params: Any, num_tokens: Any, batch: Batch, state: State) -> Any:
        rows = _rows_specs((batch, state))
        specs = (SAME, SAME, *rows), (SAME, rows[1])
        return _on_all(loss, mesh, *specs)(params, num_tokens, batch, state)

    return jax.jit(exactly(on_all))


@kept
def shared_gradient(module: RNNLMScratch, mesh: Mesh) -> Callable[..., Any]:
    """``(params, num_tokens, batch, state) -> (loss, gradient)``, dropout off."""
    gradient_of = gradient_and_loss(module)

    def gradient(params: Any, num_tokens: Any, batch: Batch, state: State) -> Any:
        (loss, _), gradient = gradient_of(params, batch, state, None, num_tokens)
        loss, _, gradient = _summed(_flat(loss, 0, gradient), params)
        return loss, gradient

    def on_all(params: Any, num_tokens: Any, batch: Batch, state: State) -> Any:
        specs = (SAME, SAME, *_rows_specs((batch, state))), SAME
        return _on_all(gradient, mesh, *specs)(params, num_tokens, batch, state)

    return jax.jit(exactly(on_all))


@kept
def shared_training_step(
    module: RNNLMScratch, optimizer: Optimizer, theta: float | None, mesh: Mesh
) -> Callable[..., Any]:
    """One step of all workers, in one function.

    It takes ``(params, optimizer_state, rate, step, num_tokens, batch, state, masks, stop)``, ``stop`` (1, 1)
    of each worker, and returns new parameters and a new optimiser state in the memory of the old ones
    (donated), a `PartResult` and the state.
    """
    gradient_of, update = gradient_and_loss(module), _shared_update(optimizer, theta)

    def train(
        params: Any, remembered: Any, rate: Any, step: Any, num_tokens: Any,
        batch: Batch, state: State, masks: Any, stop: jax.Array,
    ) -> tuple[Any, Any, PartResult, State]:  # fmt: skip
        (loss, state), gradient = gradient_of(params, batch, state, masks, num_tokens)
        return *update(params, remembered, rate, step, _flat(loss, stop, gradient)), state

    def on_all(*arguments: Any) -> Any:
        same, rows = arguments[:5], _rows_specs(arguments[5:])
        specs = (*[SAME] * len(same), *rows), (SAME, SAME, SAME, rows[1])
        return _on_all(train, mesh, *specs)(*arguments)

    return jax.jit(exactly(on_all), donate_argnums=(0, 1))


@kept
def shared_update(optimizer: Optimizer, theta: float | None, mesh: Mesh) -> Callable[..., Any]:
    """The end of a step whose rows were taken part by part.

    It takes ``(params, optimizer_state, rate, step, flat)``, ``flat`` being what `flattened` returns on each
    worker, and returns what `shared_training_step` does, without a state.
    """
    specs = (*[SAME] * 4, rows_spec(2)), SAME
    on_all = _on_all(_shared_update(optimizer, theta), mesh, *specs)
    return jax.jit(exactly(on_all), donate_argnums=(0, 1))


@jax.jit
def flattened(sums: tuple[jax.Array, Any], stop: Any) -> jax.Array:
    """A worker's loss, its wish to stop and its gradient as one row (1, n)."""
    loss, gradient = sums
    return _flat(loss, stop, gradient)


@jax.jit
def joined(states: Any) -> State:
    """The state of all rows of a worker, from those of its parts."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=-2), *states)


def _shared_update(optimizer: Optimizer, theta: float | None) -> Callable[..., Any]:
    """``(params, optimizer_state, rate, step, flat) -> (params, optimizer_state, result)`` on each worker."""
    clipped_update = update_of(optimizer, theta)

    def update(
        params: Any, remembered: Any, rate: Any, step: Any, flat: jax.Array
    ) -> tuple[Any, Any, PartResult]:
        loss, stops, gradient = _summed(flat, params)
        params, remembered, norm = clipped_update(params, remembered, rate, step, gradient)
        return params, remembered, PartResult(loss, norm, stops)

    return update


def _flat(loss: jax.Array, stop: Any, gradient: Any) -> jax.Array:
    return ravel_pytree((loss, jnp.asarray(stop, loss.dtype).reshape(()), gradient))[0][None]


def _summed(flat: jax.Array, params: Any) -> Any:
    """The sums over all workers of loss, wishes to stop and gradient, which is like `params`."""
    zero = jnp.zeros((), flat.dtype)
    return ravel_pytree((zero, zero, params))[1](lax.psum(flat[0], AXIS))


def _rows_specs(arguments: Any) -> Any:
    return jax.tree.map(lambda array: rows_spec(array.ndim), arguments)


def _on_all(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    # With JAX's own check it would differentiate to sums over the workers, one for each parameter.
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
