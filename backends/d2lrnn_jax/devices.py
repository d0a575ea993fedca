"""What JAX can compute on here: of several workers, this one's own devices."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from d2lrnn.contract.values import Device


def num_gpus() -> int:
    """How many GPUs JAX can use."""
    return len(_gpus())


def cpu() -> jax.Device:
    """The CPU."""
    return jax.local_devices(backend="cpu")[0]


def gpu(i: int = 0) -> jax.Device:
    """The GPU numbered i.

    Raises:
        RuntimeError: JAX has no GPU.
        IndexError: JAX has GPUs, but none of that number.
    """
    return jax.local_devices(backend="gpu")[i]


def try_gpu(i: int = 0) -> jax.Device:
    """GPU `i`, or the CPU where there is no such GPU.

    Example:
        >>> jax.device_put(np.ones(3), try_gpu()).shape
        (3,)
    """
    gpus = _gpus()
    return gpus[i] if i < len(gpus) else cpu()


def try_all_gpus() -> list[jax.Device]:
    """All GPUs, or the CPU where there is none."""
    return list(_gpus()) or [cpu()]


def devices() -> Sequence[Device]:
    """All devices, GPUs first and the CPU last, by the names that `native_device` takes."""
    gpus = [Device(f"gpu:{i}", gpu.device_kind) for i, gpu in enumerate(_gpus())]
    return [*gpus, Device("cpu", "XLA on this computer")]


def native_device(name: str) -> jax.Device:
    """JAX's own device for a name of `devices`."""
    platform, _, index = name.partition(":")
    return jax.local_devices(backend=platform)[int(index or 0)]


def _gpus() -> Sequence[jax.Device]:
    try:
        return jax.local_devices(backend="gpu")
    except RuntimeError:  # what JAX raises if there is no GPU platform
        return []
