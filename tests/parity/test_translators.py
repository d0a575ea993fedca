"""Translators against the float64 reference: losses, gradients, what they write, and how they are moved."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import PADDING
from d2lrnn.errors import ParameterError, SpecError
from d2lrnn.training.schedules import Cosine
from d2lrnn.translation.backends import make_translator
from d2lrnn.translation.search import translate
from d2lrnn.translation.spec import TranslatorSpec, initial_translator
from d2lrnn.translation.values import PairBatch, Translator

BOS, EOS = 1, 2
WORDS = 9

SMALL = TranslatorSpec(WORDS, WORDS + 2, embedding_size=5, num_hiddens=8, num_layers=1)
SPECS = [
    dataclasses.replace(SMALL, **values)
    for values in (
        {"attention": False},
        {"attention": False, "num_layers": 2, "dropout": 0.3},
        {},
        {"num_layers": 2, "dropout": 0.3},
    )
]


def _name(spec: TranslatorSpec) -> str:
    return f"{spec.num_layers}{'-attention' if spec.attention else ''}{'-dropout' if spec.dropout else ''}"


@pytest.fixture(autouse=True)
def _has_translators(backend: Backend) -> None:
    if not hasattr(backend, "translator"):
        pytest.skip(f"{backend.name} has no translator")


def _made(backend: Backend, spec: TranslatorSpec, training: TrainingSpec | None = None) -> Translator:
    training = training or TrainingSpec()
    return make_translator(backend, spec, initial_translator(spec, seed=3), training, device="cpu")


def _pair(
    backend: Backend, reference: Backend, spec: TranslatorSpec, training: TrainingSpec
) -> tuple[Translator, Translator]:
    """The same translator on the backend, and in float64 on the reference."""
    exact = dataclasses.replace(spec, dtype="float64")
    return _made(backend, spec, training), _made(reference, exact, training)


def batch(seed: int, size: int = 12, longest: int = 6) -> PairBatch:
    """Sources of random words, and the same backwards as targets; every row ends with EOS."""
    random = np.random.default_rng(seed)
    source = random.integers(0, WORDS, (size, longest + 1), np.int32)  # also what is behind the end
    inputs = random.integers(0, WORDS + 2, (size, longest + 1), np.int32)
    targets = np.full((size, longest + 1), PADDING, np.int32)
    lengths = random.integers(2, longest + 2, size).astype(np.int32)
    for row, length in enumerate(lengths):
        words = random.integers(3, WORDS, length - 1)
        source[row, :length] = [*words, EOS]
        inputs[row, :length] = [BOS, *words[::-1]]
        targets[row, :length] = [*words[::-1], EOS]
    return PairBatch(source, lengths, inputs, targets)


TRAININGS = [TrainingSpec(learning_rate=0.5, seed=4), TrainingSpec(0.01, seed=4, optimizer=Adam())]


#: In float64 one optimiser is enough: the others have a file of their own.
RUNS = [("float32", TRAININGS[0]), ("float32", TRAININGS[1]), ("float64", TRAININGS[1])]


@pytest.mark.parametrize(("dtype", "training"), RUNS, ids=["float32-sgd", "float32-adam", "float64-adam"])
@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_fifty_steps(
    backend: Backend, reference: Backend, spec: TranslatorSpec, dtype: Any, training: TrainingSpec
) -> None:
    ours, exact = _pair(backend, reference, dataclasses.replace(spec, dtype=dtype), training)
    tolerance = 1e-5 if dtype == "float32" else 1e-9
    for step in range(50):
        loss, norm = ours.train_step(batch(step))
        right, right_norm = exact.train_step(batch(step))
        assert abs(float(loss) - float(right)) < tolerance * max(1.0, float(right)), step
        assert float(norm) == pytest.approx(float(right_norm), rel=100 * tolerance), step
    assert float(loss) < 2.2
    assert float(ours.eval_step(batch(99))) == pytest.approx(float(exact.eval_step(batch(99))), rel=tolerance)


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_gradients(backend: Backend, reference: Backend, spec: TranslatorSpec) -> None:
    ours, exact = _pair(backend, reference, dataclasses.replace(spec, dtype="float64"), TrainingSpec())
    before = ours.export_parameters()
    loss, gradients = ours.gradients(batch(0))
    right, expected = exact.gradients(batch(0))
    assert loss == pytest.approx(right, rel=1e-12)
    assert list(gradients) == list(expected)
    for name, gradient in expected.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-8, atol=1e-12, err_msg=name)
    for name, value in ours.export_parameters().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_all_backends_write_the_same(backend: Backend, reference: Backend, spec: TranslatorSpec) -> None:
    ours, exact = _pair(backend, reference, spec, TrainingSpec(0.01, optimizer=Adam()))
    for step in range(30):
        exact.train_step(batch(step))
    ours.import_parameters({name: v.astype(np.float32) for name, v in exact.export_parameters().items()})
    exact.import_parameters({name: v.astype(np.float64) for name, v in ours.export_parameters().items()})
    source, lengths, *_ = batch(77)
    for beam in (1, 3):
        found, right = (
            translate(each, source, lengths, begin=BOS, end=EOS, num_steps=8, beam=beam)
            for each in (ours, exact)
        )
        assert [each.tokens for each in found] == [each.tokens for each in right]
        for one, other in zip(found, right, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, rel=1e-4)


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_padding_changes_nothing(backend: Backend, spec: TranslatorSpec) -> None:
    ours = _made(backend, dataclasses.replace(spec, dtype="float64"))
    source, lengths, inputs, targets = batch(5)
    longer = PairBatch(
        np.pad(source, ((0, 0), (0, 3)), constant_values=4), lengths,
        np.pad(inputs, ((0, 0), (0, 2)), constant_values=4),
        np.pad(targets, ((0, 0), (0, 2)), constant_values=PADDING),
    )  # fmt: skip
    shorter = PairBatch(source, lengths, inputs, targets)
    assert float(ours.eval_step(longer)) == pytest.approx(float(ours.eval_step(shorter)), rel=1e-12)
    one, other = ours.gradients(shorter)[1], ours.gradients(longer)[1]
    for name, gradient in one.items():
        np.testing.assert_allclose(other[name], gradient, rtol=1e-9, atol=1e-13, err_msg=name)


def test_a_training_is_moved_in_the_middle(backend: Backend, reference: Backend) -> None:
    spec, training = dataclasses.replace(SPECS[3], dtype="float64"), TRAININGS[1]
    whole, first = (_made(reference, spec, training) for _ in range(2))
    second = _made(backend, spec, training)
    for step in range(6):
        whole.train_step(batch(step))
        (first if step < 3 else second).train_step(batch(step))
        if step == 2:
            second.import_parameters(first.export_parameters())
            second.import_optimizer_state(first.export_optimizer_state())
            second.step = first.step
    for name, value in whole.export_parameters().items():
        np.testing.assert_allclose(second.export_parameters()[name], value, rtol=1e-9, atol=1e-12)
    for name, value in whole.export_optimizer_state().items():
        np.testing.assert_allclose(second.export_optimizer_state()[name], value, rtol=1e-8, atol=1e-14)


def test_what_does_not_fit_is_refused(backend: Backend) -> None:
    for training in (TrainingSpec(accumulate=2), TrainingSpec(schedule=Cosine(steps=5))):
        with pytest.raises(SpecError, match="at a constant rate, on whole batches"):
            _made(backend, SMALL, training)
    parameters = initial_translator(SMALL)
    parameters.pop("attention.w_q")
    with pytest.raises(ParameterError, match=r"parameters are missing: attention\.w_q"):
        make_translator(backend, SMALL, parameters, TrainingSpec(), device="cpu")
    ours = _made(backend, SMALL)
    with pytest.raises(ParameterError, match=r"parameters are missing: attention\.w_q"):
        ours.import_parameters(parameters)
