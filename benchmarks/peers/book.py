"""The book's package, d2l 1.0.3, as it is: `Trainer.fit_epoch` on one batch a step, on its own models.

``D2LRNN_BOOK`` says on which framework. The package's pins are of 2023, so it is installed without them; what
it imports at the top and a training step never uses (data frames, notebooks, image sets) is replaced by empty
modules where it is missing. Its figure is switched off: nobody would time that. A tab's file says what of the
package's time stands in for names that today's framework no longer has. Text is written by the package's own
`predict`. Where the package has no such model, the row says why.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from d2lrnn.benchmark.subject import UnsupportedError
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Parameters

#: What the package imports for chapters that are not about recurrent networks.
UNUSED = (
    "IPython",
    "gym",
    "matplotlib_inline",
    "pandas",
    "requests",
    "scipy",
    "scipy.spatial",
    "tensorflow",
    "tensorflow_datasets",
    "torchvision",
)

#: What each tab runs on, imported before the empty modules are in place: it may look for what they hide.
FRAMEWORKS = {"tensorflow": "tf_keras", "torch": "torch", "jax": "flax", "mxnet": "mxnet"}


class _Empty(ModuleType):
    """A module in which every name is an empty module."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(f"{self.__name__}.{name}")


class Book:
    """See `d2lrnn.benchmark.subject.Subject`."""

    same_update = False  # two biases a gate; its JAX never clips
    generates = True

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def versions(self) -> dict[str, str]:
        """That of the package, and of what it runs on."""
        return {name: version(name) for name in ("d2l", FRAMEWORKS[self.framework]) if find_spec(name)}

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Any:
        """With these parameters."""
        if spec.implementation == "scratch" and (spec.cell != "rnn" or spec.num_layers > 1):
            raise UnsupportedError("d2l 1.0.3 has no such model: it stands in a chapter, not in the package")
        if spec.implementation == "concise" and spec.cell == "rnn" and spec.num_layers > 1:
            raise UnsupportedError("d2l 1.0.3 has no RNN of several layers: it stands in a chapter")
        framework = FRAMEWORKS[self.framework]
        for name in ("d2l", framework):
            if find_spec(name) is None:
                raise UnsupportedError(f"{name} is not installed: run.py --book names the folder that has it")
        import_module(framework)
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
    # The package's Keras is that of 2023. TensorFlow reads this once, when it is imported.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    return Book(os.environ["D2LRNN_BOOK"])
