"""What only the TensorFlow backend has: Keras' tracking of weights, its layers, tracing, devices."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="this environment has no Keras")
tf = pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn_tensorflow import devices, recurrence  # noqa: E402
from d2lrnn_tensorflow.adapter import TensorFlowBackend  # noqa: E402
from d2lrnn_tensorflow.parameters import trainable_variables  # noqa: E402
from d2lrnn_tensorflow.recurrence import looped_recurrence, plain_recurrence, project  # noqa: E402
from parity.models import drawn_batch, drawn_parameters, name_of  # noqa: E402

from d2lrnn import tensorflow as d2l  # noqa: E402
from d2lrnn.contract.dropout import DropoutMasks  # noqa: E402
from d2lrnn.contract.optimizers import Adam  # noqa: E402
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.errors import BackendNotInstalledError, KindError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

LAYERS: dict[str, Callable[[], Any]] = {
    "RNNScratch": lambda: d2l.RNNScratch(7, 4),
    "GRUScratch": lambda: d2l.GRUScratch(7, 4),
    "GRUScratch-after": lambda: d2l.GRUScratch(7, 4, reset_after=True),
    "LSTMScratch": lambda: d2l.LSTMScratch(7, 4),
    "MGUScratch": lambda: d2l.MGUScratch(7, 4),
    "ReluRNNScratch": lambda: d2l.ReluRNNScratch(7, 4),
    "StackedRNNScratch": lambda: d2l.StackedRNNScratch(7, 4, 3),
    "StackedGRUScratch": lambda: d2l.StackedRNNScratch(7, 4, 2, layer=d2l.GRUScratch),
    "StackedLSTMScratch": lambda: d2l.StackedRNNScratch(7, 4, 2, layer=d2l.LSTMScratch),
    "RNN": lambda: d2l.RNN(4, num_layers=2),
    "GRU": lambda: d2l.GRU(4, num_layers=2),
    "LSTM": lambda: d2l.LSTM(4, num_layers=2),
    "ReluRNN": lambda: d2l.ReluRNN(4, num_layers=2),
}

#: How many weights each of them has: three a layer, and b_hn of the GRU that resets after the product.
NUM_WEIGHTS = [3, 3, 4, 3, 3, 3, 9, 6, 6, 6, 6, 6, 6]

CONCISE = [d2l.RNN, d2l.ReluRNN, d2l.GRU, d2l.LSTM]


def uniform(*shape: int, seed: int = 0) -> Any:
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, shape))


def randomise(variables: list[Any], seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(random.uniform(-0.5, 0.5, variable.shape))


def learner_of(spec: ModelSpec, training: TrainingSpec | None = None) -> Any:
    backend = TensorFlowBackend()
    model = backend.build(spec, drawn_parameters(spec))
    return backend.learner(model, training or TrainingSpec(), device="cpu")


# Direct use.


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_state_goes_back_in_and_is_not_changed(make: Callable[[], Any], batch_size: int) -> None:
    rnn = make()
    inputs = tf.cast(uniform(5, batch_size, 7), tf.float32)
    rnn(inputs)
    randomise(rnn.trainable_variables)
    outputs, state = rnn(inputs)
    assert outputs.shape == (5, batch_size, 4)
    before = [part.numpy() for part in tf.nest.flatten(state)]
    handed = list(state) if isinstance(state, tuple) else state
    kept = list(handed) if isinstance(handed, list) else handed
    again, after = rnn(inputs, handed)
    assert np.abs(again - outputs).max() > 1e-3, "the state counts"
    tf.nest.assert_same_structure(state, after)
    for part, value in zip(tf.nest.flatten(handed), before, strict=True):
        np.testing.assert_array_equal(part, value)
    if isinstance(handed, list):
        assert all(one is other for one, other in zip(handed, kept, strict=True))
    # Two halves with the state carried are the whole.
    _, middle = rnn(inputs[:2])
    second, _ = rnn(inputs[2:], middle)
    np.testing.assert_allclose(second, outputs[2:], atol=1e-6)


def test_states_have_the_documented_shapes() -> None:
    inputs = tf.ones((5, 3, 7))
    assert d2l.RNNScratch(7, 4)(inputs)[1].shape == (3, 4)
    assert d2l.GRUScratch(7, 4)(inputs)[1].shape == (3, 4)
    assert [part.shape for part in d2l.LSTMScratch(7, 4)(inputs)[1]] == [(3, 4), (3, 4)]
    assert [part.shape for part in d2l.StackedRNNScratch(7, 4, 2)(inputs)[1]] == [(3, 4), (3, 4)]
    assert d2l.RNN(4, 2)(inputs)[1].shape == (2, 3, 4)
    assert d2l.GRU(4, 2)(inputs)[1].shape == (2, 3, 4)
    assert [part.shape for part in d2l.LSTM(4, 2)(inputs)[1]] == [(2, 3, 4), (2, 3, 4)]


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_token_indices_stand_for_one_hot_vectors(make: Callable[[], Any]) -> None:
    rnn = make()
    tokens = tf.constant([[0, 6, 3], [2, 2, 5]])
    expected, _ = rnn(tf.one_hot(tokens, 7))
    outputs, _ = rnn(tokens)
    np.testing.assert_allclose(outputs, expected, atol=1e-7)


def test_unbuilt_concise_layers_refuse_tokens() -> None:
    with pytest.raises(ValueError, match=r"vectors \(T, B, num_inputs\)"):
        d2l.RNN(4)(tf.zeros((5, 2), tf.int32))


@pytest.mark.parametrize(
    ("make", "num_weights"), list(zip(LAYERS.values(), NUM_WEIGHTS, strict=True)), ids=LAYERS
)
@pytest.mark.parametrize("head", [d2l.RNNLMScratch, d2l.RNNLM])
def test_keras_own_optimiser_trains_every_parameter(
    make: Callable[[], Any], num_weights: int, head: Any
) -> None:
    model = head(make(), 7, lr=0.5)
    assert model.lr == 0.5
    randomise(model.trainable_variables)
    batch = drawn_batch(ModelSpec(7), batch_size=4, num_steps=6)
    assert model(batch.inputs).shape == (4, 6, 7)
    variables = model.trainable_variables
    assert len(variables) == num_weights + 2
    assert {id(v) for v in variables} == {id(v) for v in trainable_variables(model)}
    before = [variable.numpy() for variable in variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(batch.targets, model(batch.inputs))
    gradients = tape.gradient(value, [variable.value for variable in variables])
    keras.optimizers.SGD(1.0).apply(gradients, variables)
    for variable, old in zip(variables, before, strict=True):
        assert not np.array_equal(variable.numpy(), old), f"{variable.path} is not trained"


@pytest.mark.parametrize("make", [LAYERS["StackedRNNScratch"], LAYERS["LSTM"]], ids=["scratch", "concise"])
def test_keras_fit(make: Callable[[], Any]) -> None:
    model = d2l.RNNLM(make(), 7)
    tokens = np.tile(np.arange(7, dtype=np.int32), (8, 2))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss)
    history = model.fit(tokens[:, :-1], tokens[:, 1:], batch_size=4, epochs=10, verbose=0)
    assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]


def test_two_weights_of_one_shape_start_from_different_numbers() -> None:
    rnn = d2l.RNNScratch(64, 64, sigma=0.5)
    assert not np.array_equal(rnn.W_xh.numpy(), rnn.W_hh.numpy())
    assert rnn.W_xh.numpy().std() == pytest.approx(0.5, rel=0.05)
    assert not rnn.b_h.numpy().any()


def test_float64_leaves_the_global_precision_alone() -> None:
    learner = learner_of(ModelSpec(7, "lstm", "concise", 4, dtype="float64"))
    batch = drawn_batch(ModelSpec(7), batch_size=2, num_steps=3)
    learner.train_step(batch, learner.initial_state(2))
    assert keras.backend.floatx() == "float32"
    assert keras.config.dtype_policy().name == "float32"
    assert d2l.RNNScratch(7, 4).W_xh.dtype == "float32"


# The recurrence.


def peephole(X: Any, state: Any, product: Any, *, p_f: Any, p_o: Any) -> Any:
    """A step that reads further vectors of its cell: the cell's state, looked at by two gates."""
    H, C = state
    F, G, O = tf.split(X + product(H), 3, axis=1)
    C = tf.sigmoid(F + p_f * C) * C + tf.tanh(G)
    return tf.sigmoid(O + p_o * C) * tf.tanh(C), C


STEPS: dict[str, tuple[Any, int, int, list[tuple[tuple[int, ...], ...]]]] = {
    # step, gates, parts of the state, shapes of the weights
    "rnn": (d2l.RNNScratch.step, 1, 1, [((4, 4),)]),
    "rnn-relu": (d2l.ReluRNNScratch.step, 1, 1, [((4, 4),)]),
    "gru-before": (d2l.GRUScratch.step, 3, 1, [((4, 8),), ((4, 4),)]),
    "gru-after": (d2l.GRUScratch.step, 3, 1, [((4, 12), (12,))]),
    "gru-keras": (d2l.GRU.step, 3, 1, [((4, 12), (12,))]),
    "lstm": (d2l.LSTMScratch.step, 4, 2, [((4, 16),)]),
    "mgu": (d2l.MGUScratch.step, 2, 1, [((4, 4),), ((4, 4),)]),
    "peephole": (peephole, 3, 2, [((4, 12),)]),
}


@pytest.mark.parametrize("num_steps", [1, 2, 6])
@pytest.mark.parametrize("compiled", ["eager", "graph", "unknown shapes", "xla"])
@pytest.mark.parametrize("name", STEPS)
def test_the_loop_is_the_plain_recurrence(name: str, compiled: str, num_steps: int) -> None:
    step, gates, parts, shapes = STEPS[name]
    projected = uniform(num_steps, 3, gates * 4, seed=1)
    state = tuple(uniform(3, 4, seed=2 + part) for part in range(parts))
    weights = [tuple(uniform(*shape, seed=7 + i) for shape in shapes[i]) for i in range(len(shapes))]
    vectors = {"p_f": uniform(4, seed=20), "p_o": uniform(4, seed=21)} if step is peephole else {}
    sources = tf.nest.flatten((projected, state, weights, vectors))

    def values_and_gradients(run: Any, projected: Any, *rest: Any) -> Any:
        structure = (tuple(range(parts)), shapes_of(shapes), vectors)
        state, weights, own = tf.nest.pack_sequence_as(structure, rest)
        with tf.GradientTape() as tape:
            tape.watch((projected, rest))
            outputs, final = run(step, projected, state, weights, own)
            # Every output and every part of the final state counts, each with a factor of its own.
            factors = tf.cast(tf.range(tf.size(outputs)), tf.float64)
            loss = tf.reduce_sum(tf.reshape(outputs, (-1,)) * tf.sin(factors))
            loss += tf.add_n([(i + 2.0) * tf.reduce_sum(part**2) for i, part in enumerate(final)])
        return outputs, final, tape.gradient(loss, (projected, *rest))

    fast = partial(values_and_gradients, looped_recurrence)
    if compiled == "unknown shapes":
        unknown = [tf.TensorSpec([None, None, gates * 4], tf.float64)]
        unknown += [tf.TensorSpec([None, 4], tf.float64)] * parts
        known = tf.nest.flatten((weights, vectors))
        unknown += [tf.TensorSpec(weight.shape, tf.float64) for weight in known]
        fast = tf.function(fast, input_signature=unknown)
    elif compiled != "eager":
        fast = tf.function(fast, jit_compile=compiled == "xla")
    result, expected = fast(*sources), values_and_gradients(plain_recurrence, *sources)
    for value, other in zip(tf.nest.flatten(result), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_steps", "num_hiddens", "loops"),
                         [(1, 512, False), (64, 128, False), (65, 16, True), (2, 512, True)])  # fmt: skip
def test_long_or_large_recurrences_are_loops(
    num_steps: int, num_hiddens: int, loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, looped = recurrence.looped_recurrence, []
    monkeypatch.setattr(
        recurrence, "looped_recurrence", lambda *arguments: looped.append(True) or loop(*arguments)
    )
    d2l.LSTMScratch(3, num_hiddens)(tf.ones((num_steps, 1, 3)))
    assert looped == [True] * loops


def shapes_of(shapes: list[tuple[tuple[int, ...], ...]]) -> list[tuple[str, ...]]:
    """A leaf for every weight."""
    return [tuple("leaf" for _ in weight) for weight in shapes]


# Keras' layers.


def through_keras(model: Any, inputs: Any, parts: list[Any]) -> tuple[Any, list[Any]]:
    """The same weights through Keras' own loop, (batch, time) as it wants it."""
    outputs = tf.transpose(inputs, (1, 0, 2))
    states = []
    for l, layer in enumerate(model.rnns):
        outputs, *state = layer(outputs, initial_state=[part[l] for part in parts])
        states.append(state)
    return tf.transpose(outputs, (1, 0, 2)), [tf.stack(part) for part in zip(*states, strict=True)]


@pytest.mark.parametrize("make", CONCISE)
def test_a_concise_model_is_its_keras_layers(make: Any) -> None:
    """Values and gradients. The GRU's second bias is not zero here; where redundant, it has no gradient."""
    model = make(5, num_layers=3, dtype="float64")
    model.build((None, None, 7))
    assert all(isinstance(layer, make._keras_layer) for layer in model.rnns)
    randomise(model.trainable_variables)
    inputs = uniform(6, 3, 7)
    parts = [uniform(3, 3, 5, seed=part) for part in range(2 if make is d2l.LSTM else 1)]
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        outputs, state = model(inputs, tuple(parts) if make is d2l.LSTM else parts[0])
        expected, expected_state = through_keras(model, inputs, parts)
        loss, expected_loss = (tf.reduce_sum(y * uniform(6, 3, 5, seed=9)) for y in (outputs, expected))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)
    for part, other in zip(tf.nest.flatten(state), expected_state, strict=True):
        np.testing.assert_allclose(part, other, rtol=0, atol=1e-12)
    gradients, expected_gradients = tape.gradient(loss, variables), tape.gradient(expected_loss, variables)
    for variable, gradient, other in zip(variables, gradients, expected_gradients, strict=True):
        if make is d2l.GRU and variable.shape[0] == 2:
            assert np.abs(other.numpy()[1, :10]).max() > 1e-3
            other = other.numpy()
            other[1, :10] = 0
        np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-12)


def test_the_redundant_bias_of_the_gru_stays_zero_and_out_of_the_norm() -> None:
    spec = ModelSpec(7, "gru", "concise", 4, num_layers=2)
    learner = learner_of(spec, TrainingSpec(clip=0.01))
    batch = drawn_batch(spec, batch_size=4, num_steps=6)
    _, gradients = learner.gradients(batch, learner.initial_state(4))
    norm = np.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values()))
    result, _ = learner.train_step(batch, learner.initial_state(4))
    assert float(result.grad_norm) == pytest.approx(norm, rel=1e-5)
    for layer in learner.model.rnn.rnns:
        second = layer.cell.bias.numpy()[1]
        assert not second[:8].any()
        assert second[8:].all()


@pytest.mark.parametrize("make", CONCISE)
def test_dropout_is_between_layers_and_only_in_training(make: Any) -> None:
    model = make(50, num_layers=2, dropout=0.3)
    inputs = tf.cast(uniform(20, 40, 7), tf.float32)
    quiet, _ = model(inputs, training=False)
    np.testing.assert_array_equal(quiet, model(inputs)[0])
    assert np.abs(model(inputs, training=True)[0] - quiet).max() > 1e-3
    assert not np.array_equal(model(inputs, training=True)[0], model(inputs, training=True)[0])
    one_layer = make(50, num_layers=1, dropout=0.9)
    np.testing.assert_array_equal(one_layer(inputs, training=True)[0], one_layer(inputs)[0])


def test_the_dropout_rate_and_its_place() -> None:
    """A second layer that passes on what it gets shows which of its inputs were dropped, and how many."""
    rate = 0.3
    model = d2l.RNN(50, num_layers=2, dropout=rate)
    inputs = tf.cast(uniform(20, 40, 7), tf.float32)
    model.build(inputs.shape)
    cell = model.rnns[1].cell
    cell.kernel.assign(np.eye(50))
    cell.recurrent_kernel.assign(np.zeros((50, 50)))
    lower = np.arctanh(model(inputs)[0].numpy().astype(np.float64))
    seen = np.arctanh(model(inputs, training=True)[0].numpy().astype(np.float64))
    dropped = seen == 0
    assert dropped.mean() == pytest.approx(rate, abs=0.01)
    np.testing.assert_allclose(seen[~dropped], lower[~dropped] / (1 - rate), rtol=1e-2, atol=1e-4)


def test_a_language_model_drops_in_training_alone() -> None:
    model = d2l.RNNLM(d2l.GRU(8, num_layers=2, dropout=0.5), 7)
    tokens = drawn_batch(ModelSpec(7), batch_size=3, num_steps=5).inputs
    quiet = model(tokens)
    np.testing.assert_array_equal(model(tokens, training=False), quiet)
    assert np.abs(model(tokens, training=True) - quiet).max() > 1e-3
    assert np.abs(model.unroll(tokens, training=True)[0] - quiet).max() > 1e-3
    # Masks take the place of the framework's dropout.
    ones = DropoutMasks(between=tf.ones((1, 5, 3, 8)))
    np.testing.assert_array_equal(model.unroll(tokens, masks=ones, training=True)[0], quiet)


@pytest.mark.parametrize("place", ["input_dropout", "output_dropout"])
@pytest.mark.parametrize("head", [d2l.RNNLMScratch, d2l.RNNLM])
def test_inputs_and_outputs_are_dropped_in_training_alone(head: Any, place: str) -> None:
    model = head(d2l.StackedRNNScratch(8, 8, 2, sigma=0.5), 7, embedding_size=8, tied=True, **{place: 0.5})
    randomise(model.trainable_variables)
    tokens = drawn_batch(ModelSpec(7), batch_size=3, num_steps=5).inputs
    quiet = model(tokens)
    np.testing.assert_array_equal(model(tokens, training=False), quiet)
    assert np.abs(model(tokens, training=True) - quiet).max() > 1e-3
    ones = tf.ones((5, 3, 8))
    masks = DropoutMasks(inputs=ones, outputs=ones)
    np.testing.assert_array_equal(model.unroll(tokens, masks=masks, training=True)[0], quiet)


def test_scratch_layers_drop_between_each_other() -> None:
    model = d2l.StackedRNNScratch(7, 50, 2, sigma=0.5, dropout=0.5)
    inputs = tf.cast(uniform(5, 3, 7), tf.float32)
    quiet, _ = model(inputs)
    np.testing.assert_array_equal(model(inputs, training=False)[0], quiet)
    assert np.abs(model(inputs, training=True)[0] - quiet).max() > 1e-3
    np.testing.assert_array_equal(model(inputs, masks=tf.ones((1, 5, 3, 50)), training=True)[0], quiet)
    assert not model(inputs, masks=tf.zeros((1, 5, 3, 50)))[0].numpy().any(), "biases are zero"


@pytest.mark.parametrize("head", [d2l.RNNLMScratch, d2l.RNNLM])
@pytest.mark.parametrize("tied", [False, True])
def test_keras_own_optimiser_trains_an_embedding(head: Any, tied: bool) -> None:
    model = head(d2l.GRUScratch(8, 8, sigma=0.5), 7, embedding_size=8, tied=tied)
    assert len(model.trainable_variables) == (5 if tied else 6)
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in trainable_variables(model)}
    matrix = model.embedding_matrix().numpy()
    assert np.abs(matrix).max() <= (8**-0.5 if tied else 3**0.5)
    batch = drawn_batch(ModelSpec(7), batch_size=4, num_steps=6)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=loss)
    model.fit(batch.inputs, batch.targets, verbose=0)
    assert np.abs(model.embedding_matrix() - matrix).max() > 1e-3


# The learner.

TRACED = [
    ModelSpec(11, "rnn", "scratch", 8, num_layers=2),
    ModelSpec(11, "lstm", "scratch", 8),
    ModelSpec(11, "gru", "concise", 8, num_layers=2, dropout=0.5),
    ModelSpec(11, "lstm", "concise", 8, num_layers=2),
    ModelSpec(11, "mgu", "scratch", 8, embedding_size=8, tied=True, input_dropout=0.5),
]


@pytest.mark.parametrize("spec", TRACED, ids=name_of)
def test_every_shape_is_traced_once(spec: ModelSpec) -> None:
    # The rate is a number of the step, as is its place in the run that Adam counts by.
    learner = learner_of(spec, TrainingSpec(optimizer=Adam()))
    functions = learner._train, learner._evaluate, learner._predict.compiled
    for shapes, (batch_size, num_steps) in enumerate([(4, 6), (3, 6)], start=1):
        state = learner.initial_state(batch_size)
        evaluated = predicted = learner.import_state(learner.export_state(state))
        for seed in range(3):
            learner.learning_rate *= 0.5
            batch = drawn_batch(spec, batch_size, num_steps, seed)
            _, state = learner.train_step(batch, state)
            _, evaluated = learner.eval_step(batch, evaluated)
            _, predicted = learner.predict_step(batch.inputs[:, 0], predicted)
        assert [function.experimental_get_tracing_count() for function in functions] == [shapes] * 3


@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_of_a_batch_are_traced_once(parts: int) -> None:
    learner = learner_of(ModelSpec(11, "gru", "scratch", 8), TrainingSpec(accumulate=parts))
    state = learner.initial_state(4)
    for seed in range(3):
        _, state = learner.train_step(drawn_batch(ModelSpec(11), 4, 6, seed), state)
    assert learner._differentiate.experimental_get_tracing_count() == 1
    assert learner._update.experimental_get_tracing_count() == 1


def test_prediction_follows_the_parameters() -> None:
    """What is compiled reads the variables: it holds no copy of their values."""
    spec = ModelSpec(7, "gru", "concise", 4, num_layers=2)
    learner, other = learner_of(spec), learner_of(spec)
    tokens, state = np.array([1, 5], np.int32), learner.initial_state(2)
    first, _ = learner.predict_step(tokens, state)
    parameters = {name: value * 0.5 for name, value in learner.export_parameters().items()}
    learner.import_parameters(parameters)
    other.import_parameters(parameters)
    second, _ = learner.predict_step(tokens, state)
    assert np.abs(second - first).max() > 1e-3
    np.testing.assert_array_equal(second, other.predict_step(tokens, state)[0])


def test_the_learner_trains_the_model_itself() -> None:
    spec = ModelSpec(7, "lstm", "concise", 4)
    learner = learner_of(spec)
    batch = drawn_batch(spec, batch_size=2, num_steps=3)
    before = learner.model(batch.inputs).numpy()
    result, _ = learner.train_step(batch, learner.initial_state(2))
    assert isinstance(result.loss, tf.Tensor)
    assert isinstance(result.grad_norm, tf.Tensor)
    assert np.abs(learner.model(batch.inputs) - before).max() > 1e-4


# Devices and the environment.


def test_try_gpu_is_a_context_and_falls_back_to_the_cpu() -> None:
    assert d2l.num_gpus() == len(tf.config.list_physical_devices("GPU"))
    with d2l.try_gpu(99):
        assert tf.ones(1).device.endswith("device:CPU:0")


def test_gpus_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(2)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus if kind == "GPU" else [])
    details = {"device_name": "a card"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    found = TensorFlowBackend().devices()
    assert [device.name for device in found] == ["gpu:0", "gpu:1", "cpu"]
    assert found[1].description == "a card"
    assert [devices.native_name(device) for device in found] == ["/GPU:0", "/GPU:1", "/CPU:0"]
    assert d2l.num_gpus() == 2


MOVED = """
import numpy as np
import tensorflow as tf
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.contract.values import Batch  # noqa: E402
from d2lrnn.training.initialization import initial_parameters  # noqa: E402
from d2lrnn_tensorflow.adapter import TensorFlowBackend, TensorFlowLearner  # noqa: E402

spec = ModelSpec(7, "gru", "concise", 4, num_layers=2, dropout=0.2)
tokens = np.arange(12, dtype=np.int32).reshape(3, 4) % 7
seen = []
for device in ("/CPU:0", "/CPU:1"):
    model = TensorFlowBackend().build(spec, initial_parameters(spec))
    learner = TensorFlowLearner(model, TrainingSpec(), device)
    result, state = learner.train_step(Batch(tokens, tokens), learner.initial_state(3))
    logits, state = learner.predict_step(tokens[:, 0], state)
    learner.synchronize()
    assert all(v.value.device.endswith(device[1:]) for v in model.variables), device
    assert result.loss.device.endswith(device[1:]), result.loss.device
    assert all(part.device.endswith(device[1:]) for part in tf.nest.flatten(state))
    exported = np.concatenate([v.ravel() for v in learner.export_parameters().values()])
    seen.append((float(result.loss), logits, model(tokens).numpy(), exported))
for one, other in zip(*seen):
    np.testing.assert_array_equal(one, other)
"""


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_model_moves_to_the_learners_device() -> None:
    """A second virtual processor stands in for a GPU."""
    done = run_python(MOVED)
    assert done.returncode == 0, done.stderr[-2000:]


def test_keras_on_another_framework_is_refused(tmp_path: Path) -> None:
    code = "import d2lrnn\ntry: d2lrnn.backend('tensorflow')\nexcept d2lrnn.D2LError as error: print(error)"
    # A framework that is not installed here: Keras itself fails at import.
    done = run_python(code, KERAS_BACKEND="jax", KERAS_HOME=str(tmp_path))
    assert "unset KERAS_BACKEND" in done.stdout, done.stderr[-2000:]


def test_keras_on_another_installed_framework_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    from d2lrnn_tensorflow import framework

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(BackendNotInstalledError, match=r"Keras runs on jax .* unset KERAS_BACKEND"):
        importlib.reload(framework)


@pytest.mark.parametrize("num_rows", [5, 100], ids=["few-rows", "many-rows"])
def test_rows_of_tokens_are_products_with_one_hot_vectors(num_rows: int) -> None:
    W, b = tf.random.normal((num_rows, 6), seed=1, dtype=tf.float64), tf.ones(6, tf.float64)
    tokens = tf.random.uniform((4, 3), 0, num_rows, tf.int32, seed=2)
    weights = tf.random.normal((4, 3, 6), seed=3, dtype=tf.float64)
    results = []
    for inputs in (tokens, tf.one_hot(tokens, num_rows, dtype=tf.float64)):
        with tf.GradientTape() as tape:
            tape.watch((W, b))
            projected = project(inputs, W, b)
            total = tf.reduce_sum(projected * weights)
        results.append([projected, *map(tf.convert_to_tensor, tape.gradient(total, (W, b)))])
    for by_row, by_product in zip(*results, strict=True):
        np.testing.assert_allclose(by_row, by_product, rtol=1e-12, atol=1e-12)


def test_a_model_that_nobody_built_from_a_specification_says_how_it_is_kept() -> None:
    model = d2l.RNNLM(d2l.GRU(4, num_layers=1), vocab_size=5)
    model(np.zeros((2, 3), np.int32))
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(KindError, match=r"this RNNLM was not built by .* get_weights\(\)"):
            copied(model)
