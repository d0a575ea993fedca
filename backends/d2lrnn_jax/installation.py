"""What goes wrong with an installation of JAX, Flax and Optax; see `d2lrnn.installation.faults`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import requires

from d2lrnn.installation.faults import Fault, is_older, too_old, version_of
from d2lrnn.installation.gpus import unused_gpu

NEEDS = {"jax": "0.8", "flax": "0.12", "optax": "0.2"}

_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")


def faults(error: str | None, devices: Sequence[str]) -> Iterator[Fault]:
    """Versions that are too old or do not fit each other, or a plugin for GPUs where there is none."""
    yield from too_old(NEEDS)
    yield from _other_jaxlib()
    plugin = version_of(*_PLUGINS)
    if error is None or (plugin and "Unable to initialize backend" in error):
        name = plugin[0] if plugin else ""
        yield from unused_gpu(
            "jax", devices, with_cuda=plugin is not None, gpu_build='pip install "jax[cuda13]"',
            cpu_build=f"pip uninstall --yes {name} {name.replace('plugin', 'pjrt')}",
        )  # fmt: skip


def _other_jaxlib() -> Iterator[Fault]:
    """JAX says in its metadata which versions of jaxlib it takes: ``jaxlib<=0.10.2,>=0.10.1``."""
    jax, jaxlib = version_of("jax"), version_of("jaxlib")
    if jax is None:
        return
    if jaxlib is None:
        yield Fault("jax is installed, but jaxlib is missing", f"pip install jax=={jax[1]}")
        return
    for line in requires("jax") or ():
        if re.match(r"jaxlib\b(?!.*\bextra\b)", line):
            for least in re.findall(r">=\s*([\d.]+)", line):
                if is_older(jaxlib[1], least):
                    yield _misfit(jax[1], jaxlib[1], "older", least)
            for most in re.findall(r"<=\s*([\d.]+)", line):
                if is_older(most, jaxlib[1]):
                    yield _misfit(jax[1], jaxlib[1], "newer", most)


def _misfit(jax: str, jaxlib: str, how: str, bound: str) -> Fault:
    return Fault(f"jaxlib {jaxlib} is {how} than jax {jax} takes, {bound}", f'pip install "jaxlib=={bound}"')
