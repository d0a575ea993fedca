"""Copies and pickles of models and learners: they compute the same, and share nothing."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity.models import KINDS, REPRESENTATIVE, drawn_batch, drawn_parameters, name_of

from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch

#: Also what does not fit into float32, and a rate and masks that go on.
DOUBLE = ModelSpec(11, "gru", "concise", 8, num_layers=2, dropout=0.5, dtype="float64")

ADAM = TrainingSpec(learning_rate=0.01, optimizer=Adam(), seed=4)


def through_pickle(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


copying = pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])


def _batch(spec: ModelSpec) -> Batch:
    return drawn_batch(spec, batch_size=3, num_steps=5)


def _logits(learner: Learner) -> np.ndarray[Any, Any]:
    tokens = np.array([1, 5, 0], np.int32)
    logits, state = learner.predict_step(tokens, learner.initial_state(3))
    return np.stack([logits, learner.predict_step(tokens, state)[0]])


@pytest.mark.parametrize("spec", [*KINDS, DOUBLE], ids=name_of)
def test_a_copied_model_is_the_same_model(backend: Backend, spec: ModelSpec) -> None:
    drawn = drawn_parameters(spec)
    model = backend.build(spec, drawn)
    expected = _logits(backend.learner(model, TrainingSpec(), device="cpu"))
    for copied in (copy.deepcopy, through_pickle):
        other = copied(model)
        assert type(other) is type(model)
        own_spec, parameters = backend.export_model(other)
        assert own_spec == spec
        for name, value in drawn.items():
            np.testing.assert_array_equal(parameters[name], value)
            assert parameters[name].dtype == spec.dtype
        learner = backend.learner(other, TrainingSpec(), device="cpu")
        np.testing.assert_array_equal(_logits(learner), expected)
        # They share nothing.
        learner.import_parameters({name: value + 1 for name, value in drawn.items()})
        for name, value in backend.export_model(model)[1].items():
            np.testing.assert_array_equal(value, drawn[name])


@copying
@pytest.mark.parametrize("spec", [*REPRESENTATIVE, DOUBLE], ids=name_of)
def test_a_copied_learner_goes_on_alike(
    backend: Backend, spec: ModelSpec, copied: Callable[[Any], Any]
) -> None:
    learner = backend.learner(backend.build(spec, drawn_parameters(spec)), ADAM, device="cpu")
    for _ in range(3):
        learner.train_step(_batch(spec), learner.initial_state(3))
    learner.learning_rate = 0.02
    other = copied(learner)
    assert (other.step, other.learning_rate, other.training) == (3, 0.02, ADAM)
    for _ in range(2):
        losses = [
            float(each.train_step(_batch(spec), each.initial_state(3))[0].loss) for each in (learner, other)
        ]
        assert losses[0] == losses[1]
    ours, theirs = learner.export_parameters(), other.export_parameters()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
    before = other.export_parameters()
    learner.train_step(_batch(spec), learner.initial_state(3))
    for name, value in other.export_parameters().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_tied_weight_stays_tied(backend: Backend) -> None:
    spec = ModelSpec(11, "lstm", "concise", 8, embedding_size=8, tied=True)
    learner = backend.learner(copy.deepcopy(backend.build(spec, drawn_parameters(spec))), ADAM, device="cpu")
    judge = backend.learner(backend.build(spec, drawn_parameters(spec)), ADAM, device="cpu")
    for each in (learner, judge):
        each.train_step(_batch(spec), each.initial_state(3))
    assert set(learner.export_parameters()) == set(judge.export_parameters())
    np.testing.assert_array_equal(_logits(learner), _logits(judge))


def test_a_pickle_is_read_in_another_process(backend: Backend, tmp_path: Path) -> None:
    spec = REPRESENTATIVE[0]
    learner = backend.learner(backend.build(spec, drawn_parameters(spec)), ADAM, device="cpu")
    file = tmp_path / "learner.pickle"
    file.write_bytes(pickle.dumps((learner, learner.model)))
    code = f"""
import pickle
import numpy as np
learner, model = pickle.load(open({str(file)!r}, "rb"))
tokens = np.array([1], np.int32)
print(learner.predict_step(tokens, learner.initial_state(1))[0].tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = learner.predict_step(np.array([1], np.int32), learner.initial_state(1))[0]
    assert done.stdout.splitlines()[-1] == str(expected.tolist())


def test_a_pickle_has_the_size_of_the_parameters(backend: Backend) -> None:
    """No scratch memory, no gradients, nothing compiled, no second copy in another layout."""
    spec = ModelSpec(200, "gru", "concise", 128, num_layers=2)
    parameters = drawn_parameters(spec)
    model = backend.build(spec, parameters)
    learner = backend.learner(model, TrainingSpec(), device="cpu")
    batch = drawn_batch(spec, batch_size=32, num_steps=32)
    learner.train_step(batch, learner.initial_state(32))
    learner.predict_step(batch.inputs[:, 0].copy(), learner.initial_state(32))
    size = sum(value.nbytes for value in parameters.values())
    assert len(pickle.dumps(learner.model)) < 1.05 * size + 8192
    assert len(pickle.dumps(learner)) < 1.05 * size + 8192
