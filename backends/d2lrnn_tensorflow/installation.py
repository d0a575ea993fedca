"""What goes wrong with an installation of TensorFlow and Keras; see `d2lrnn.installation.faults`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from d2lrnn.installation.faults import Fault, too_old, version_of
from d2lrnn.installation.gpus import unused_gpu

NEEDS = {"tensorflow": "2.18", "keras": "3.5"}

#: The distributions that have the module `tensorflow`.
_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos")


def faults(error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
    """Versions that are too old, a Keras on another framework, or a build that does not fit the machine."""
    found = version_of(*_DISTRIBUTIONS)
    name = found[0] if found else "tensorflow"
    yield from too_old({name: NEEDS["tensorflow"], "keras": NEEDS["keras"]})
    yield from _keras_elsewhere()
    if error is None:
        yield from unused_gpu(
            name, devices, with_cuda=version_of("nvidia-cudnn-cu12", "nvidia-cudnn-cu13") is not None,
            cpu_build="pip uninstall --yes tensorflow; pip install tensorflow-cpu",
            gpu_build='pip install "tensorflow[and-cuda]"',
        )  # fmt: skip


def _keras_elsewhere() -> Iterator[Fault]:
    """Keras takes what the variable names, and where it is unset, what its file does."""
    if chosen := os.environ.get("KERAS_BACKEND"):
        if chosen != "tensorflow":
            yield Fault(f"KERAS_BACKEND has Keras compute with {chosen}", "unset KERAS_BACKEND")
        return
    file = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    try:
        chosen = json.loads(file.read_text("utf-8")).get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):
        return
    if chosen != "tensorflow":
        yield Fault(f"{file} has Keras compute with {chosen}", "export KERAS_BACKEND=tensorflow")
