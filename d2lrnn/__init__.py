"""Recurrent language models of "Dive into Deep Learning": one model, five backends, the same numbers.

Importing this package imports nothing else: every name below is resolved when it is first used, and a
framework only by ``d2lrnn.backend("jax")`` or ``from d2lrnn import jax as d2l``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2lrnn.chapters.stand_in import replace_d2l as replace_d2l
    from d2lrnn.contract.specs import ModelSpec as ModelSpec
    from d2lrnn.contract.specs import TrainingSpec as TrainingSpec
    from d2lrnn.contract.values import Batch as Batch
    from d2lrnn.data.batches import RandomSampling as RandomSampling
    from d2lrnn.data.batches import SequentialPartitioning as SequentialPartitioning
    from d2lrnn.data.batches import SlidingWindows as SlidingWindows
    from d2lrnn.data.corpus import Corpus as Corpus
    from d2lrnn.data.corpus import load_corpus as load_corpus
    from d2lrnn.data.vocabulary import Vocab as Vocab
    from d2lrnn.doctor.explain import explain_difference as explain_difference
    from d2lrnn.doctor.updates import UpdateTrace as UpdateTrace
    from d2lrnn.errors import D2LError as D2LError
    from d2lrnn.estimator import LanguageModel as LanguageModel
    from d2lrnn.generation import generate as generate
    from d2lrnn.ports.ported import load_port as load_port
    from d2lrnn.ports.ported import port as port
    from d2lrnn.registry import backend as backend
    from d2lrnn.saving.exporting import export as export
    from d2lrnn.saving.models import load as load
    from d2lrnn.saving.models import save as save
    from d2lrnn.saving.run_folder import load_run as load_run
    from d2lrnn.saving.run_folder import save_run as save_run
    from d2lrnn.training.history import History as History
    from d2lrnn.training.initialization import initial_parameters as initial_parameters
    from d2lrnn.training.metrics import bits_per_token as bits_per_token
    from d2lrnn.training.metrics import perplexity as perplexity
    from d2lrnn.training.trainer import Trainer as Trainer
    from d2lrnn.version import __version__ as __version__

#: Where each public name is defined.
_HOMES = {
    "__version__": "version",
    "backend": "registry",
    "Batch": "contract.values",
    "bits_per_token": "training.metrics",
    "Corpus": "data.corpus",
    "D2LError": "errors",
    "explain_difference": "doctor.explain",
    "export": "saving.exporting",
    "generate": "generation",
    "History": "training.history",
    "initial_parameters": "training.initialization",
    "LanguageModel": "estimator",
    "load": "saving.models",
    "load_corpus": "data.corpus",
    "load_port": "ports.ported",
    "load_run": "saving.run_folder",
    "ModelSpec": "contract.specs",
    "perplexity": "training.metrics",
    "port": "ports.ported",
    "RandomSampling": "data.batches",
    "replace_d2l": "chapters.stand_in",
    "save": "saving.models",
    "save_run": "saving.run_folder",
    "SequentialPartitioning": "data.batches",
    "SlidingWindows": "data.batches",
    "Trainer": "training.trainer",
    "TrainingSpec": "contract.specs",
    "UpdateTrace": "doctor.updates",
    "Vocab": "data.vocabulary",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"d2lrnn.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        registry = import_module("d2lrnn.registry")
        if any(name == entry.name for entry in registry.backends()):
            return registry.tab(name)
    raise AttributeError(f"module 'd2lrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
