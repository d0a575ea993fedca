"""What is measured: a backend, or a file beside the benchmark that offers the same few methods.

A subject is named on a worker's command line: by a backend's name (``torch``), or by the path of a Python
file, which defines ``subject()`` and imports its framework when it is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Protocol, SupportsFloat, runtime_checkable

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, IntArray, Parameters, State, StepResult
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import D2LError, SpecError
from d2lrnn.registry import backend


class UnsupportedError(D2LError):
    """A subject cannot run a model; the message says why, and stays in the table."""


class Contestant(Protocol):
    """The part of `d2lrnn.contract.protocols.Learner` that is measured; see there."""

    def initial_state(self, batch_size: int) -> State:
        """The zero state."""

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """Loss, gradient, clip, update."""

    def eval_step(self, batch: Batch, state: State) -> tuple[SupportsFloat, State]:
        """The loss alone."""

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """Logits for one step."""

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """The loss and gradients by canonical name: every one that a subject can compute."""

    def import_parameters(self, parameters: Parameters) -> None:
        """Replaces the parameters."""

    def synchronize(self) -> None:
        """Waits until everything is done."""


@runtime_checkable
class Writer(Protocol):
    """A contestant that writes text in a way of its own."""

    def write(self, vocab: Vocab, prefix: str, number: int) -> str:
        """Continues `prefix` by `number` characters, always the likeliest; returns all of the text."""


#: Runs the matrix products of one training step, and waits until they are done.
Floor = Callable[[], None]


class Subject(Protocol):
    """Something that trains language models.

    Attributes:
        same_update: whether a training step changes the parameters as `Learner.train_step`
            says, so that later losses can be held to the reference, too.
        generates: whether its contestants write text: as a `Writer` where they are that, else one step at a
            time.
    """

    same_update: bool
    generates: bool

    def versions(self) -> dict[str, str]:
        """The versions of what computes, by package."""

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Contestant:
        """A model that is ready to be trained.

        Raises:
            UnsupportedError: there is no such model here.
        """

    def floor(self, spec: ModelSpec, batch_size: int, num_steps: int, *, device: str) -> Floor | None:
        """See `d2lrnn.benchmark.products`; None where there is none to compare with."""


class BackendSubject:
    """A backend as a subject. Its floor is the function ``floor`` in the module ``floor`` of its package."""

    same_update = True
    generates = True

    def __init__(self, chosen: Backend) -> None:
        self._backend = chosen

    def versions(self) -> dict[str, str]:
        """See `Subject`."""
        return self._backend.versions()

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Contestant:
        """See `Subject`."""
        return self._backend.learner(self._backend.build(spec, parameters), training, device=device)

    def floor(self, spec: ModelSpec, batch_size: int, num_steps: int, *, device: str) -> Floor | None:
        """See `Subject`; a third party's backend may have none."""
        module = type(self._backend).__module__
        package = module.rpartition(".")[0] or module
        try:
            found = import_module(f"{package}.floor")
        except ModuleNotFoundError:
            return None
        made: Floor = found.floor(spec, batch_size, num_steps, device=device)
        return made


def load_subject(name: str) -> Subject:
    """The subject of a backend's name or of a file.

    Raises:
        SpecError: there is no such file, or it defines no ``subject``.
        UnknownBackendError: no backend has this name.
        BackendNotInstalledError: its framework is missing.
    """
    if not name.endswith(".py"):
        return BackendSubject(backend(name))
    path = Path(name)
    if not path.is_file():
        raise SpecError(f"there is no file {name}: a subject is a backend's name or a file that defines one")
    # As a script's, the folder of the file is searched first: subjects may share modules.
    sys.path.insert(0, str(path.parent))
    specification = spec_from_file_location(f"benchmark_subject_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    # As an import does: dataclasses look for the module that they are defined in.
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    if not hasattr(module, "subject"):
        raise SpecError(f"{name} defines no function subject()")
    made: Subject = module.subject()
    return made
