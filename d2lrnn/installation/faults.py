"""A fault of an installation with the command that mends it, and versions of what is installed.

A backend's package may have a module ``installation`` with a function ``faults``, which knows what goes wrong
with its framework. It is loaded by itself, from its file, and imports neither the package nor the framework::

    def faults(error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
        # error: what the import failed with, None where it works; devices: the names of its devices then
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        what: what is wrong, in a sentence without its full stop.
        mend: a command line to paste.

    Example:
        >>> print(Fault("flax is missing", "pip install flax"))
        flax is missing: pip install flax
    """

    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}: {self.mend}"


def version_of(*distributions: str) -> tuple[str, str] | None:
    """The name and the version of the first of these distributions that is installed.

    Example:
        >>> version_of("no-such-distribution", "numpy")[0]
        'numpy'
    """
    for name in distributions:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None


def is_older(version: str, than: str) -> bool:
    """Whether a version comes before another; what follows its numbers does not count.

    Example:
        >>> is_older("1.9.1", "1.24"), is_older("2.13.0+cpu", "2.4"), is_older("2.4", "2.4.0")
        (True, False, False)
    """
    one, other = _numbers(version), _numbers(than)
    length = max(len(one), len(other))
    return one + [0] * (length - len(one)) < other + [0] * (length - len(other))


def _numbers(version: str) -> list[int]:
    found = re.match(r"\d+(\.\d+)*", version)
    return [int(number) for number in found[0].split(".")] if found else []


def too_old(needs: Mapping[str, str]) -> Iterator[Fault]:
    """A fault for each distribution that is installed in an older version than is needed.

    Args:
        needs: the least version by the name of the distribution.

    Example:
        >>> [fault.mend for fault in too_old({"numpy": "1000.0", "no-such-distribution": "1.0"})]
        ['pip install "numpy>=1000.0"']
    """
    for name, least in needs.items():
        found = version_of(name)
        if found and is_older(found[1], least):
            yield Fault(
                f"{name} {found[1]} is older than {least}, which d2lrnn needs",
                f'pip install "{name}>={least}"',
            )
