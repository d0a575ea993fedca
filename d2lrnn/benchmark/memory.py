"""How much memory this process has used at most, as Linux tells it, and how much of GPUs is used."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_megabytes() -> float | None:
    """The largest resident size since the last `reset_peak`; None where the system does not tell."""
    return _megabytes("VmHWM")


def current_megabytes() -> float | None:
    """The resident size now; None where the system does not tell."""
    return _megabytes("VmRSS")


def reset_peak() -> None:
    """Lets the peak begin anew from what is used now; where that cannot be done, it stays."""
    with suppress(OSError):
        _CLEAR.write_text("5")


def device_megabytes() -> float | None:
    """What is used of the memory of all GPUs together, by anybody; None where there is no ``nvidia-smi``.

    Frameworks keep what they once took: what it has grown by while a process trained is that process' peak,
    if it has the GPUs to itself. By process ``nvidia-smi`` would not tell it from within a container.
    """
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return float(sum(map(int, done.stdout.split())))
    return None


def _megabytes(field: str) -> float | None:
    # Not getrusage: it counts what the parent held when it started this process.
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    return None
