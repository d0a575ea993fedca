"""What goes wrong with an installation of MXNet; see `d2lrnn.installation.faults`."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

from d2lrnn.installation.faults import Fault, is_older, too_old, version_of

NEEDS = {"mxnet": "1.9.1"}

#: MXNet calls aliases that this version of NumPy removed.
_TOO_NEW_NUMPY = "1.24"
#: There is no older NumPy for this Python.
_TOO_NEW_PYTHON = "3.12"
_OTHER_PYTHON = 'python3.11 -m venv mxnet-env && mxnet-env/bin/pip install "d2lrnn[mxnet]"'


def faults(error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
    """An MXNet that is too old, or a Python or a NumPy that is too new for it."""
    yield from too_old(NEEDS)
    mxnet, numpy, python = version_of("mxnet"), version_of("numpy"), platform.python_version()
    name = f"mxnet {mxnet[1]}" if mxnet else "mxnet"
    if not is_older(python, _TOO_NEW_PYTHON):
        yield Fault(f"Python {python} is too new for {name}, which runs up to 3.11", _OTHER_PYTHON)
    elif numpy and not is_older(numpy[1], _TOO_NEW_NUMPY):
        yield Fault(
            f"numpy {numpy[1]} is too new for {name}, which needs one below {_TOO_NEW_NUMPY}",
            f'pip install "numpy<{_TOO_NEW_NUMPY}"',
        )
