"""The book's package, d2l 1.0.3, as it is: `Trainer.fit_epoch` on one batch a step, on its own models.

``D2LRNN_BOOK`` says on which framework. The package's pins are of 2023, so it is installed without them; what
it imports at the top and a training step never uses (data frames, notebooks, image sets) is replaced by empty
modules where it is missing. Its figure is switched off: nobody would time that. Where the package cannot
train on today's framework, or has no such model, the row says why.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from d2lrnn.adapter import ModelSpec, Parameters, TrainingSpec
from d2lrnn.benchmark.subject import UnsupportedError

#: What the package imports for chapters that are not about recurrent networks.
UNUSED = (
    "IPython",
    "gym",
    "matplotlib_inline",
    "pandas",
    "requests",
    "scipy",
    "scipy.spatial",
    "tensorflow_datasets",
    "torchvision",
)

#: Where the package's own tab does not train on today's framework.
BROKEN = {
    "tensorflow": "under Keras 3, which does not track raw tf.Variable attributes, its models have no "
    "trainable variables, and its layers want time_major, which is gone",
    "jax": "its RNN is a NotImplementedError stub, its GRU and LSTM use cell constructors that flax no "
    "longer has, and jax.random.PRNGKeyArray is gone",
}


class _Empty(ModuleType):
    """A module in which every name is an empty module."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(f"{self.__name__}.{name}")


class Book:
    """See `d2lrnn.benchmark.subject.Subject`."""

    same_update = False  # two biases a gate
    generates = False  # its predict takes a text, and keeps its state to itself

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def versions(self) -> dict[str, str]:
        """That of the package."""
        return {"d2l": "1.0.3"}

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Any:
        """With these parameters."""
        if self.framework in BROKEN:
            raise UnsupportedError(f"d2l 1.0.3 on {self.framework}: {BROKEN[self.framework]}")
        if spec.implementation == "scratch" and (spec.cell != "rnn" or spec.num_layers > 1):
            raise UnsupportedError("d2l 1.0.3 has no such model: it stands in a chapter, not in the package")
        if spec.implementation == "concise" and spec.cell == "rnn" and spec.num_layers > 1:
            raise UnsupportedError("d2l 1.0.3 has no RNN of several layers: it stands in a chapter")
        if find_spec("d2l") is None:
            raise UnsupportedError("d2l 1.0.3 is not installed: run.py --book names the folder that has it")
        missing = [name for name in UNUSED if find_spec(name.partition(".")[0]) is None]
        sys.modules |= {name: _Empty(name) for name in missing}
        tab = import_module(f"book_{self.framework}")
        for name in missing:
            # The package has them; others may ask whether they are installed.
            del sys.modules[name]
        made = tab.Contestant(spec, training)
        made.import_parameters(parameters)
        return made

    def floor(self, spec: ModelSpec, batch_size: int, num_steps: int, *, device: str) -> None:
        """That of the backend is enough."""
        return


def subject() -> Book:
    """What the worker measures."""
    return Book(os.environ["D2LRNN_BOOK"])
