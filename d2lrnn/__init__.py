"""Recurrent language models of "Dive into Deep Learning": one model, five backends, the same numbers.

Importing this package imports nothing else: every name below is resolved when it is first used, and a
framework only by ``d2lrnn.backend("jax")`` or ``from d2lrnn import jax as d2l``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2lrnn.adapter import Batch as Batch
    from d2lrnn.adapter import ModelSpec as ModelSpec
    from d2lrnn.adapter import TrainingSpec as TrainingSpec
    from d2lrnn.checkpoint import load_run as load_run
    from d2lrnn.checkpoint import save_run as save_run
    from d2lrnn.data import RandomSampling as RandomSampling
    from d2lrnn.data import SequentialPartitioning as SequentialPartitioning
    from d2lrnn.data import SlidingWindows as SlidingWindows
    from d2lrnn.errors import D2LError as D2LError
    from d2lrnn.exchange import load as load
    from d2lrnn.exchange import save as save
    from d2lrnn.generation import generate as generate
    from d2lrnn.losses import bits_per_token as bits_per_token
    from d2lrnn.losses import perplexity as perplexity
    from d2lrnn.parameters import initial_parameters as initial_parameters
    from d2lrnn.registry import backend as backend
    from d2lrnn.text import Corpus as Corpus
    from d2lrnn.text import load_corpus as load_corpus
    from d2lrnn.trainer import History as History
    from d2lrnn.trainer import Trainer as Trainer
    from d2lrnn.vocab import Vocab as Vocab

__version__ = "0.3.0"

#: Where each public name is defined.
_HOMES = {
    "Batch": "adapter",
    "Corpus": "text",
    "D2LError": "errors",
    "History": "trainer",
    "ModelSpec": "adapter",
    "RandomSampling": "data",
    "SequentialPartitioning": "data",
    "SlidingWindows": "data",
    "Trainer": "trainer",
    "TrainingSpec": "adapter",
    "Vocab": "vocab",
    "backend": "registry",
    "bits_per_token": "losses",
    "generate": "generation",
    "initial_parameters": "parameters",
    "load": "exchange",
    "load_corpus": "text",
    "load_run": "checkpoint",
    "perplexity": "losses",
    "save": "exchange",
    "save_run": "checkpoint",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"d2lrnn.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        registry = import_module("d2lrnn.registry")
        if any(name == entry.name for entry in registry.BACKENDS):
            return registry.tab(name)
    raise AttributeError(f"module 'd2lrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
