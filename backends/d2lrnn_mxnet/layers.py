"""Gluon's recurrent layers, run one layer at a time.

With more than one layer, ``gluon.rnn`` has wrong gradients on the CPU (in float64 always, in float32 without
oneDNN), and in float32 its ``dropout`` does nothing there. One layer in one direction is right. So what a
``gluon.rnn.RNN``, ``GRU`` or ``LSTM`` computes, also a chapter's own, is computed here by calls of the
operator for one layer and one direction, on the Gluon layer's parameters.

The operator's relu rounds to float32 whatever the type: in float64 the formula is used instead.

The code reads private attributes of Gluon's layers: MXNet 1.9.1 is the last release, so they will not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from d2lrnn.contract import cells
from d2lrnn_mxnet.dropout import drop
from d2lrnn_mxnet.recurrence import Array, cut, steps_and_batch, unroll, value_of
from d2lrnn_mxnet.scratch import ReluRNNScratch


def run_layers(
    rnn: Any, inputs: Array, state: Sequence[Array], masks: Any = None, *, one_bias: bool = False
) -> tuple[Array, list[Array]]:
    """``rnn(inputs, state)``, with right gradients and with dropout.

    Args:
        rnn: a ``gluon.rnn`` layer that takes (T, B, in).
        inputs: (T, B, in).
        state: ``[H]``, for an LSTM ``[H, C]``, each (L · directions, B, h).
        masks: L - 1 arrays (T, B, h), which multiply the outputs of all layers but the last; an empty list
            drops nothing. None drops at the layer's own rate: inside ``autograd.record()``, else nothing.
        one_bias: whether a GRU's recurrent biases count in its n gate alone.

    Returns:
        The outputs of the last layer (T, B, directions · h), and the final state, as `state`.
    """
    if not _is_plain(rnn):
        return rnn(inputs, list(state))
    F = mx.nd if isinstance(inputs, NDArray) else mx.sym
    if F is mx.nd:
        _finish_initialization(rnn, inputs, state)
    sides = ("l", "r")[: rnn._dir]
    cells = iter(zip(*(cut(F, part, rnn._num_layers * len(sides)) for part in state), strict=True))
    outputs, finals = inputs, []
    for l in range(rnn._num_layers):
        if l > 0:
            outputs = drop(outputs, rnn._dropout, masks, l - 1)
        results = []
        for side in sides:
            sequence = outputs if side == "l" else F.np.flip(outputs, axis=0)
            result, final = _run(F, rnn, f"{side}{l}", sequence, next(cells), one_bias)
            results.append(result if side == "l" else F.np.flip(result, axis=0))
            finals.append(final)
        outputs = results[0] if len(results) == 1 else F.np.concatenate(results, axis=2)
    return outputs, [F.np.concatenate(part, axis=0) for part in zip(*finals, strict=True)]


def has_shape(parameter: Any) -> bool:
    """Whether a Gluon parameter's shape is known; if not, a layer infers it from its first inputs."""
    return all(size > 0 for size in parameter.shape)


def _run(
    F: Any, rnn: Any, name: str, inputs: Array, state: Sequence[Array], one_bias: bool
) -> tuple[Array, list[Array]]:
    """One layer in one direction: outputs (T, B, h) and its final state, each part (1, B, h)."""
    w_x, w_h, b_x, b_h = (
        value_of(getattr(rnn, f"{name}_{part}"), inputs)
        for part in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
    )
    if one_bias and isinstance(rnn, gluon.rnn.GRU):
        _, _, b_hn = cut(F, b_h, 3)
        zeros = F.np.zeros_like(b_hn)
        b_h = F.np.concatenate([zeros, zeros, b_hn], axis=0)
    shape = steps_and_batch(F, inputs)
    if _rounds(rnn) and shape is not None:
        outputs, final = unroll(
            F,
            cells.RELU_RNN,
            ReluRNNScratch.step,
            inputs,
            tuple(F.np.squeeze(part, axis=0) for part in state),
            w_x.T,
            w_h.T,
            b_x + b_h,
            {},
            num_steps=shape[0],
            batch_size=shape[1],
            num_hiddens=rnn._hidden_size,
        )
        return outputs, [F.np.expand_dims(part, axis=0) for part in final]
    packed = F.np.concatenate([w_x.reshape(-1), w_h.reshape(-1), b_x, b_h], axis=0)
    outputs, *final = F.npx.rnn(
        inputs,
        packed,
        *state,
        state_size=rnn._hidden_size,
        num_layers=1,
        mode=rnn._mode,
        state_outputs=True,
    )
    return outputs, final


def _rounds(rnn: Any) -> bool:
    """Whether the operator computes in less than the layer's precision: its relu is always in float32."""
    return bool(rnn._mode == "rnn_relu" and np.dtype(rnn._dtype) == np.float64)


def _is_plain(rnn: Any) -> bool:
    """Whether `run_layers` can compute what `rnn` does."""
    return (
        isinstance(rnn, (gluon.rnn.RNN, gluon.rnn.GRU, gluon.rnn.LSTM))
        and rnn._layout == "TNC"
        and rnn._projection_size is None
        and not rnn._use_sequence_length
        and rnn._lstm_state_clip_min is None
    )


def _finish_initialization(rnn: Any, inputs: Array, state: Sequence[Array]) -> None:
    """Lets Gluon infer the size of the inputs at the first call."""
    if not has_shape(rnn.l0_i2h_weight):
        with autograd.pause():
            rnn(inputs[:1], list(state))
