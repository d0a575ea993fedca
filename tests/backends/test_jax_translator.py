"""What only JAX's translator has: compilation, donated memory, its precision beside the user's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

from d2lrnn_jax import translator as compiled  # noqa: E402
from d2lrnn_jax.translator import JaxTranslator  # noqa: E402
from d2lrnn_jax.translator_model import Memory, attend, mean_loss  # noqa: E402
from jax import numpy as jnp  # noqa: E402

from d2lrnn.contract.optimizers import Adam  # noqa: E402
from d2lrnn.contract.specs import TrainingSpec  # noqa: E402
from d2lrnn.contract.values import PADDING  # noqa: E402
from d2lrnn.translation.spec import TranslatorSpec, initial_translator  # noqa: E402
from d2lrnn.translation.values import PairBatch  # noqa: E402

SPEC = TranslatorSpec(6, 7, embedding_size=3, num_hiddens=4, dropout=0.3)
TRAINING = TrainingSpec(0.01, optimizer=Adam())


def _translator(**values: Any) -> JaxTranslator:
    spec = dataclasses.replace(SPEC, **values)
    return JaxTranslator(spec, initial_translator(spec, seed=1), TRAINING, jax.devices("cpu")[0])


def _batch(seed: int = 0) -> PairBatch:
    random = np.random.default_rng(seed)
    source, inputs, targets = (random.integers(0, 6, (3, steps), np.int32) for steps in (5, 4, 4))
    targets[0, 2:] = PADDING
    return PairBatch(source, random.integers(1, 6, 3).astype(np.int32), inputs, targets)


@pytest.mark.parametrize("attention", [False, True])
def test_a_step_compiles_once(attention: bool) -> None:
    first = _translator(attention=attention)
    first.train_step(_batch())
    state = first.read(*_batch()[:2])
    first.write(np.array([1, 2, 3], np.int32), state)
    functions = compiled._train, compiled._compiled_read, compiled._compiled_write
    sizes = [function._cache_size() for function in functions]
    for translator in (first, _translator(attention=attention)):
        for step in range(3):
            translator.learning_rate = 0.01 / (step + 2)
            translator.train_step(_batch(step))
            wide = PairBatch(*(part.astype(np.int64) for part in _batch(step)))
            translator.train_step(wide)
        state = translator.read(*_batch(7)[:2])
        for token in range(3):
            _, state = translator.write(np.full(3, token), state)
    assert [function._cache_size() for function in functions] == sizes


def test_what_was_read_outlives_a_training_step() -> None:
    ours = _translator()
    state, tokens = ours.read(*_batch()[:2]), np.array([1, 2, 3], np.int32)
    before = jax.tree.map(np.array, state)
    logits, _ = ours.write(tokens, state)
    again, _ = ours.write(tokens, state)
    np.testing.assert_array_equal(logits, again)
    ours.train_step(_batch())
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, state))
    assert not np.array_equal(ours.write(tokens, state)[0], logits)


def test_the_parameters_are_copies() -> None:
    parameters = initial_translator(SPEC, seed=1)
    kept = {name: value.copy() for name, value in parameters.items()}
    ours = JaxTranslator(SPEC, parameters, TRAINING, jax.devices("cpu")[0])
    exported = ours.export_parameters()
    for _ in range(2):
        ours.train_step(_batch())
    for name, value in kept.items():
        np.testing.assert_array_equal(parameters[name], value)
        np.testing.assert_array_equal(exported[name], value)
    parameters["head.b"][:] = 7
    ours.import_parameters(parameters)
    parameters["head.b"][:] = 0
    assert (ours.export_parameters()["head.b"] == 7).all()


def test_float64_leaves_the_users_precision() -> None:
    ours = _translator(dtype="float64")
    result = ours.train_step(_batch())
    logits, state = ours.write(np.array([1, 2, 3], np.int32), ours.read(*_batch()[:2]))
    assert logits.dtype == np.float64
    assert result.loss.dtype == state.states[0].dtype == jnp.float64
    assert ours.eval_step(_batch()).dtype == np.float64
    assert jnp.zeros(1, float).dtype == np.float32


def test_attention_ignores_what_is_behind_the_end() -> None:
    """The encoder's states there are those of the padding."""
    params = {name: jnp.array(value) for name, value in initial_translator(SPEC).items()}
    M = jnp.array(np.random.default_rng(0).normal(size=(5, 2, 4)), jnp.float32)
    lengths = np.array([5, 1])
    known = np.arange(5)[:, None] < lengths
    context = attend(params, Memory(M, M @ params["attention.w_k"], known), M[0])
    assert np.allclose(context[1], M[0, 1], rtol=1e-6)
    assert not np.allclose(context[0], M[0, 0], rtol=1e-2)


def test_a_step_keeps_no_features_of_attention() -> None:
    """The backward pass computes them anew: no array has an entry for every source and every target step."""
    ours = _translator()
    S, T, B, h = 5, 4, 3, 4
    (vjp,) = jax.eval_shape(
        lambda params: jax.vjp(lambda p: mean_loss(p, _batch(), spec=SPEC), params)[1:],
        ours._params,
    )
    assert jax.tree.leaves(vjp)
    assert max(leaf.size for leaf in jax.tree.leaves(vjp)) < S * T * B * h
