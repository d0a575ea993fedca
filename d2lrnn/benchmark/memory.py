"""The peak memory of this process, as Linux reports it, and the memory in use on GPUs."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_megabytes() -> float | None:
    """The largest resident size since the last `reset_peak`; None where the system does not report it."""
    return _megabytes("VmHWM")


def current_megabytes() -> float | None:
    """The resident size now; None where the system does not report it."""
    return _megabytes("VmRSS")


def reset_peak() -> None:
    """Starts the peak again from the memory in use now; where the system does not allow it, it stays."""
    with suppress(OSError):
        _CLEAR.write_text("5")


def device_megabytes() -> float | None:
    """The memory in use on all GPUs together, by all processes; None without ``nvidia-smi``.

    Frameworks keep the memory that they allocate: its growth while one process trained is the peak of that
    process, if no other uses the GPUs. Within a container ``nvidia-smi`` does not report it by process.
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
