"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from d2lrnn.adapter import ModelSpec
from d2lrnn.devices import choose_device
from d2lrnn_tensorflow.devices import devices, native_name
from d2lrnn_tensorflow.recurrence import Tensor


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    One `tf.function`, its steps written out. There is no activation and no update. What goes from step to
    step are h columns of a product, in place of what the gates would make of it: of the same size, and known
    no sooner. The weights are drawn so that a state keeps its length; one that shrank would end in numbers
    too small to be multiplied at full speed. Every product is either fed to a later one or returned, so that
    none is pruned.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.adapter.Backend.learner`.

    Returns:
        A function without arguments that runs them all, once, and waits until they are done.

    Example:
        >>> floor(ModelSpec(28, num_hiddens=512), batch_size=32, num_steps=35)()
    """
    B, T, h, V, L = batch_size, num_steps, spec.num_hiddens, spec.vocab_size, spec.num_layers
    width = spec.num_gates * h
    # A GRU that resets before its product: the candidate's part is a product of its own, after the gates'.
    split = 2 * h if spec.reset_after is False else width
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> Tensor:
        return tf.constant(random.normal(0.0, h**-0.5, shape), spec.dtype)

    def recur(w_h: Tensor, w_n: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
        hiddens = []
        for _ in range(T):
            gates = product(H, w_h)
            if split < width:
                gates = product(gates[:, :h], w_n)
            H = gates[:, -h:]
            hiddens.append(H)
        return tf.concat(hiddens, 0), H

    def recur_back(w_h: Tensor, w_n: Tensor, d_gates: Tensor) -> Tensor:
        steps, constant = [d_gates], d_gates[:, h:]
        for _ in range(T - 1):
            d_first = d_gates
            if split < width:
                reset = product(d_gates[:, split:], w_n, transpose_right=True)
                d_first = tf.concat([reset, d_gates[:, h:split]], 1)
            d_previous = product(d_first, w_h, transpose_right=True)
            d_gates = tf.concat([d_previous, constant], 1) if width > h else d_previous
            steps.append(d_gates)
        return tf.concat(steps, 0)

    @tf.function
    def run(w_h: Tensor, w_n: Tensor, w_x: Tensor, head: Tensor, H: Tensor) -> list[Tensor]:
        rows, results = [], []
        for layer in range(L):
            hiddens, H = recur(w_h, w_n, H)
            rows.append(hiddens)
            if layer + 1 < L:
                projected = product(hiddens, w_x)
                results.append(projected)
                # The last row of the projection is where the layer above begins.
                H = projected[-B:, :h]
        logits = product(rows[-1], head)
        d_rows = product(logits, head, transpose_right=True)
        results.append(product(rows[-1], logits, transpose_left=True))
        for layer in reversed(range(L)):
            d_gates = recur_back(w_h, w_n, tf.concat([d_rows[-B:]] * spec.num_gates, 1))
            results.append(product(rows[layer], d_gates, transpose_left=True))
            if layer:
                # Not the rows of this layer: the same product twice would be made once.
                results.append(product(rows[layer - 1], d_gates, transpose_left=True))
                d_rows = product(d_gates, w_x, transpose_right=True)
        return [*results, d_rows]

    name = native_name(choose_device(device, devices()))
    with tf.device(name):
        w_h, w_n = drawn(h, split), drawn(h, h)
        given = (w_h, w_n, drawn(h, width), drawn(h, V), drawn(B, h))

    def floor_once() -> None:
        with tf.device(name):
            run(*given)
        tf.test.experimental.sync_devices()

    return floor_once


def product(
    left: Tensor, right: Tensor, *, transpose_left: bool = False, transpose_right: bool = False
) -> Tensor:
    """``left @ right``, either of them transposed; a name of its own, so that a test can count."""
    return tf.linalg.matmul(left, right, transpose_a=transpose_left, transpose_b=transpose_right)
