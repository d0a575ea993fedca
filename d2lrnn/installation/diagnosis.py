"""All faults of one backend's installation: its own, the system's, or what the import says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from d2lrnn.errors import D2LError
from d2lrnn.installation.faults import Fault
from d2lrnn.installation.libraries import missing_library


def diagnose(
    package: str,
    requires: Sequence[str],
    install: str,
    own: Path | None,
    error: str | None,
    devices: Sequence[str] = (),
) -> list[Fault]:
    """The faults of a backend whose framework is here.

    Args:
        package: the backend's package.
        requires: the modules that it needs, the framework first.
        install: the command that installs them.
        own: the backend's module ``installation``, see `d2lrnn.installation.faults`; None where it has none.
        error: what its import failed with, `error_text` of it; None where it works or was not tried.
        devices: the names of the devices that it computes on, where it works.
    """
    root = package.partition(".")[0]
    if absent := [module for module in requires if find_spec(module) is None]:
        missing = f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing"
        return [Fault(f"{requires[0]} is installed, but {missing}", f"pip install {' '.join(absent)}")]
    if find_spec(root) is None:
        what = f"{requires[0]} is installed, but {root}, the package of d2lrnn for it, is missing"
        return [Fault(what, "pip install --force-reinstall --no-deps d2lrnn")]
    faults = [] if own is None else list(_own_faults(f"{root}.{own.stem}", own, error, devices))
    if error is None:
        return faults
    if library := missing_library(error):
        return [library, *faults]
    return faults or [_unexplained(requires[0], root, install, error)]


def _own_faults(name: str, path: Path, error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
    """Those that the backend's own module knows of; importing its package is what may fail."""
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from module.faults(error, devices)


def _unexplained(framework: str, root: str, install: str, error: str) -> Fault:
    if framework == root or re.search(r"No module named ['\"](?!" + framework + r"\b)", error):
        return Fault("Install what is missing, or mend its installation", install)
    anew = install.replace("pip install", "pip install --force-reinstall")
    return Fault("Its files are damaged or do not fit: install it anew", anew)


def error_text(error: BaseException) -> str:
    """What an import failed with, as Python shows it: its type, where it is no error of ours, and message."""
    return str(error) if isinstance(error, D2LError) else f"{type(error).__name__}: {error}"


def summary(error: str) -> str:
    r"""The line of an import's error that says what failed.

    Example:
        >>> summary("AttributeError: module 'x' has no attribute 'y'.\nIt was removed in version 2.")
        "AttributeError: module 'x' has no attribute 'y'."

        Some frameworks put a whole traceback in the message:

        >>> summary("ImportError: Traceback (most recent call last):\n  File …\nOSError: no libx\n\nSee …")
        'OSError: no libx'
    """
    lines = [line for line in error.splitlines() if line.strip()] or [error]
    if "Traceback" not in lines[0]:
        return lines[0]
    return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception): ", line)), lines[-1])
