"""The devices that PyTorch computes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.backends import cudnn

from d2lrnn.contract.values import Device


def num_gpus() -> int:
    """How many GPUs PyTorch can use."""
    return int(torch.cuda.device_count())


def cpu() -> torch.device:
    """The CPU."""
    return torch.device("cpu")


def gpu(i: int = 0) -> torch.device:
    """The GPU numbered i, whether it is there or not."""
    return torch.device(f"cuda:{i}")


def try_gpu(i: int = 0) -> torch.device:
    """The GPU numbered i, or the CPU where there is no such GPU.

    Example:
        >>> try_gpu(99)
        device(type='cpu')
    """
    return gpu(i) if i < num_gpus() else cpu()


def try_all_gpus() -> list[torch.device]:
    """All GPUs, or the CPU where there is none."""
    return [gpu(i) for i in range(num_gpus())] or [cpu()]


def as_device(device: torch.device | str | None) -> torch.device:
    """PyTorch's device for what chapters pass as one; None is where PyTorch makes its tensors.

    Example:
        >>> as_device("cpu")
        device(type='cpu')
    """
    return torch.get_default_device() if device is None else torch.device(device)


def devices() -> Sequence[Device]:
    """All GPUs, then the CPU."""
    gpus = [Device(f"gpu:{i}", torch.cuda.get_device_name(i)) for i in range(num_gpus())]
    return [*gpus, Device("cpu", f"PyTorch on this computer, {torch.get_num_threads()} threads")]


def native_device(device: Device) -> torch.device:
    """PyTorch's own name for a device: ``gpu:0`` is ``cuda:0``."""
    return torch.device(device.name.replace("gpu", "cuda"))


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """A context in which cuDNN multiplies float32 as float32.

    By default it rounds the factors to TF32, with 10 bits of mantissa instead of 23: a model would give other
    numbers than on other devices. The setting is global, so it is changed for a call and then restored.
    """
    if device.type != "cuda":
        return nullcontext()
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )


def full_precision_no_grad(device: torch.device) -> AbstractContextManager[None]:
    """`torch.no_grad`, with `full_precision`."""
    return torch.no_grad() if device.type != "cuda" else _both(torch.no_grad(), full_precision(device))


def full_precision_inference(device: torch.device) -> AbstractContextManager[None]:
    """`torch.inference_mode`, with `full_precision`; see `d2lrnn_torch.states.trainable`."""
    inference = torch.inference_mode()
    return inference if device.type != "cuda" else _both(inference, full_precision(device))


@contextmanager
def _both(one: AbstractContextManager[None], other: AbstractContextManager[None]) -> Iterator[None]:
    with one, other:
        yield
