"""What is particular to PyTorch's translator: graphs, modes, the caller's generator, and its two products."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from d2lrnn_numpy.translator import NumpyTranslator  # noqa: E402
from d2lrnn_torch.translator import TorchTranslator  # noqa: E402
from d2lrnn_torch.translator_model import Memory  # noqa: E402

from d2lrnn.contract.optimizers import Adam  # noqa: E402
from d2lrnn.contract.specs import TrainingSpec  # noqa: E402
from d2lrnn.contract.values import PADDING  # noqa: E402
from d2lrnn.translation.spec import TranslatorSpec, initial_translator  # noqa: E402
from d2lrnn.translation.values import PairBatch  # noqa: E402

CPU = torch.device("cpu")
WORDS = 20
SMALL = TranslatorSpec(WORDS, WORDS, embedding_size=5, num_hiddens=8, dropout=0.3)
#: Products of a batch of 64 are large enough for oneDNN.
LARGE = TranslatorSpec(WORDS, WORDS, embedding_size=96, num_hiddens=160)


def _translator(spec: TranslatorSpec = SMALL) -> TorchTranslator:
    return TorchTranslator(spec, initial_translator(spec), TrainingSpec(0.01, optimizer=Adam()), CPU)


def _batch(size: int = 6, num_source: int = 5, num_target: int = 4) -> PairBatch:
    random = np.random.default_rng(0)
    source = random.integers(0, WORDS, (size, num_source), np.int32)
    inputs, targets = (random.integers(0, WORDS, (size, num_target), np.int32) for _ in range(2))
    targets[0, 1:] = PADDING
    lengths = random.integers(1, num_source + 1, size).astype(np.int32)
    return PairBatch(source, lengths, inputs, targets)


def _tensors(state: Memory) -> list[Any]:
    return [each for each in (state.outputs, state.keys, state.last, *state.states) if each is not None]


@pytest.mark.parametrize("attention", [False, True])
def test_reading_and_writing_build_no_graph(attention: bool) -> None:
    translator = _translator(dataclasses.replace(SMALL, attention=attention))
    batch = _batch()
    before = translator.read(batch.source, batch.lengths)
    logits, after = translator.write(batch.inputs[:, 0], before)
    chosen = translator.rows(after, np.array([2, 2, 0], np.int32))
    for state in (before, after, chosen):
        assert not any(each.requires_grad for each in _tensors(state))
    assert not translator.eval_step(batch).requires_grad
    assert isinstance(logits, np.ndarray)
    # What was made in inference mode does not get into a training step.
    assert np.isfinite(float(translator.train_step(batch).loss))


def test_nothing_switches_the_mode() -> None:
    translator = _translator()
    batch = _batch()
    translator.train_step(batch)
    translator.gradients(batch)
    translator.write(batch.inputs[:, 0], translator.read(batch.source, batch.lengths))
    assert not any(module.training for module in translator.model.modules())


def test_a_training_step_leaves_no_gradients_behind() -> None:
    translator = _translator()
    result = translator.train_step(_batch())
    assert all(p.grad is None for p in translator.model.parameters())
    assert not result.loss.requires_grad  # type: ignore[attr-defined]


def test_making_one_draws_nothing_of_the_callers() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    _translator()
    assert torch.equal(torch.rand(3), expected)


def test_exports_are_copies_in_the_order_of_memory() -> None:
    translator = _translator(LARGE)
    _, gradients = translator.gradients(_batch(64))
    exported = translator.export_parameters()
    assert all(array.flags.c_contiguous for array in (*gradients.values(), *exported.values()))
    exported["head.b"][:] = 7
    assert not translator.export_parameters()["head.b"].any()


def test_what_is_imported_is_copied() -> None:
    translator = _translator()
    values = initial_translator(SMALL, seed=5)
    translator.import_parameters(values)
    values["head.b"][:] = 7
    assert not translator.export_parameters()["head.b"].any()


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("sizes", [(64, 7, 6), (64, 1, 1), (1, 4, 3), (1, 1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_all_sizes(attention: bool, sizes: tuple[int, int, int], dtype: Any) -> None:
    spec = dataclasses.replace(LARGE, attention=attention, dtype=dtype)
    parameters = initial_translator(spec)
    right, expected = NumpyTranslator(
        dataclasses.replace(spec, dtype="float64"), parameters, TrainingSpec()
    ).gradients(_batch(*sizes))
    loss, gradients = _translator(spec).gradients(_batch(*sizes))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert loss == pytest.approx(right, rel=tolerance)
    for name, gradient in expected.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(gradients[name], gradient, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("attention", [False, True])
def test_writing_step_by_step_is_what_training_computes(attention: bool) -> None:
    spec = dataclasses.replace(SMALL, attention=attention, dtype="float64")
    translator, batch = _translator(spec), _batch()
    state = translator.read(batch.source, batch.lengths)
    losses = []
    for tokens, targets in zip(batch.inputs.T, batch.targets.T, strict=True):
        logits, state = translator.write(tokens, state)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        losses += [-log_p[row, target] for row, target in enumerate(targets) if target != PADDING]
    assert float(translator.eval_step(batch)) == pytest.approx(np.mean(losses), rel=1e-12)


def test_what_is_behind_the_end_changes_no_bit() -> None:
    translator, batch = _translator(), _batch()
    other = batch.source.copy()
    behind = np.arange(other.shape[1]) >= batch.lengths[:, None]
    assert behind.any()
    other[behind] = (other[behind] + 1) % WORDS
    one, two = (translator.gradients(batch._replace(source=source)) for source in (batch.source, other))
    assert one[0] == two[0]
    for name, gradient in one[1].items():
        np.testing.assert_array_equal(gradient, two[1][name], err_msg=name)


@pytest.mark.gpu
@pytest.mark.parametrize("attention", [False, True])
def test_a_gpu_gives_the_same_numbers(attention: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch can use on this machine")
    spec = dataclasses.replace(SMALL, attention=attention)
    parameters, training = initial_translator(spec), TrainingSpec(0.01, optimizer=Adam())
    ours, right = (
        TorchTranslator(spec, parameters, training, torch.device(name)) for name in ("cuda", "cpu")
    )
    batch = _batch()
    for _ in range(5):
        loss, expected = (float(each.train_step(batch).loss) for each in (ours, right))
        assert loss == pytest.approx(expected, rel=1e-5)
    written = []
    for each in (ours, right):
        state = each.rows(each.read(batch.source, batch.lengths), np.array([3, 1], np.int32))
        written.append(each.write(batch.inputs[:2, 0], state)[0])
    np.testing.assert_allclose(*written, rtol=1e-4, atol=1e-5)
