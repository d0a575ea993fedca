"""What goes wrong with an installation of PyTorch; see `d2lrnn.installation.faults`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from d2lrnn.installation.faults import Fault, too_old
from d2lrnn.installation.gpus import unused_gpu

NEEDS = {"torch": "2.4"}

_CPU_BUILD = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cpu"


def faults(error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
    """A PyTorch that is too old, or a build that does not fit the machine."""
    yield from too_old(NEEDS)
    if error is None:
        yield from unused_gpu(
            "torch", devices, with_cuda=_with_cuda(), cpu_build=_CPU_BUILD,
            gpu_build="pip install --force-reinstall torch",
        )  # fmt: skip


def _with_cuda() -> bool:
    """PyTorch's own file says for which CUDA it was built; its version on PyPI does not."""
    spec = find_spec("torch")
    folders = (spec and spec.submodule_search_locations) or ()
    files = [Path(folder, "version.py") for folder in folders]
    return any(
        re.search(r"^cuda\b[^=\n]*= *['\"]", file.read_text("utf-8"), re.MULTILINE)
        for file in files
        if file.is_file()
    )
