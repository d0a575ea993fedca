"""A translator's encoder, decoder, attention and loss for JAX: pure functions of the parameters.

`d2lrnn.translation.spec` has the model in words. B = batch size, S = source steps, T = target steps, h =
hidden units, E = embedding size, L = layers. Arrays of all steps lie step by step: (S, B, …) and (T, B, …).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import optax
from jax import lax
from jax import numpy as jnp

from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.translation.values import PairBatch
from d2lrnn_jax.recurrence import project, run_recurrence
from d2lrnn_jax.scratch import GRUScratch

#: The parameters by canonical name.
Params: TypeAlias = dict[str, jax.Array]

#: Of the encoder and of the decoder, (L - 1, steps, B, h); None where nothing is dropped.
Masks: TypeAlias = tuple[Any, Any]


class Memory(NamedTuple):
    """What attention looks at.

    Attributes:
        outputs: M, the states of the encoder's last layer (S, B, h).
        keys: M w_k (S, B, h).
        known: (S, B), whether a position is no padding.
    """

    outputs: jax.Array
    keys: jax.Array
    known: jax.Array


class Writing(NamedTuple):
    """A decoder between two steps.

    Attributes:
        memory: what attention looks at; without attention the context itself, M_n (B, h).
        states: those of the decoder's layers, each (B, h).
    """

    memory: Memory | jax.Array
    states: tuple[jax.Array, ...]


def read(
    params: Params, source: jax.Array, lengths: jax.Array, mask: Any = None, *, spec: TranslatorSpec
) -> Writing:
    """The encoder.

    What comes behind a row's last token cannot reach the states before it, and nothing looks at those behind
    it: instead of holding the states from there on, the final ones are taken at the last token.

    Args:
        params: the parameters.
        source: tokens (B, S).
        lengths: (B,), at least 1.
        mask: (L - 1, S, B, h).
        spec: the translator.

    Returns:
        What the decoder begins with.
    """
    (B, S), h = source.shape, spec.num_hiddens
    X = project(_embed(params["encoder.embedding"], source), *_projection(params, "encoder", 0))
    zeros = jnp.zeros((B, h), X.dtype)
    layers = _run_layers(params, "encoder", X, [zeros] * spec.num_layers, mask)
    final = tuple(outputs[lengths - 1, jnp.arange(B)] for outputs in layers)
    if not spec.attention:
        return Writing(final[-1], final)
    M = layers[-1]
    known = jnp.arange(S)[:, None] < lengths
    return Writing(Memory(M, M @ params["attention.w_k"], known), final)


def decode(
    params: Params, tokens: jax.Array, state: Writing, mask: Any = None, *, spec: TranslatorSpec
) -> list[jax.Array]:
    """The decoder over all steps.

    Args:
        params: the parameters.
        tokens: its inputs (B, T).
        state: before the first step.
        mask: (L - 1, T, B, h).
        spec: the translator.

    Returns:
        The states of every layer after every step, L times (T, B, h).
    """
    w_x, b = _projection(params, "decoder", 0)
    of_token, of_context = w_x[: spec.embedding_size], w_x[spec.embedding_size :]
    X = project(_embed(params["decoder.embedding"], tokens), of_token, b)
    memory, states = state
    if not isinstance(memory, Memory):
        return _run_layers(params, "decoder", X + memory @ of_context, states, mask)

    # The backward pass computes the features anew: to keep all (T, S, B, h) of them takes longer. A scan's
    # own steps need no barrier against merging the two.
    context = jax.checkpoint(partial(attend, params, memory), prevent_cse=False)

    def step(states: Sequence[jax.Array], inputs: Any) -> tuple[list[jax.Array], list[jax.Array]]:
        X, mask = inputs
        X = X + context(states[-1]) @ of_context
        mask = None if mask is None else mask[:, None]
        following = [outputs[0] for outputs in _run_layers(params, "decoder", X[None], states, mask)]
        return following, following

    by_step = None if mask is None else jnp.swapaxes(mask, 0, 1)
    _, layers = lax.scan(step, list(states), (X, by_step))
    return layers


def attend(params: Params, memory: Memory, H: jax.Array) -> jax.Array:
    """The context of additive attention (B, h), asked for by a state H (B, h)."""
    features = jnp.tanh(memory.keys + H @ params["attention.w_q"])
    scores = jnp.where(memory.known, features @ params["attention.w_v"], -jnp.inf)
    weights = jax.nn.softmax(scores, axis=0)
    return jnp.sum(weights[..., None] * memory.outputs, axis=0)


def mean_loss(
    params: Params, batch: PairBatch, masks: Masks = (None, None), *, spec: TranslatorSpec
) -> jax.Array:
    """The sum of the losses at all targets that are no padding, divided by their number."""
    of_encoder, of_decoder = masks
    state = read(params, batch.source, batch.lengths, of_encoder, spec=spec)
    H = decode(params, batch.inputs, state, of_decoder, spec=spec)[-1]
    targets = batch.targets.T
    valid = targets >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(head(params, H), jnp.maximum(targets, 0))
    return jnp.sum(losses, where=valid) / jnp.maximum(1, jnp.count_nonzero(valid))


def _embed(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """The rows of the table for tokens (B, steps), step by step: (steps, B, E)."""
    return jnp.take(table, tokens.T, axis=0, mode="clip")


def _projection(params: Params, side: str, l: int) -> tuple[jax.Array, jax.Array]:
    """What projects the inputs of a layer: w_x and b."""
    return params[f"{side}.{l}.w_x"], params[f"{side}.{l}.b"]


def _run_layers(
    params: Params, side: str, X: jax.Array, states: Sequence[jax.Array], mask: Any
) -> list[jax.Array]:
    """The outputs (T, B, h) of every layer of one side, over all steps of projected inputs (T, B, 3h)."""
    layers: list[jax.Array] = []
    for l, H in enumerate(states):
        if l:
            inputs = layers[-1] if mask is None else layers[-1] * mask[l - 1]
            X = project(inputs, *_projection(params, side, l))
        weights = {name: params[f"{side}.{l}.{name}"] for name in ("w_h", "b_hn")}
        outputs, _ = run_recurrence(GRUScratch.step, weights, (H,), X)
        layers.append(outputs)
    return layers


def head(params: Params, H: jax.Array) -> jax.Array:
    """The logits of the last layer's states."""
    return H @ params["head.w"] + params["head.b"]
