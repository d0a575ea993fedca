"""Plain Keras layers, brought in and taken out: the same outputs, two trained biases or not."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import ParameterError

keras = pytest.importorskip("keras", reason="this environment has no Keras")

from d2lrnn_tensorflow import from_native, to_native  # noqa: E402
from parity.models import drawn_parameters, name_of  # noqa: E402

LAYERS = {
    "rnn": keras.layers.SimpleRNN,
    "rnn-relu": partial(keras.layers.SimpleRNN, activation="relu"),
    "gru": keras.layers.GRU,
    "lstm": keras.layers.LSTM,
}
SPECS = [
    *[ModelSpec(11, cell, "concise", 8, num_layers=layers) for cell in LAYERS for layers in (1, 3)],
    # Keras has the book's GRU as well.
    ModelSpec(11, "gru", "scratch", 8, num_layers=2, reset_after=False),
]
X = np.random.default_rng(0).normal(size=(7, 4, 11)).astype(np.float32)


def _layers(spec: ModelSpec, **options: Any) -> tuple[Any, Any]:
    """The recurrent layers in a model of their own, and the output layer."""
    if spec.cell == "gru":
        options["reset_after"] = spec.reset_after
    layers = [LAYERS[spec.cell](8, return_sequences=True, **options) for _ in range(spec.num_layers)]
    stack = keras.Sequential([keras.Input((None, 11)), *layers])
    dense = keras.layers.Dense(11, use_bias=options.get("use_bias", True))
    dense.build((None, None, 8))
    return stack, dense


def _hidden(stack: Any) -> np.ndarray:
    return np.asarray(stack(X.swapaxes(0, 1))).swapaxes(0, 1)


@pytest.mark.parametrize("use_bias", [True, False], ids=["biases", "no-bias"])
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_weights_become_a_model_anywhere(spec: ModelSpec, use_bias: bool) -> None:
    stack, dense = _layers(spec, use_bias=use_bias)
    random = np.random.default_rng(3)
    for layer in [*stack.layers, dense]:
        drawn = [random.uniform(-0.3, 0.3, array.shape) for array in layer.get_weights()]
        layer.set_weights(drawn)
    weights = [layer.get_weights() for layer in stack.layers]
    parameters = from_native(spec, weights, dense.get_weights())
    hidden = _hidden(stack)
    for name in ("tensorflow", "numpy"):
        backend = d2lrnn.backend(name)
        mine, _ = backend.run_layers(backend.build(spec, parameters), X)
        np.testing.assert_allclose(mine, hidden, rtol=0, atol=1e-6)
        logits = mine @ parameters["head.w"] + parameters["head.b"]
        np.testing.assert_allclose(logits, np.asarray(dense(hidden)), atol=2e-6)


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_model_becomes_weights(spec: ModelSpec) -> None:
    parameters = drawn_parameters(spec)
    weights = to_native(spec, parameters)
    stack, dense = _layers(spec)
    for layer, own in zip([*stack.layers, dense], [*weights.rnn, weights.head], strict=True):
        layer.set_weights(own)
    backend = d2lrnn.backend("numpy")
    expected, _ = backend.run_layers(backend.build(spec, parameters), X)
    np.testing.assert_allclose(_hidden(stack), expected, rtol=0, atol=1e-6)
    back = from_native(spec, weights.rnn, weights.head)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)


def test_what_does_not_fit_is_named() -> None:
    spec = ModelSpec(11, "gru", "concise", 8)
    stack, dense = _layers(spec)
    (weights,), head = [layer.get_weights() for layer in stack.layers], dense.get_weights()
    for rnn, message in (
        ([], "there are weights of 0 recurrent layers"),
        ([weights[:1]], "recurrent layer 0 has 1 arrays"),
        ([[*weights[:2], weights[2][0]]], "the bias of recurrent layer 0 has shape"),
        ([[weights[0][:3], *weights[1:]]], "rnn.0.w_x has shape"),
    ):
        with pytest.raises(ParameterError, match=message):
            from_native(spec, rnn, head)
    with pytest.raises(ParameterError, match="the output layer has 0 arrays"):
        from_native(spec, [weights], [])


@pytest.mark.parametrize("tied", [False, True], ids=["embedding", "tied"])
def test_an_embedding_goes_out_and_comes_back(tied: bool) -> None:
    spec = ModelSpec(11, "lstm", "concise", 8, embedding_size=8, tied=tied)
    parameters = drawn_parameters(spec)
    weights = to_native(spec, parameters)
    embedding, dense = keras.layers.Embedding(11, 8), keras.layers.Dense(11)
    embedding.build()
    dense.build((None, None, 8))
    embedding.set_weights(weights.embedding)
    dense.set_weights(weights.head)
    back = from_native(spec, weights.rnn, dense.get_weights(), embedding.get_weights())
    assert list(back) == list(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)
    with pytest.raises(ParameterError, match="the embedding has 0 arrays: expected 1"):
        from_native(spec, weights.rnn, weights.head)
    if tied:
        with pytest.raises(ParameterError, match="not the embedding's transpose"):
            from_native(spec, weights.rnn, [2 * weights.head[0], weights.head[1]], weights.embedding)


def test_a_cell_that_keras_does_not_have_is_refused() -> None:
    spec = ModelSpec(11, "mgu", "scratch", 8)
    with pytest.raises(ParameterError, match="Keras has no layer of the cell mgu"):
        to_native(spec, drawn_parameters(spec))
    with pytest.raises(ParameterError, match="Keras has no layer of the cell mgu"):
        from_native(spec, [], [])
