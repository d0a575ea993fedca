"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn_tensorflow.devices import devices, native_name
from d2lrnn_tensorflow.recurrence import Tensor


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    One `tf.function`, its steps written out. There is no activation, no update, and no copy: what a product
    of one step is made of does not come from the step before, but waits for it all the same. Every product
    is returned, so that none is pruned.

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
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> Tensor:
        return tf.constant(random.normal(0.0, h**-0.5, shape), spec.dtype)

    @tf.function
    def run(given: dict[str, Any]) -> list[Tensor]:
        rows, d_rows, results = given["rows"], given["d_rows"], [given["H"]]

        def after_the_last(left: Tensor, right: Tensor, **options: bool) -> None:
            with tf.control_dependencies(results[-1:]):
                results.append(product(left, right, **options))

        for layer in range(L):
            if layer:
                after_the_last(rows, given["w_x"])
            for _ in range(T):
                for w_h in given["w_h"]:
                    after_the_last(given["H"], w_h)
        after_the_last(rows, given["head"])
        after_the_last(given["d_logits"], given["head_back"])
        after_the_last(rows, given["d_logits"], transpose_left=True)
        for layer in reversed(range(L)):
            for _ in range(T - 1):
                for d_gates, w_h_back in zip(given["d_gates"], given["w_h_back"], strict=True):
                    after_the_last(d_gates, w_h_back)
            after_the_last(rows, d_rows, transpose_left=True)
            if layer:
                after_the_last(rows, d_rows, transpose_left=True)
                after_the_last(d_rows, given["w_x_back"])
        return results

    name = native_name(choose_device(device, devices()))
    with tf.device(name):
        given = {
            "H": drawn(B, h),
            "rows": drawn(T * B, h),
            "w_h": [drawn(h, part) for part in parts],
            "w_x": drawn(h, width),
            "head": drawn(h, V),
            "d_gates": [drawn(B, part) for part in parts],
            "d_rows": drawn(T * B, width),
            "d_logits": drawn(T * B, V),
            "w_h_back": [drawn(part, h) for part in parts],
            "w_x_back": drawn(width, h),
            "head_back": drawn(V, h),
        }

    def floor_once() -> None:
        with tf.device(name):
            run(given)
        tf.test.experimental.sync_devices()

    return floor_once


def product(left: Tensor, right: Tensor, *, transpose_left: bool = False) -> Tensor:
    """``left @ right``, or ``left.T @ right``; a name of its own, so that a test can count."""
    return tf.linalg.matmul(left, right, transpose_a=transpose_left)
