"""GPUs of the machine that a framework does not use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2lrnn.installation.faults import Fault

#: What the driver of an NVIDIA GPU makes, on Linux and in its subsystem on Windows.
DRIVER_FILES = (Path("/proc/driver/nvidia/gpus"), Path("/dev/nvidia0"), Path("/dev/dxg"))


def unused_gpu(
    framework: str, devices: Sequence[str], *, with_cuda: bool, cpu_build: str, gpu_build: str
) -> Iterator[Fault]:
    """The fault where a framework is built for GPUs and has none, or the other way round.

    Args:
        framework: its name.
        devices: the names of those that it computes on, as of `d2lrnn.contract.values.Device`.
        with_cuda: whether it is installed with CUDA.
        cpu_build: the command that installs it without.
        gpu_build: the command that installs it with CUDA.
    """
    if any(name.startswith("gpu") for name in devices):
        return
    if not any(path.exists() for path in DRIVER_FILES):
        if with_cuda:
            what = (
                f"{framework} is built for CUDA, and this machine has no NVIDIA GPU: it computes on the CPU"
            )
            yield Fault(f"{what}, as the smaller build without CUDA does", cpu_build)
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        yield Fault(
            f"CUDA_VISIBLE_DEVICES hides the GPUs of this machine from {framework}",
            "unset CUDA_VISIBLE_DEVICES",
        )
    elif with_cuda:
        yield Fault(
            f"{framework} is built for CUDA and cannot use this machine's GPU; mostly the driver is older "
            "than that CUDA, and this shows for which CUDA the driver is",
            "nvidia-smi",
        )
    else:
        yield Fault(f"{framework} is built without CUDA, and cannot use the GPU of this machine", gpu_build)
