"""Dropout by given masks, or by MXNet's own operator where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mxnet as mx
from mxnet.ndarray import NDArray

from d2lrnn.contract import dropout
from d2lrnn.contract.values import FloatArray
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.recurrence import Array


class Masks(NamedTuple):
    """The factors of the activations in one step, as MXNet's arrays; an empty list drops nothing.

    Attributes:
        inputs: at most one array (T, B, E), of the embedding.
        between: L - 1 arrays (T, B, h), of the outputs of all layers but the last.
        outputs: at most one array (T, B, h), of the outputs of the last layer.
    """

    inputs: list[Array]
    between: list[Array]
    outputs: list[Array]


def masks_on_device(masks: dropout.DropoutMasks | None, dtype: str, context: Any) -> Masks:
    """NumPy's masks on a device; without any, masks that drop nothing."""
    inputs, between, outputs = masks or dropout.DropoutMasks()
    kinds = (_alone(inputs), [] if between is None else list(between), _alone(outputs))
    return Masks(*([on_device(mask, dtype, context) for mask in kind] for kind in kinds))


def drop(x: Array, rate: float, masks: Sequence[Array] | None, number: int = 0) -> Array:
    """`x` with some of its entries dropped and the others scaled.

    Args:
        x: an array, or the symbol of one.
        rate: MXNet drops at this rate where there are no masks: inside ``autograd.record()``, else nothing.
        masks: arrays of the shape of `x`; an empty list drops nothing. None leaves dropout to MXNet.
        number: which of the masks.
    """
    if masks is not None:
        return x * masks[number] if masks else x
    if not rate:
        return x
    F = mx.nd if isinstance(x, NDArray) else mx.sym
    return F.npx.dropout(x, p=rate)


def _alone(mask: FloatArray | None) -> list[FloatArray]:
    return [] if mask is None else [mask]
