"""What only TensorFlow's translator has: how often it is traced, and variables of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn_tensorflow import recurrence  # noqa: E402
from d2lrnn_tensorflow.adapter import TensorFlowBackend  # noqa: E402

from d2lrnn.contract.optimizers import Adam  # noqa: E402
from d2lrnn.contract.specs import TrainingSpec  # noqa: E402
from d2lrnn.contract.values import PADDING  # noqa: E402
from d2lrnn.translation.search import translate  # noqa: E402
from d2lrnn.translation.spec import TranslatorSpec, initial_translator  # noqa: E402
from d2lrnn.translation.values import PairBatch  # noqa: E402


def _translator(training: TrainingSpec | None = None, **values: Any) -> Any:
    sizes: dict[str, Any] = {"embedding_size": 3, "num_hiddens": 4, "num_layers": 2, "dtype": "float64"}
    spec = TranslatorSpec(6, 7, **{**sizes, **values})
    parameters = initial_translator(spec, seed=1)
    return TensorFlowBackend().translator(spec, parameters, training or TrainingSpec(), device="cpu")


def _batch(seed: int, size: int = 5, num_source: int = 4, num_target: int = 3) -> PairBatch:
    random = np.random.default_rng(seed)
    source, inputs, targets = (
        random.integers(0, 6, (size, steps), np.int32) for steps in (num_source, num_target, num_target)
    )
    targets[0, 1:] = PADDING
    return PairBatch(source, random.integers(1, num_source + 1, size, np.int32), inputs, targets)


@pytest.mark.parametrize("attention", [False, True])
def test_a_step_is_traced_for_a_first_shape_and_once_for_all_others(attention: bool) -> None:
    translator = _translator(TrainingSpec(optimizer=Adam()), attention=attention, num_layers=1)
    train = translator._train
    for seed in range(3):
        translator.learning_rate = 0.1 / (seed + 1)
        translator.train_step(_batch(seed))
    assert train.experimental_get_tracing_count() == 1
    for size, num_source, num_target in [(4, 5, 6), (3, 7, 2), (1, 2, 9)]:
        translator.train_step(_batch(0, size, num_source, num_target))
    assert train.experimental_get_tracing_count() == 2


@pytest.mark.parametrize("attention", [False, True])
def test_a_search_is_traced_for_no_number_of_rows(attention: bool) -> None:
    translator = _translator(attention=attention, num_layers=1)
    for seed in range(4):
        source, lengths, *_ = _batch(seed, num_source=3 + seed)
        translate(translator, source, lengths, begin=1, end=2, num_steps=6, beam=1 + seed)
    assert translator._write.experimental_get_tracing_count() <= 3
    assert translator._read.experimental_get_tracing_count() == 2


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_loop_and_steps_of_their_own_give_the_same(
    attention: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for few_weights in (0, 1 << 20):
        monkeypatch.setattr(recurrence, "_FEW_WEIGHTS", few_weights)
        translator = _translator(attention=attention, dropout=dropout)
        result = translator.train_step(_batch(0))
        results.append((float(result.loss), float(result.grad_norm), translator.export_parameters()))
    (loss, norm, parameters), (same_loss, same_norm, same_parameters) = results
    assert loss == pytest.approx(same_loss, rel=1e-13)
    assert norm == pytest.approx(same_norm, rel=1e-12)
    for name, value in parameters.items():
        np.testing.assert_allclose(same_parameters[name], value, rtol=1e-11, atol=1e-13, err_msg=name)


def test_what_is_behind_the_end_of_a_source_is_not_read() -> None:
    translator = _translator(num_layers=3)
    source, lengths, *_ = _batch(0)
    others = np.where(np.arange(source.shape[1]) < lengths[:, None], source, (source + 1) % 6)
    tokens = np.ones(len(source), np.int32)
    (one, _), (other, _) = (
        translator.write(tokens, translator.read(each.astype(np.int32), lengths)) for each in (source, others)
    )
    np.testing.assert_array_equal(one, other)


def test_arrays_are_copied_in_and_out() -> None:
    translator = _translator(TrainingSpec(0.01, optimizer=Adam()))
    given, slots = translator.export_parameters(), translator.export_optimizer_state()
    translator.import_parameters(given)
    translator.import_optimizer_state(slots)
    kept = translator.export_parameters()
    before = {name: value.copy() for name, value in kept.items()}
    for value in [*given.values(), *slots.values()]:
        value.fill(9.0)
    translator.train_step(_batch(0))
    for name, value in kept.items():
        np.testing.assert_array_equal(value, before[name])
    assert all(np.abs(value).max() < 2 for value in translator.export_parameters().values())
    assert all(np.abs(value).max() < 2 for value in translator.export_optimizer_state().values())


def test_a_state_that_was_written_from_can_be_written_from_again() -> None:
    translator = _translator()
    source, lengths, *_ = _batch(0)
    state, tokens = translator.read(source, lengths), np.ones(len(source), np.int32)
    first, _ = translator.write(tokens, state)
    again, _ = translator.write(tokens, state)
    np.testing.assert_array_equal(first, again)
    picked, _ = translator.write(tokens[:3], translator.rows(state, np.array([4, 0, 4], np.int32)))
    np.testing.assert_allclose(picked, first[[4, 0, 4]], rtol=1e-12)
