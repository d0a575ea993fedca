"""``d2lrnn backends``: what is installed here, in which version, on which devices."""

from __future__ import annotations

from d2lrnn import registry
from d2lrnn.cli.output import describe_versions
from d2lrnn.cli.requests import BackendsRequest


def backends(request: BackendsRequest) -> int:
    """Prints a line for every backend; returns the exit code."""
    entries = registry.backends()
    width = max(len(entry.name) for entry in entries) + 1
    for entry in entries:
        line = _describe(entry.name) if entry.installed else f"not installed: {entry.install}"
        print(f"{entry.name:<{width}}{line}")
    return 0


def _describe(name: str) -> str:
    # A broken installation is a line of the list, not the end of it: whatever its import raises.
    try:
        found = registry.backend(name)
        devices = ", ".join(f"{device.name} ({device.description})" for device in found.devices())
        return f"{describe_versions(found)}; devices: {devices}"
    except Exception as error:
        return f"installed, but it cannot be used: {error}"
