"""What goes wrong with an installation of NumPy; see `d2lrnn.installation.faults`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d2lrnn.installation.faults import Fault, too_old

NEEDS = {"numpy": "1.23"}


def faults(error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
    """A NumPy that is too old."""
    yield from too_old(NEEDS)
