"""The benchmark's floor: the time of the matrix products alone that no training step can avoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from d2lrnn.benchmark.products import factors
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn_tensorflow.devices import devices, native_name
from d2lrnn_tensorflow.recurrence import Tensor


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products`, one after the other: in one `tf.function`.

    Each waits for the one before, and every product is returned, so that none is pruned.

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

    def tensor(array: FloatArray, rows: int = 0) -> Tensor:
        return tf.constant(array)

    name = native_name(choose_device(device, devices()))
    with tf.device(name):
        pairs = factors(spec, batch_size, num_steps, tensor, tensor)

    # As arguments, each once: products of constants would be computed while TensorFlow compiles.
    arguments = list({id(factor): factor for pair in pairs for factor in pair}.values())
    numbers = {id(factor): number for number, factor in enumerate(arguments)}

    @tf.function
    def products(given: list[Any]) -> list[Tensor]:
        results: list[Tensor] = []
        for left, right in pairs:
            with tf.control_dependencies(results[-1:]):
                results.append(product(given[numbers[id(left)]], given[numbers[id(right)]]))
        return results

    def run() -> None:
        with tf.device(name):
            products(arguments)
        tf.test.experimental.sync_devices()

    return run


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``; a function of its own: a test counts the calls."""
    return tf.linalg.matmul(left, right)
