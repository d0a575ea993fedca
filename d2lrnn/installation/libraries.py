"""Shared libraries that the dynamic loader does not find, and the system's packages that have them."""

from __future__ import annotations

import platform
import re

from d2lrnn.installation.faults import Fault

#: How a family of Linux distributions installs a package.
_COMMANDS = {
    "debian": "sudo apt-get install {}",
    "fedora": "sudo dnf install {}",
    "suse": "sudo zypper install {}",
    "arch": "sudo pacman -S {}",
    "alpine": "sudo apk add {}",
}
#: What the package with a library is called, in the order of `_COMMANDS`.
_PACKAGES = {
    "libgomp": ("libgomp1", "libgomp", "libgomp1", "gcc-libs", "libgomp"),
    "libquadmath": ("libquadmath0", "libquadmath", "libquadmath0", "gcc-libs", "libquadmath"),
    "libgfortran": ("libgfortran5", "libgfortran", "libgfortran5", "gcc-libs", "libgfortran"),
    "libstdc++": ("libstdc++6", "libstdc++", "libstdc++6", "gcc-libs", "libstdc++"),
}
_NOT_FOUND = re.compile(r"(lib[\w+-]+)(\.so[.\d]*): cannot open shared object file")


def missing_library(error: str) -> Fault | None:
    """The fault where an import failed for want of a library that the system's packages have.

    Args:
        error: what the import failed with, which has the loader's message.

    Example:
        >>> missing_library("OSError: libgomp.so.1: cannot open shared object file: No such file").what
        'the system has no libgomp.so.1'
    """
    found = _NOT_FOUND.search(error)
    if found is None or found[1] not in _PACKAGES:
        return None
    family = _family()
    package = _PACKAGES[found[1]][list(_COMMANDS).index(family)]
    return Fault(f"the system has no {found[1]}{found[2]}", _COMMANDS[family].format(package))


def _family() -> str:
    """Where the system is none of these or does not say, most users have Debian's kind."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    names = f"{system.get('ID', '')} {system.get('ID_LIKE', '')} rhel".replace("opensuse", "suse").split()
    known = {name: name for name in _COMMANDS} | {"centos": "fedora", "rhel": "fedora", "ubuntu": "debian"}
    return next((known[name] for name in names[:-1] if name in known), "debian")
