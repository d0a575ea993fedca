"""The devices of NumPy: the CPU. The functions are those of the other tabs."""

from __future__ import annotations

from d2lrnn.contract.values import Device

CPU = Device("cpu", "NumPy on this computer")


def try_gpu(i: int = 0) -> Device:
    """The CPU, whatever i: NumPy uses no GPU.

    Example:
        >>> try_gpu().name
        'cpu'
    """
    return CPU


def num_gpus() -> int:
    """0: NumPy uses no GPU."""
    return 0
