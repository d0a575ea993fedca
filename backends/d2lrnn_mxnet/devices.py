"""The devices that MXNet can compute on."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from d2lrnn.contract.values import Device


def num_gpus() -> int:
    """How many GPUs this build of MXNet can use; 0 for a build without CUDA."""
    return int(mx.context.num_gpus())


def cpu() -> Any:
    """The CPU."""
    return mx.cpu()


def gpu(i: int = 0) -> Any:
    """The GPU numbered i, whether it is there or not."""
    return mx.gpu(i)


def first_gpus(most: int) -> list[Any]:
    """The first GPUs, at most `most`; an empty list where there is none."""
    return [gpu(i) for i in range(min(most, num_gpus()))]


def try_gpu(i: int = 0) -> Any:
    """The context ``gpu(i)``, or ``cpu()`` where there is no such GPU.

    Example:
        >>> try_gpu(99)
        cpu(0)
    """
    return mx.gpu(i) if i < num_gpus() else mx.cpu()


def try_all_gpus() -> list[Any]:
    """All GPUs, or the CPU where there is none."""
    return first_gpus(num_gpus()) or [cpu()]


def available_devices() -> list[Device]:
    """All GPUs, then the CPU."""
    gpus = [Device(f"gpu:{i}", f"MXNet gpu({i}), {_memory(i)}") for i in range(num_gpus())]
    return [*gpus, Device("cpu", "MXNet on this computer")]


def context_of(device: Device) -> Any:
    """The MXNet context of a device that `available_devices` listed."""
    kind, _, index = device.name.partition(":")
    return mx.gpu(int(index)) if kind == "gpu" else mx.cpu()


def _memory(i: int) -> str:
    # MXNet has no function for a GPU's name.
    _, total = mx.context.gpu_memory_info(i)
    return f"{total / 2**30:.0f} GiB"
