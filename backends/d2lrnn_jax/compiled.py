"""The compiled functions of a language model: loss, gradient, training step, single step, layers.

They are pure, and equal modules share them; a learner keeps what changes from step to step. A training step
reads in the order in which it computes: loss, gradient, norm, clip, update. The rate and the number of the
step are inputs, so that another rate compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.contract.optimizers import Optimizer
from d2lrnn.contract.values import Batch, State, StepResult
from d2lrnn_jax.gradients import clip, global_norm
from d2lrnn_jax.language_model import RNNLMScratch
from d2lrnn_jax.optimizers import updated
from d2lrnn_jax.prediction import Step, compiled_step

#: Kept for as many models as a process is likely to use at a time.
kept = lru_cache(maxsize=64)

#: ``(params, batch, state, masks, num_tokens) -> (loss, state)``, not compiled.
Loss = Callable[..., tuple[jax.Array, State]]


def loss_of(module: RNNLMScratch) -> Loss:
    """The loss of a batch, or of a part of a batch that has `num_tokens` targets in all."""

    def loss(
        params: Any,
        batch: Batch,
        state: State,
        masks: DropoutMasks | None = None,
        num_tokens: jax.Array | None = None,
    ) -> tuple[jax.Array, State]:
        total, state = module.apply({"params": params}, *batch, state, masks, method="summed_loss")
        if num_tokens is None:
            num_tokens = jnp.count_nonzero(batch.targets >= 0)
        return total / jnp.maximum(1, num_tokens), state

    return loss


def gradient_and_loss(module: RNNLMScratch) -> Callable[..., Any]:
    """``(params, batch, state, masks, num_tokens) -> ((loss, state), gradient)``, not compiled."""
    return jax.value_and_grad(loss_of(module), has_aux=True)


def update_of(optimizer: Optimizer, theta: float | None) -> Callable[..., Any]:
    """``(params, optimizer_state, rate, step, gradient) -> (params, optimizer_state, norm)``.

    It clips and updates; not compiled.
    """

    def update(
        params: Any, remembered: Any, rate: Any, step: Any, gradient: Any
    ) -> tuple[Any, Any, jax.Array]:
        norm, gradient = global_norm(gradient), clip(gradient, theta)
        params, remembered = updated(optimizer, params, gradient, remembered, rate, step)
        return params, remembered, norm

    return update


@kept
def compiled_loss(module: RNNLMScratch) -> Callable[..., Any]:
    """``(params, batch, state) -> (loss, state)``, dropout off."""
    return jax.jit(exactly(loss_of(module)))


@kept
def compiled_gradient(module: RNNLMScratch) -> Callable[..., Any]:
    """``(params, batch, state) -> ((loss, state), gradient)``, dropout off."""
    return jax.jit(exactly(gradient_and_loss(module)))


@kept
def compiled_training_step(
    module: RNNLMScratch, optimizer: Optimizer, theta: float | None
) -> Callable[..., Any]:
    """One step on a whole batch, in one function.

    It takes ``(params, optimizer_state, rate, step, batch, state, masks)``, and returns new parameters and a
    new optimiser state in the memory of the old ones (donated), a `StepResult` and the state.
    """
    gradient_of, clipped_update = gradient_and_loss(module), update_of(optimizer, theta)

    def train(
        params: Any, remembered: Any, rate: Any, step: Any, batch: Batch, state: State, masks: Any
    ) -> tuple[Any, Any, StepResult, State]:
        (loss, state), gradient = gradient_of(params, batch, state, masks)
        params, remembered, norm = clipped_update(params, remembered, rate, step, gradient)
        return params, remembered, StepResult(loss, norm), state

    return jax.jit(exactly(train), donate_argnums=(0, 1))


class PartByPart(NamedTuple):
    """The functions of a training step that takes a batch part by part.

    Attributes:
        add: ``(sums, params, start, batch, state, masks, num_tokens) -> (sums, state)`` for a part: its rows
            of the batch, the first of which is `start`, and the state of the whole batch. `sums` are the loss
            and the gradient so far; their memory is donated.
        update: ``(params, optimizer_state, rate, step, sums, states)``, with the states of all parts; returns
            what a `compiled_training_step` does.
    """

    add: Callable[..., Any]
    update: Callable[..., Any]


@kept
def compiled_parts(module: RNNLMScratch, optimizer: Optimizer, theta: float | None) -> PartByPart:
    """A training step in parts."""
    gradient_of, clipped_update = gradient_and_loss(module), update_of(optimizer, theta)

    def add(
        sums: Any, params: Any, start: Any, batch: Batch, state: State, masks: Any, num_tokens: Any
    ) -> tuple[Any, State]:
        size = len(batch.inputs)
        # The last two axes of a state are (B, h), whatever the layers.
        before = jax.tree.map(lambda part: lax.dynamic_slice_in_dim(part, start, size, part.ndim - 2), state)
        (loss, after), gradient = gradient_of(params, batch, before, masks, num_tokens)
        return jax.tree.map(jnp.add, sums, (loss, gradient)), after

    def update(
        params: Any, remembered: Any, rate: Any, step: Any, sums: Any, states: Sequence[State]
    ) -> tuple[Any, Any, StepResult, State]:
        loss, gradient = sums
        params, remembered, norm = clipped_update(params, remembered, rate, step, gradient)
        state = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=-2), *states)
        return params, remembered, StepResult(loss, norm), state

    return PartByPart(
        jax.jit(exactly(add), donate_argnums=0), jax.jit(exactly(update), donate_argnums=(0, 1))
    )


@kept
def compiled_prediction(module: RNNLMScratch) -> Step:
    """``(params, tokens, state) -> (logits, state)`` for one time step."""
    return compiled_step(
        lambda params, tokens, state: module.apply({"params": params}, tokens, state, method="unroll")
    )


@kept
def compiled_layers(module: RNNLMScratch) -> Callable[..., Any]:
    """``(params, inputs, state) -> (outputs, state)`` of the recurrent layers alone."""

    def layers(params: Any, inputs: jax.Array, state: State) -> Any:
        return module.apply({"params": params}, inputs, state, method=_run_layers)

    return jax.jit(exactly(layers))


def _run_layers(model: RNNLMScratch, inputs: jax.Array, state: State) -> Any:
    return model.rnn(inputs, state)


def exactly(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with products in full precision: by default a GPU multiplies float32 as TF32."""

    def exact(*arguments: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return exact
