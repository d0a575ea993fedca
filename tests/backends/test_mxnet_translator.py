"""What only MXNet's translator has: graphs for one shape of batch each, whose memory is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import PADDING
from d2lrnn.registry import backend
from d2lrnn.translation.backends import make_translator
from d2lrnn.translation.spec import TranslatorSpec, initial_translator
from d2lrnn.translation.values import PairBatch, Translator

mx = pytest.importorskip("mxnet")

from d2lrnn_mxnet import translator_parts  # noqa: E402
from d2lrnn_mxnet.adapter import MXNetBackend  # noqa: E402

BACKEND = MXNetBackend()
SPEC = TranslatorSpec(9, 11, embedding_size=5, num_hiddens=8, dtype="float64")
SPECS = pytest.mark.parametrize("spec", [SPEC, replace(SPEC, attention=False)], ids=["attention", "none"])


def _made(spec: TranslatorSpec, by: Backend = BACKEND) -> Translator:
    return make_translator(by, spec, initial_translator(spec, seed=3), TrainingSpec(), device="cpu")


def _batch(seed: int, size: int = 4, source_steps: int = 5, target_steps: int = 3) -> PairBatch:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 11, (size, target_steps), np.int32)
    targets[0, 1:] = PADDING
    return PairBatch(
        random.integers(0, 9, (size, source_steps), np.int32),
        random.integers(1, source_steps + 1, size).astype(np.int32),
        random.integers(0, 11, (size, target_steps), np.int32),
        targets,
    )


@SPECS
@pytest.mark.parametrize(("size", "source_steps", "target_steps"), [(1, 1, 1), (3, 5, 1), (3, 1, 4)])
def test_batches_of_one_of_a_kind(
    spec: TranslatorSpec, size: int, source_steps: int, target_steps: int
) -> None:
    batch = _batch(0, size, source_steps, target_steps)
    ours, exact = _made(spec), _made(spec, backend("numpy"))
    (loss, gradients), (right, expected) = ours.gradients(batch), exact.gradients(batch)
    assert loss == pytest.approx(right, rel=1e-12)
    for name, gradient in expected.items():
        np.testing.assert_allclose(gradients[name], gradient, rtol=1e-8, atol=1e-13, err_msg=name)


def test_a_shape_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[str] = []
    for kind in (translator_parts.Teach, translator_parts.Read, translator_parts.Write):

        def counting(self: Any, *arguments: Any, original: Any = kind.hybrid_forward) -> Any:
            traced.append(type(self).__name__)
            return original(self, *arguments)

        monkeypatch.setattr(kind, "hybrid_forward", counting)
    ours = _made(replace(SPEC, dropout=0.5))
    for seed in range(3):
        ours.train_step(_batch(seed))
        ours.eval_step(_batch(seed))
        source, lengths, inputs, _ = _batch(seed)
        state = ours.read(source, lengths)
        for tokens in inputs.T:
            _, state = ours.write(tokens, state)
    assert sorted(traced) == ["Read", "Teach", "Teach", "Write"]
    ours.train_step(_batch(0, target_steps=4))
    assert len(traced) == 5


@SPECS
def test_states_last(spec: TranslatorSpec) -> None:
    """What was read and written before is not overwritten by the next call of the same graph."""
    ours = _made(spec)
    source, lengths, inputs, _ = _batch(0)
    first = ours.read(source, lengths)
    logits, second = ours.write(inputs[:, 0], first)
    other = ours.read(source[::-1], lengths[::-1])
    ours.write(inputs[:, 1], other)
    ours.train_step(_batch(1))
    again = _made(spec)
    ours.import_parameters(again.export_parameters())
    np.testing.assert_array_equal(ours.write(inputs[:, 0], first)[0], logits)
    expected, _ = again.write(inputs[:, 2], again.write(inputs[:, 0], again.read(source, lengths))[1])
    np.testing.assert_array_equal(ours.write(inputs[:, 2], second)[0], expected)


def test_writing_keeps_no_graph() -> None:
    ours = _made(SPEC)
    source, lengths, inputs, _ = _batch(0)
    with mx.autograd.record():
        state = ours.rows(ours.read(source, lengths), np.array([2, 0, 0], np.int32))
        _, state = ours.write(inputs[:3, 0], state)
        loss = ours.eval_step(_batch(0))
    for array in (*state.source[:2], *state.states, loss):
        with pytest.raises(mx.MXNetError, match="not in a computational graph"):
            array.backward()


def test_equal_calls_are_equal() -> None:
    ours = _made(replace(SPEC, dtype="float32"))
    losses = {float(ours.eval_step(_batch(0))) for _ in range(20)}
    assert len(losses) == 1
