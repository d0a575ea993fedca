"""Choosing a device by name, the same way on every backend."""

from __future__ import annotations

import re
from collections.abc import Sequence

from d2lrnn.contract.values import Device
from d2lrnn.errors import DeviceError


def choose_device(requested: str, available: Sequence[Device]) -> Device:
    """The device that a request names.

    Args:
        requested: ``"auto"`` (the first available), ``"cpu"``, ``"gpu"`` (the first GPU) or ``"gpu:i"``.
        available: what there is, best first.

    Raises:
        DeviceError: it is not there, or the request is no device's name; the message lists what there is.

    Example:
        >>> choose_device("auto", [Device("cpu", "this computer")]).name
        'cpu'
    """
    if requested == "auto":
        return available[0]
    listed = ", ".join(f"{device.name} ({device.description})" for device in available)
    if not re.fullmatch(r"cpu|gpu(:\d+)?", requested):
        raise DeviceError(
            f"{requested!r} is not the name of a device: use auto, cpu, gpu or gpu:0. Available: {listed}"
        )
    wanted = "gpu:0" if requested == "gpu" else requested
    for device in available:
        if device.name == wanted:
            return device
    raise DeviceError(f"there is no device {wanted} for this backend. Available here: {listed}")
