"""The devices that TensorFlow sees."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from d2lrnn.contract.values import Device


def devices() -> Sequence[Device]:
    """GPUs first, the CPU last."""
    found = []
    for i, gpu in enumerate(tf.config.list_physical_devices("GPU")):
        details = tf.config.experimental.get_device_details(gpu)
        found.append(Device(f"gpu:{i}", str(details.get("device_name", gpu.name))))
    return [*found, Device("cpu", "TensorFlow on this computer's processor")]


def num_gpus() -> int:
    """How many GPUs TensorFlow can use."""
    return len(tf.config.list_physical_devices("GPU"))


def cpu() -> Any:
    """The context of the CPU."""
    return tf.device("/CPU:0")


def gpu(i: int = 0) -> Any:
    """The context of GPU number `i`, whether it is there or not."""
    return tf.device(f"/GPU:{i}")


def try_gpu(i: int = 0) -> Any:
    """The context of GPU number `i` where there is one, else of the CPU, as in the book.

    Example:
        >>> with try_gpu(99):
        ...     tf.ones(3).device.rsplit("/", 1)[-1]
        'device:CPU:0'
    """
    return gpu(i) if i < num_gpus() else cpu()


def try_all_gpus() -> list[Any]:
    """The contexts of all GPUs, or that of the CPU where there is none."""
    return [gpu(i) for i in range(num_gpus())] or [cpu()]


def on_device(device: AbstractContextManager[Any] | str | None) -> AbstractContextManager[Any]:
    """The context of a device, in any of the forms that chapters have it in.

    Args:
        device: what `try_gpu` returns, or TensorFlow's name of a device; None leaves it to TensorFlow.
    """
    return tf.device(device) if isinstance(device, str) else device or nullcontext()


def native_name(device: Device) -> str:
    """The name of a device for `tf.device`."""
    return "/" + (device.name if ":" in device.name else f"{device.name}:0").upper()


def move_variables(variables: Sequence[keras.Variable], device: str) -> None:
    """Puts variables on a device where they are not on it yet.

    A `tf.Variable` cannot be moved, and XLA cannot read one on another device: the Keras variable gets a new
    `tf.Variable`. An earlier reference to ``variable.value`` still means the old one.
    """
    with tf.device(device):
        for variable in variables:
            if not variable.value.device.endswith(device.removeprefix("/")):
                variable._initialize(tf.convert_to_tensor(variable.value))
