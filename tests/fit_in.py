"""The examples that train a model of the library in a framework's own way, and the library's own training."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import d2lrnn
from d2lrnn.contract.values import Batch

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> Any:
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own_losses(backend: str, batches: Iterable[tuple[Any, Any]]) -> list[float]:
    """What the library's learner gives with the examples' model and rate, for tokens and targets (B, T)."""
    corpus = d2lrnn.load_corpus("sample")
    spec = d2lrnn.ModelSpec(len(corpus.vocab), "gru", "concise", num_hiddens=32)
    made = d2lrnn.backend(backend)
    training = d2lrnn.TrainingSpec(learning_rate=1.0, clip=0.5)
    learner = made.learner(made.build(spec, d2lrnn.initial_parameters(spec)), training, device="cpu")
    losses = []
    for tokens, targets in batches:
        batch = Batch(np.asarray(tokens, np.int32), np.asarray(targets, np.int32))
        result, _ = learner.train_step(batch, learner.initial_state(len(batch.inputs)))
        losses.append(float(result.loss))
    return losses


def check_losses(losses: list[float], own: list[float]) -> None:
    """Whether an example learns, and as the library itself does: the same losses to float32's precision."""
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(losses, own, rtol=2e-5)
