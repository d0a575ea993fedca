"""How much memory this process has used at most, as Linux tells it."""

from __future__ import annotations

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


def _megabytes(field: str) -> float | None:
    # Not getrusage: it counts what the parent held when it started this process.
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    return None
