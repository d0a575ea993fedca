"""The tricks of the TensorFlow backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from d2lrnn_tensorflow import recurrence
from d2lrnn_tensorflow.prediction import SingleStep
from d2lrnn_tensorflow.scratch import SCRATCH, ScratchLayer
from run import Trick

from d2lrnn.contract import cells

C, M = (32, 35, 512), (1024, 32, 32)


def tricks() -> list[Trick]:
    """All tricks of this backend."""
    return [
        *(_recurrence(SCRATCH[name], *sizes) for name in SCRATCH for sizes in (C, M)),
        _rows_by_product(),
        *(_whole_products(SCRATCH[cell.name]) for cell in (cells.GRU, cells.MGU)),
        _single_step(),
    ]


def _recurrence(kind: type[ScratchLayer], B: int, T: int, h: int) -> Trick:
    """Outputs and gradients of a layer: with large weights in a loop, with small ones without."""
    layer, random = kind(h, h, sigma=h**-0.5), np.random.default_rng(0)
    width = len(kind.cell.gates) * h
    projected, d_outputs = _drawn(random, T, B, width), _drawn(random, T, B, h)
    state = tuple(_drawn(random, B, h) for _ in kind.cell.states)
    variables = [layer.weights[1].value]

    def run(recurrent: Callable[..., Any]) -> Callable[[], Any]:
        @tf.function(autograph=False)
        def forth_and_back() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(projected)
                outputs, _ = recurrent(layer.step, projected, state, layer.weights_of_step())
            return outputs, tape.gradient(outputs, [projected, *variables], output_gradients=d_outputs)

        return forth_and_back

    loop, plain = run(recurrence.looped_recurrence), run(recurrence.plain_recurrence)
    title, fast, slow = (
        ("weight gradients after the loop", loop, plain)
        if h == C[2]
        else ("steps without a loop", plain, loop)
    )
    return Trick(f"{kind.cell.title}, {title}", "recurrence.recurrence", f"{B} x {T} x {h}", fast, slow, 1e-3)


def _rows_by_product() -> Trick:
    """The gradient of a table with few rows, each looked up often."""
    B, T, h = C
    random = np.random.default_rng(0)
    table, tokens = (
        tf.Variable(_drawn(random, 28, 4 * h)),
        tf.constant(random.integers(0, 28, (T, B)), tf.int32),
    )
    d_rows = _drawn(random, T, B, 4 * h)

    def run(look_up: Callable[..., Any]) -> Callable[[], Any]:
        @tf.function(autograph=False)
        def gradient() -> Any:
            with tf.GradientTape() as tape:
                rows = look_up(tf.convert_to_tensor(table), tokens)
            return tf.convert_to_tensor(tape.gradient(rows, table, output_gradients=d_rows))

        return gradient

    return Trick(
        "the gradient of a look-up as a one-hot product", "recurrence.look_up", f"{B * T} tokens of 28",
        run(recurrence.look_up), run(tf.gather),
    )  # fmt: skip


def _whole_products(kind: type[ScratchLayer]) -> Trick:
    """A single step through XLA, with products of all columns or only of those that are needed."""
    h, random = C[2], np.random.default_rng(0)
    layer = kind(h, h, sigma=h**-0.5)
    X, H = _drawn(random, 1, len(kind.cell.gates) * h), _drawn(random, 1, h)

    def run(products: Callable[[], Any]) -> Callable[[], Any]:
        return tf.function(lambda: layer.step(X, (H,), *products()), autograph=False, jit_compile=True)

    def parts() -> Any:
        return [lambda left, W=W: left @ W for (W,) in layer.weights_of_step()]

    return Trick(
        f"a single step of a {kind.cell.title} with whole matrices", "scratch.ScratchLayer._whole_products",
        f"1 x {h}", run(layer._whole_products), run(parts),
    )  # fmt: skip


def _single_step() -> Trick:
    """A concrete function, and its `tf.function`."""
    layer, tokens = SCRATCH[cells.RNN.name](28, 32, sigma=0.2), np.zeros(1, np.int32)

    def logits(tokens: Any, state: Any) -> Any:
        outputs, state = layer(tf.transpose(tokens), state)
        return outputs[0], state

    single, state = SingleStep(logits, plain_steps=0), tf.zeros((1, 32))

    def by_function() -> Any:
        outputs, after = single.compiled(tf.constant(tokens[:, None]), state)
        return outputs.numpy(), after

    return Trick(
        "a concrete function for each batch size", "prediction.SingleStep", "tanh RNN, 1 x 32",
        lambda: single(tokens, state), by_function,
    )  # fmt: skip


def _drawn(random: np.random.Generator, *shape: int) -> Any:
    return tf.constant(random.normal(0, 1, shape), tf.float32)
