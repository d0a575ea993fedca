"""The reference translator: gradients against differences, padding, and what training learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from d2lrnn_numpy.translator import NumpyTranslator

from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import PADDING
from d2lrnn.translation.search import translate
from d2lrnn.translation.spec import TranslatorSpec, initial_translator, translator_shapes
from d2lrnn.translation.values import PairBatch

BOS, EOS = 1, 2


def _translator(training: TrainingSpec | None = None, **values: Any) -> NumpyTranslator:
    sizes: dict[str, Any] = {"embedding_size": 3, "num_hiddens": 4, "num_layers": 2, "dtype": "float64"}
    spec = TranslatorSpec(6, 7, **{**sizes, **values})
    return NumpyTranslator(spec, initial_translator(spec, seed=1), training or TrainingSpec())


def _batch(seed: int = 0) -> PairBatch:
    random = np.random.default_rng(seed)
    source, inputs = (random.integers(0, 6, (3, steps), np.int32) for steps in (5, 4))
    targets = random.integers(0, 7, (3, 4), np.int32)
    targets[0, 2:] = PADDING
    return PairBatch(source, np.array([5, 2, 3], np.int32), inputs, targets)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_differences(attention: bool, dropout: float) -> None:
    translator = _translator(attention=attention, dropout=dropout)
    batch, masks = _batch(), (None, None)
    if dropout:
        from d2lrnn.translation.dropout import translator_masks

        masks = translator_masks(translator.spec, 0, 0, _batch())  # type: ignore[assignment]
    _, gradients = translator._differentiate(batch, masks)
    step = 1e-6
    random = np.random.default_rng(0)
    for name, values in translator._p.items():
        for index in {tuple(random.integers(0, n) for n in values.shape) for _ in range(6)}:
            before = values[index]
            losses = []
            for sign in (1, -1):
                values[index] = before + sign * step
                losses.append(translator._forward(batch, masks)[0])
            values[index] = before
            expected = (losses[0] - losses[1]) / (2 * step)
            assert gradients[name][index] == pytest.approx(expected, rel=1e-5, abs=1e-9), (name, index)


@pytest.mark.parametrize("attention", [False, True])
def test_padding_changes_nothing(attention: bool) -> None:
    translator = _translator(attention=attention)
    batch = _batch()
    longer = PairBatch(
        np.pad(batch.source, ((0, 0), (0, 3)), constant_values=5),
        batch.lengths,
        np.pad(batch.inputs, ((0, 0), (0, 2)), constant_values=3),
        np.pad(batch.targets, ((0, 0), (0, 2)), constant_values=PADDING),
    )
    loss, gradients = translator.gradients(batch)
    same, others = translator.gradients(longer)
    assert same == pytest.approx(loss, rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(others[name], gradient, rtol=1e-9, atol=1e-14)


def _reversed_pairs(number: int, seed: int) -> PairBatch:
    """Sources of 2 to 4 tokens from 3 on, and the same backwards, ended by EOS, as targets."""
    random = np.random.default_rng(seed)
    source = np.zeros((number, 5), np.int32)
    inputs, targets = np.zeros((number, 5), np.int32), np.full((number, 5), PADDING, np.int32)
    lengths = np.zeros(number, np.int32)
    for row in range(number):
        words = random.integers(3, 6, random.integers(2, 5))
        source[row, : len(words) + 1] = [*words, EOS]
        lengths[row] = len(words) + 1
        inputs[row, : len(words) + 1] = [BOS, *words[::-1]]
        targets[row, : len(words) + 1] = [*words[::-1], EOS]
    return PairBatch(source, lengths, inputs, targets)


@pytest.mark.parametrize("attention", [False, True])
def test_it_learns_to_turn_sentences_around(attention: bool) -> None:
    training = TrainingSpec(learning_rate=0.02, optimizer=Adam())
    translator = _translator(training, attention=attention, embedding_size=8, num_hiddens=24, num_layers=1)
    for step in range(150):
        result = translator.train_step(_reversed_pairs(64, step))
    assert float(result.loss) < 0.1
    assert translator.step == 150
    batch = _reversed_pairs(20, seed=999)
    for beam in (1, 3):
        found = translate(translator, batch.source, batch.lengths, begin=BOS, end=EOS, num_steps=6, beam=beam)
        right = [tuple(row[row > EOS]) for row in batch.targets]
        assert np.mean([each.tokens == row for each, row in zip(found, right, strict=True)]) > 0.9
        assert all(each.ended for each in found)


def test_what_is_moved_goes_on_in_the_same_way() -> None:
    training = TrainingSpec(learning_rate=0.02, optimizer=Adam())
    one, other = _translator(training, dropout=0.2), _translator(training, dropout=0.2)
    for step in range(3):
        one.train_step(_batch(step))
    other.import_parameters(one.export_parameters())
    other.import_optimizer_state(one.export_optimizer_state())
    other.step = one.step
    assert float(one.train_step(_batch(9)).loss) == float(other.train_step(_batch(9)).loss)
    for name, values in one.export_parameters().items():
        np.testing.assert_array_equal(values, other.export_parameters()[name])


def test_every_parameter_is_drawn_by_its_name() -> None:
    small, large = (TranslatorSpec(6, 7, num_layers=layers, dtype="float64") for layers in (1, 3))
    one, other = initial_translator(small, 3), initial_translator(large, 3)
    for name in translator_shapes(small):
        np.testing.assert_array_equal(one[name], other[name])
    weights = other["encoder.1.w_h"]
    assert np.abs(weights).max() <= (6 / 128) ** 0.5
    assert weights.std() == pytest.approx((6 / 128 / 3) ** 0.5, rel=0.05)
    assert not other["head.b"].any()
