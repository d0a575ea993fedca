"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mxnet as mx
import numpy

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn_mxnet.devices import available_devices, context_of
from d2lrnn_mxnet.recurrence import FEW_ROWS


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    There is no activation, no update, and no copy: all memory is laid out before, as MXNet's fastest product
    wants it. What a product of one step is made of does not come from the step before, but all write to the
    same place, so that MXNet's engine lets each wait for the one before.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.contract.protocols.Backend.learner`.

    Returns:
        A function without arguments that runs them all, once, and waits until they are done.

    Example:
        >>> floor(ModelSpec(28, num_hiddens=512), batch_size=32, num_steps=35)()
    """
    B, T, h, V, L = batch_size, num_steps, spec.num_hiddens, spec.vocab_size, spec.num_layers
    width = spec.num_gates * h
    # A GRU that resets before its product: the candidate's part is a product of its own, after the gates'.
    parts = (2 * h, h) if spec.reset_after is False else (width,)
    context, random = context_of(choose_device(device, available_devices())), numpy.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return mx.nd.array(random.normal(0.0, h**-0.5, shape), ctx=context, dtype=spec.dtype)

    def factor(rows: int, inputs: int, outputs: int) -> Any:
        """The right one of a product with so many rows on the left, as `product` wants it."""
        return drawn(inputs, outputs) if rows <= FEW_ROWS else drawn(outputs, inputs)

    H, rows, rows_across = drawn(B, h), drawn(T * B, h), drawn(h, T * B)
    w_h, w_h_back = [factor(B, h, part) for part in parts], [factor(B, part, h) for part in parts]
    w_x, w_x_back = factor(T * B, h, width), factor(T * B, width, h)
    head, head_back = factor(T * B, h, V), factor(T * B, V, h)
    d_gates, d_logits, d_rows = [drawn(B, part) for part in parts], drawn(T * B, V), drawn(T * B, width)
    d_logits_below, d_rows_below = factor(h, T * B, V), factor(h, T * B, width)
    hidden, gates = drawn(B, h), [drawn(B, part) for part in parts]
    results = {columns: drawn(T * B, columns) for columns in (h, V, width)}
    d_weights, d_head = drawn(h, width), drawn(h, V)

    def floor_once() -> None:
        for layer in range(L):
            if layer:
                product(rows, w_x, results[width])
            for _ in range(T):
                for weight, gate in zip(w_h, gates, strict=True):
                    product(H, weight, gate)
        product(rows, head, results[V])
        product(d_logits, head_back, results[h])
        product(rows_across, d_logits_below, d_head)
        for layer in reversed(range(L)):
            for _ in range(T - 1):
                for d_gate, weight in zip(d_gates, w_h_back, strict=True):
                    product(d_gate, weight, hidden)
            product(rows_across, d_rows_below, d_weights)
            if layer:
                product(rows_across, d_rows_below, d_weights)
                product(d_rows, w_x_back, results[h])
        mx.nd.waitall()

    return floor_once


def product(left: Any, right: Any, out: Any) -> None:
    """``left @ right`` by the faster of MXNet's two, of which one wants `right` transposed.

    A name of its own, so that a test can count.

    The fused operator of `d2lrnn_mxnet.recurrence.fused` knows a faster way still, which MXNet offers for no
    product alone: a model that is made of it can take less time than this floor.
    """
    if len(left) <= FEW_ROWS:
        mx.nd.dot(left, right, out=out)
    else:
        mx.nd.FullyConnected(left, right, no_bias=True, num_hidden=len(right), flatten=False, out=out)
