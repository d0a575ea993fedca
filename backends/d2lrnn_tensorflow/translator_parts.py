"""The encoder and the decoder of a translator, as functions of its parameters.

B = batch size, S = source steps, T = target steps, h = hidden units, L = layers. What a function takes and
returns has the time steps in front, but for what the attention looks at.

The encoder runs over the padding too, and its final states are taken from each row's last token: no step
before that one sees what comes behind it, and what comes behind it has no gradient. So all layers are
`d2lrnn_tensorflow.recurrence`, with the inputs of all steps projected before it. With attention the first
layer's input at a step depends on the last layer's state before it: there one step goes through all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn_tensorflow.recurrence import LayerState, Tensor, Weight, look_up, project, recurrence
from d2lrnn_tensorflow.scratch import GRUScratch

#: The parameters as tensors, by canonical name.
Weights: TypeAlias = Mapping[str, Tensor]


class Memory(NamedTuple):
    """What the encoder made of a batch, and how far the decoder is.

    Attributes:
        states: those of the decoder's layers, each (B, h).
        last: M_n, the last layer's state after each row's last token (B, h).
        attended: what attention looks at: the encoder's ``outputs`` M (B, S, h), their ``keys`` M w_k
            (B, S, h), and what is added to the scores, ``behind`` (B, S): -inf at the padding, else 0. Empty
            without attention.
    """

    states: tuple[Tensor, ...]
    last: Tensor
    attended: dict[str, Tensor]


def encode(
    spec: TranslatorSpec, p: Weights, source: Tensor, lengths: Tensor, masks: Tensor | None = None
) -> Memory:
    """What the encoder makes of sentences.

    Args:
        spec: the translator.
        p: its parameters.
        source: tokens (B, S).
        lengths: how many of each row are no padding (B,).
        masks: (L - 1, S, B, h), multiply the outputs of all layers but the last.
    """
    embedded = look_up(p["encoder.embedding"], tf.transpose(source))
    zeros = tf.zeros((tf.shape(source)[0], spec.num_hiddens), spec.dtype)
    first = project(embedded, p["encoder.0.w_x"], p["encoder.0.b"])
    outputs = _layers(p, "encoder", first, [zeros] * spec.num_layers, masks)
    last_tokens = tf.stack([lengths - 1, tf.range(tf.shape(source)[0])], axis=1)
    states = tuple(tf.gather_nd(layer, last_tokens) for layer in outputs)
    if not spec.attention:
        return Memory(states, states[-1], {})
    M = tf.transpose(outputs[-1], (1, 0, 2))
    known = tf.sequence_mask(lengths, tf.shape(source)[1])
    behind = tf.where(known, tf.zeros((), spec.dtype), tf.constant(-np.inf, spec.dtype))
    keys = tf.tensordot(M, p["attention.w_k"], axes=1)
    return Memory(states, states[-1], {"outputs": M, "keys": keys, "behind": behind})


def decode(
    spec: TranslatorSpec, p: Weights, tokens: Tensor, memory: Memory, masks: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The last layer's states after every step (T, B, h), and those of all layers after the last.

    Args:
        spec: the translator.
        p: its parameters.
        tokens: the inputs (T, B).
        memory: of the encoder, with the states to begin with.
        masks: (L - 1, T, B, h), multiply the outputs of all layers but the last.
    """
    w_embedded, w_context = tf.split(p["decoder.0.w_x"], [spec.embedding_size, spec.num_hiddens])
    first = project(look_up(p["decoder.embedding"], tokens), w_embedded, p["decoder.0.b"])
    if spec.attention:
        return _attending_layers(spec, p, first, w_context, memory, masks)
    outputs = _layers(p, "decoder", first + tf.matmul(memory.last, w_context), memory.states, masks)
    return outputs[-1], tuple(layer[-1] for layer in outputs)


def _layers(
    p: Weights, side: str, projected: Tensor, states: Sequence[Tensor], masks: Tensor | None
) -> list[Tensor]:
    """The outputs (T, B, h) of every layer, the first one's inputs being projected already."""
    outputs: list[Tensor] = []
    for l, state in enumerate(states):
        if l > 0:
            inputs = outputs[-1] if masks is None else outputs[-1] * masks[l - 1]
            projected = project(inputs, p[f"{side}.{l}.w_x"], p[f"{side}.{l}.b"])
        outputs.append(recurrence(GRUScratch.step, projected, (state,), [_state_weight(p, f"{side}.{l}")])[0])
    return outputs


def _state_weight(p: Weights, layer: str) -> Weight:
    """``w_h`` of a layer, with ``b_hn`` as the bias of its last third."""
    b_hn = p[f"{layer}.b_hn"]
    return p[f"{layer}.w_h"], tf.concat([tf.zeros_like(b_hn), tf.zeros_like(b_hn), b_hn], axis=0)


def _attending_layers(
    spec: TranslatorSpec,
    p: Weights,
    projected: Tensor,
    w_context: Tensor,
    memory: Memory,
    masks: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The decoder with additive attention: one recurrence, whose step goes through all layers.

    What a step takes beside its inputs (B, 3h) are the masks between the layers, each (B, h): they stand
    beside the inputs. Its state begins with the last layer's, which is its output and asks for the context.
    """
    h, L = spec.num_hiddens, spec.num_layers
    num_masks = 0 if masks is None else L - 1
    if num_masks:
        projected = tf.concat([projected, *tf.unstack(masks)], axis=-1)

    def step(
        X: Tensor,
        state: LayerState,
        query: Callable[[Tensor], Tensor],
        of_context: Callable[[Tensor], Tensor],
        *products: Callable[[Tensor], Tensor],
        w_v: Tensor,
        outputs: Tensor,
        keys: Tensor,
        behind: Tensor,
    ) -> LayerState:
        X, *step_masks = tf.split(X, [3 * h] + [h] * num_masks, axis=1)
        features = tf.tanh(keys + query(state[0])[:, tf.newaxis])
        shares = tf.nn.softmax(tf.tensordot(features, w_v, axes=1) + behind)
        X = X + of_context(tf.linalg.matvec(outputs, shares, transpose_a=True))
        following: list[Tensor] = []
        for l, H in enumerate(reversed(state)):
            if l > 0:
                below = following[-1] * step_masks[l - 1] if num_masks else following[-1]
                X = products[L + l - 1](below)
            following += GRUScratch.step(X, (H,), products[l])
        return tuple(reversed(following))

    outputs, states = recurrence(
        step,
        projected,
        memory.states[::-1],
        [
            (p["attention.w_q"],),
            (w_context,),
            *(_state_weight(p, f"decoder.{l}") for l in range(L)),
            *((p[f"decoder.{l}.w_x"], p[f"decoder.{l}.b"]) for l in range(1, L)),
        ],
        {"w_v": p["attention.w_v"], **memory.attended},
    )
    return outputs, states[::-1]


def logits(p: Weights, outputs: Tensor) -> Tensor:
    """(…, V_t) of the last layer's states (…, h)."""
    return tf.tensordot(outputs, p["head.w"], axes=1) + p["head.b"]
