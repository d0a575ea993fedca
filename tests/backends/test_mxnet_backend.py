"""What only the MXNet backend has: Gluon's registration, optimiser and dropout, two biases, its graphs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy
import pytest
from parity.models import KINDS, REPRESENTATIVE, drawn_batch, drawn_parameters, name_of

import d2lrnn
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import KindError, SpecError
from d2lrnn.training.initialization import initial_parameters

mx = pytest.importorskip("mxnet")

import d2lrnn_mxnet  # noqa: E402
from d2lrnn_mxnet import devices, language_model, layers, prediction, program, recurrence, to_native  # noqa: E402
from d2lrnn_mxnet.adapter import MXNetBackend, MXNetLearner  # noqa: E402
from d2lrnn_mxnet.loss import CrossEntropy, CrossEntropyGradient  # noqa: E402
from mxnet import autograd, gluon, np, npx  # noqa: E402

from d2lrnn import mxnet as d2l  # noqa: E402

BACKEND = MXNetBackend()


@pytest.fixture(autouse=True)
def numpy_semantics() -> Iterator[None]:
    """As in the book's cells. The library itself does without: test_mxnet_process.py."""
    with mx.util.np_shape(True), mx.util.np_array(True):
        yield


SCRATCH = {
    "rnn": partial(d2l.RNNScratch, 5, 4),
    "gru": partial(d2l.GRUScratch, 5, 4),
    "gru-after": partial(d2l.GRUScratch, 5, 4, reset_after=True),
    "lstm": partial(d2l.LSTMScratch, 5, 4),
    "mgu": partial(d2l.MGUScratch, 5, 4),
    "rnn-relu": partial(d2l.ReluRNNScratch, 5, 4),
    "stacked": partial(d2l.StackedRNNScratch, 5, 4, 3),
    "stacked-lstm": partial(d2l.StackedRNNScratch, 5, 4, 2, layer=d2l.LSTMScratch),
}
CONCISE = {
    "rnn": partial(d2l.RNN, 4, num_layers=2),
    "rnn-relu": partial(d2l.ReluRNN, 4, num_layers=2),
    "gru": partial(d2l.GRU, 4, num_layers=2),
    "lstm": partial(d2l.LSTM, 4, num_layers=2),
}
ALL = [pytest.param(make, id=f"scratch-{name}") for name, make in SCRATCH.items()] + [
    pytest.param(make, id=f"concise-{name}") for name, make in CONCISE.items()
]


def _learner(spec: ModelSpec) -> MXNetLearner:
    return BACKEND.learner(BACKEND.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")


def _flat(state: Any) -> list[Any]:
    return [part for inner in state for part in _flat(inner)] if isinstance(state, list | tuple) else [state]


# Direct use


@pytest.mark.parametrize("make", ALL)
def test_direct_use(make: Any) -> None:
    model = make()
    inputs = np.random.uniform(-1, 1, (6, 3, 5))
    outputs, state = model(inputs)
    assert outputs.shape == (6, 3, 4)
    # In two halves, with the state fed back, for a batch of more than one.
    _, half = model(inputs[:2])
    kept = [part.asnumpy() for part in _flat(half)]
    holder = list(half) if isinstance(half, list) else half
    rest, final = model(inputs[2:], holder)
    numpy.testing.assert_allclose(rest.asnumpy(), outputs[2:].asnumpy(), atol=1e-6)
    for one, two in zip(_flat(final), _flat(state), strict=True):
        numpy.testing.assert_allclose(one.asnumpy(), two.asnumpy(), atol=1e-6)
    for part, before in zip(_flat(half), kept, strict=True):
        numpy.testing.assert_array_equal(part.asnumpy(), before)
    if isinstance(half, list):
        assert all(one is two for one, two in zip(holder, half, strict=True)), "the caller's list was changed"


def test_shapes_of_states() -> None:
    inputs = np.zeros((6, 3, 5))
    assert d2l.RNNScratch(5, 4)(inputs)[1].shape == (3, 4)
    assert d2l.GRUScratch(5, 4)(inputs)[1].shape == (3, 4)
    assert [part.shape for part in d2l.LSTMScratch(5, 4)(inputs)[1]] == [(3, 4), (3, 4)]
    assert [part.shape for part in d2l.StackedRNNScratch(5, 4, 2)(inputs)[1]] == [(3, 4), (3, 4)]
    assert d2l.GRU(4, 2)(inputs)[1].shape == (2, 3, 4)
    assert [part.shape for part in d2l.LSTM(4, 2)(inputs)[1]] == [(2, 3, 4), (2, 3, 4)]


@pytest.mark.parametrize("make", ALL)
def test_language_models(make: Any) -> None:
    head = d2l.RNNLMScratch if make.func in (p.func for p in SCRATCH.values()) else d2l.RNNLM
    model = head(make(), vocab_size=5, lr=2)
    tokens = np.array([[0, 1, 2, 3], [4, 3, 2, 1]], dtype="int32")
    logits = model(tokens)
    assert logits.shape == (2, 4, 5)
    assert model.lr == 2
    first, state = model.unroll(tokens[:, :3])
    last, _ = model.unroll(tokens[:, 3:], state)
    stepwise = np.concatenate([first, last], axis=1)
    numpy.testing.assert_allclose(stepwise.asnumpy(), logits.asnumpy(), atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_hybridised_is_the_same(make: Any) -> None:
    model = make()
    inputs = np.random.uniform(-1, 1, (6, 3, 5))
    expected, state = model(inputs)
    model.hybridize()
    outputs, _ = model(inputs)
    numpy.testing.assert_allclose(outputs.asnumpy(), expected.asnumpy(), atol=1e-6)
    longer, _ = model(np.concatenate([inputs, inputs]), state)
    assert longer.shape == (12, 3, 4)


@pytest.mark.parametrize("name", ["rnn", "gru-after", "lstm"])
def test_a_scratch_layer_refuses_a_hybridised_parent(name: str) -> None:
    """Its loop needs a number of steps, which no symbol has; nothing else may take its place there."""

    class Parent(gluon.nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.layer = SCRATCH[name]()

        def hybrid_forward(self, F: Any, inputs: Any) -> Any:
            return self.layer(inputs, state)[0]

    inputs, zeros = np.ones((6, 3, 5)), np.zeros((3, 4))
    parent, state = Parent(), (zeros, zeros) if name == "lstm" else zeros
    assert parent(inputs).shape == (6, 3, 4)
    parent.hybridize()
    state = tuple(mx.sym.var(each).as_np_ndarray() for each in "hc") if name == "lstm" else mx.sym.var("h")
    with pytest.raises(SpecError, match="cannot be part of a hybridised block"):
        parent(inputs)


def test_initial_values() -> None:
    model = d2l.LSTMScratch(50, 60, sigma=0.5)
    assert float(np.std(model.W_xh.data())) == pytest.approx(0.5, rel=0.05)
    assert float(np.std(model.W_hh.data())) == pytest.approx(0.5, rel=0.05)
    assert not model.b_h.data().asnumpy().any()


# Registration: a list of layers has every parameter trained by Gluon's own optimiser


@pytest.mark.parametrize("make", ALL)
def test_gluons_trainer_trains_every_parameter(make: Any) -> None:
    mx.random.seed(0)
    model = make()
    inputs = np.random.uniform(-1, 1, (6, 3, 5))
    weights = np.random.uniform(-1, 1, (6, 3, 4))
    model(inputs)
    parameters = model.collect_params()
    before = {name: p.data().asnumpy() for name, p in parameters.items()}
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 1.0})
    # Twice: behind weights of 0.01, gradients three layers down are small, but none is zero.
    for _ in range(2):
        with autograd.record():
            outputs, _ = model(inputs)
            loss = (outputs * weights).sum()
        loss.backward()
        trainer.step(1)
    for name, parameter in parameters.items():
        changed = parameter.data().asnumpy() != before[name]
        if name.endswith("h2h_bias"):
            trained = [8, 9, 10, 11] if isinstance(model, d2l.GRU) else []
            assert numpy.flatnonzero(changed).tolist() == trained, "only a GRU's b_hn"
        else:
            # A unit of relu that is never above zero learns nothing.
            least = 0.0 if isinstance(model, (d2l.ReluRNN, d2l.ReluRNNScratch)) else 0.9
            assert changed.mean() > least, f"{name} is not trained"


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_second_bias_counts_for_nothing(cell: Any) -> None:
    spec = ModelSpec(11, cell, "concise", 8, num_layers=2)
    model = BACKEND.build(spec, drawn_parameters(spec))
    learner = BACKEND.learner(model, TrainingSpec(clip=0.01), device="cpu")
    state = learner.initial_state(3)
    for seed in range(3):
        _, state = learner.train_step(drawn_batch(spec, 3, 5, seed), state)
    for l in range(2):
        bias = getattr(model.rnn.rnn, f"l{l}_h2h_bias").data().asnumpy()
        assert not (bias[:16] if cell == "gru" else bias).any()
        assert getattr(model.rnn.rnn, f"l{l}_i2h_bias").data().asnumpy().all()
        if cell == "gru":
            assert bias[16:].all()


# Recurrences

#: Scratch layers, and Gluon's recurrent layer for each that it computes.
FUSED = {
    "rnn": (d2l.RNNScratch, partial(gluon.rnn.RNN, activation="tanh")),
    "rnn-relu": (d2l.ReluRNNScratch, partial(gluon.rnn.RNN, activation="relu")),
    "gru": (partial(d2l.GRUScratch, reset_after=True), gluon.rnn.GRU),
    "lstm": (d2l.LSTMScratch, gluon.rnn.LSTM),
}


@pytest.mark.parametrize("batch_size", [3, 65], ids=["small", "large"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", FUSED)
def test_the_formula_is_what_gluons_operator_computes(
    cell: str, dtype: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of everything that goes in; products are made in two ways."""
    # Of a large batch of few units the sums over the rows would lose digits.
    monkeypatch.setattr(recurrence, "SMALL", 64 * 4)
    random = numpy.random.default_rng(0)
    scratch, native = (make for make in FUSED[cell])
    scratch, native = scratch(5, 4), native(4, input_size=5)
    for layer in (scratch, native):
        layer.initialize()
        layer.cast(dtype)
    spec = ModelSpec(5, cell, "concise", 4, dtype=dtype)
    values = {k: v for k, v in drawn_parameters(spec).items() if k.startswith("rnn.0")}
    for name, attribute in {"w_x": "W_xh", "w_h": "W_hh", "b": "b_h", "b_hn": "b_hn"}.items():
        if f"rnn.0.{name}" in values:
            getattr(scratch, attribute).set_data(np.array(values[f"rnn.0.{name}"], dtype=dtype))
    for name, value in to_native(spec, drawn_parameters(spec)).rnn.items():
        getattr(native, name).set_data(value)

    def drawn(*shape: int) -> Any:
        return np.array(random.uniform(-1, 1, shape), dtype=dtype)

    inputs, weights = drawn(7, batch_size, 5), drawn(7, batch_size, 4)
    parts = [drawn(batch_size, 4) for _ in scratch.cell.states]
    # Gradients are sums over the batch: those of 3 rows and of many are of one size. Relu dampens none.
    scale = (1 if cell == "rnn-relu" else 3) / batch_size

    def run(layer: Any, convert: Any) -> list[Any]:
        for array in (inputs, *parts):
            array.attach_grad()
        with autograd.record():
            outputs, state = layer(inputs, convert(parts))
            state = [part.reshape(batch_size, 4) for part in _flat(state)]
            loss = (outputs * weights).sum() + sum(((i + 2) * part).sum() for i, part in enumerate(state))
            loss = loss * scale
        loss.backward()
        return [outputs, *state, inputs.grad.copy(), *(part.grad.copy() for part in parts)]

    ours = run(scratch, lambda parts: parts[0] if len(parts) == 1 else tuple(parts))
    theirs = run(native, lambda parts: [np.expand_dims(part, 0) for part in parts])
    # Gluon's relu rounds to float32, whatever the type.
    tolerance = 1e-5 if dtype == "float32" else (1e-6 if cell == "rnn-relu" else 1e-13)
    for one, two in zip(ours, theirs, strict=True):
        assert one.dtype == numpy.dtype(dtype)
        numpy.testing.assert_allclose(one.asnumpy(), two.asnumpy(), rtol=0, atol=tolerance)
    for mine, other in (
        (scratch.W_xh.grad(), native.l0_i2h_weight.grad().T),
        (scratch.W_hh.grad(), native.l0_h2h_weight.grad().T),
        (scratch.b_h.grad(), native.l0_i2h_bias.grad()),
    ):
        numpy.testing.assert_allclose(mine.asnumpy(), other.asnumpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_gluons_own_stack_computes_the_same(cell: str) -> None:
    """Forwards only: Gluon's gradients of a stack are wrong on the CPU, hence our single layers."""
    model = {"rnn": d2l.RNN, "gru": d2l.GRU, "lstm": d2l.LSTM}[cell](4, num_layers=2)
    native = {"rnn": partial(gluon.rnn.RNN, activation="tanh"), "gru": gluon.rnn.GRU, "lstm": gluon.rnn.LSTM}[
        cell
    ](4, num_layers=2)
    native.initialize()
    inputs = np.random.uniform(-1, 1, (6, 3, 5))
    native(inputs)
    model(inputs)
    for l in range(2):
        for kind in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"):
            getattr(native, f"l{l}_{kind}").set_data(getattr(model.rnn, f"l{l}_{kind}").data())
    outputs, state = model(inputs)
    expected, expected_state = native(inputs, native.begin_state(3))
    numpy.testing.assert_allclose(outputs.asnumpy(), expected.asnumpy(), atol=1e-6)
    for part, expected_part in zip(_flat(state), expected_state, strict=True):
        numpy.testing.assert_allclose(part.asnumpy(), expected_part.asnumpy(), atol=1e-6)


# Layers of Gluon's that somebody else has made

FOREIGN = {
    "rnn": partial(gluon.rnn.RNN, 4, 3, activation="tanh"),  # relu is computed in float32, whatever the type
    "gru": partial(gluon.rnn.GRU, 4, 2),
    "lstm": partial(gluon.rnn.LSTM, 4, 2),
    "gru-both-ways": partial(gluon.rnn.GRU, 4, 1, bidirectional=True),
    "lstm-both-ways": partial(gluon.rnn.LSTM, 4, 2, bidirectional=True),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_layers_of_gluons_compute_the_same_with_right_gradients(name: str) -> None:
    """The gradients against finite differences: those of Gluon's own stacks are wrong."""
    random = numpy.random.default_rng(0)
    layer = FOREIGN[name](input_size=5, h2h_bias_initializer="uniform", i2h_bias_initializer="uniform")
    layer.initialize(mx.init.Uniform(0.5))
    layer.cast("float64")
    inputs = np.array(random.uniform(-1, 1, (6, 3, 5)), dtype="float64")
    state = [np.array(random.uniform(-1, 1, part.shape), dtype="float64") for part in layer.begin_state(3)]
    outputs, final = layers.run_layers(layer, inputs, state)
    expected, expected_final = layer(inputs, state)
    for one, two in zip([outputs, *final], [expected, *expected_final], strict=True):
        numpy.testing.assert_allclose(one.asnumpy(), two.asnumpy(), atol=1e-12)
    weights = np.array(random.uniform(-1, 1, outputs.shape), dtype="float64")

    def loss() -> Any:
        outputs, final = layers.run_layers(layer, inputs, state)
        return (outputs * weights).sum() + sum((i + 2) * part.sum() for i, part in enumerate(final))

    with autograd.record():
        value = loss()
    value.backward()
    for parameter in layer.collect_params().values():
        array, gradient = parameter.data(), parameter.grad().asnumpy()
        place = tuple(int(random.integers(size)) for size in array.shape)
        kept, step = float(array[place]), 1e-6
        sides = []
        for moved in (kept + step, kept - step):
            array[place] = moved
            sides.append(float(loss()))
        array[place] = kept
        assert gradient[place] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6, abs=1e-8)
        assert gradient[place] != 0


def test_a_chapters_layer_in_the_librarys_class() -> None:
    class Both(d2l.RNN):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            d2l.Module.__init__(self)
            self.rnn = gluon.rnn.LSTM(4, 2, bidirectional=True)
            self.initialize()

    model, inputs = Both(), np.random.uniform(-1, 1, (6, 3, 5))
    outputs, state = model(inputs)
    assert outputs.shape == (6, 3, 8)
    assert [part.shape for part in state] == [(4, 3, 4), (4, 3, 4)]
    again, _ = model.rnn(inputs, model.rnn.begin_state(3))
    numpy.testing.assert_allclose(outputs.asnumpy(), again.asnumpy(), atol=1e-6)


def test_what_only_gluon_can_run_is_left_to_gluon() -> None:
    layer = gluon.rnn.GRU(4, layout="NTC")
    layer.initialize()
    inputs = np.random.uniform(-1, 1, (3, 6, 5))
    outputs, _ = layers.run_layers(layer, inputs, layer.begin_state(3))
    assert outputs.shape == (3, 6, 4)


# MXNet's own dropout, when a model is used directly


@pytest.mark.parametrize("make", [d2l.RNN, d2l.GRU, d2l.LSTM])
def test_mxnets_dropout_is_between_the_layers(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(32, num_layers=3, dropout=0.25)
    seen = []
    plain = mx.nd.npx.dropout

    def dropout(before: Any, p: float) -> Any:
        seen.append((before, plain(before, p=p)))
        return seen[-1][1]

    monkeypatch.setattr(mx.nd.npx, "dropout", dropout)
    inputs = np.random.uniform(-1, 1, (20, 16, 5))
    with autograd.record():
        outputs, _ = model(inputs)
    assert len(seen) == 2
    for before, after in seen:
        ratio = (after / before).asnumpy()
        dropped = ratio == 0
        assert dropped.mean() == pytest.approx(0.25, abs=0.02)
        numpy.testing.assert_allclose(ratio[~dropped], 1 / 0.75, rtol=1e-5)
    assert (outputs.asnumpy() != 0).all(), "never after the last layer"
    with autograd.record():
        again, _ = model(inputs)
    assert (again.asnumpy() != outputs.asnumpy()).mean() > 0.9

    seen.clear()
    one, two = model(inputs)[0], model(inputs)[0]
    numpy.testing.assert_array_equal(one.asnumpy(), two.asnumpy())
    for before, after in seen:
        numpy.testing.assert_array_equal(after.asnumpy(), before.asnumpy())


# Loss


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spread", [1.0, 30.0, 400.0])
def test_cross_entropy_and_its_gradient(spread: float, dtype: str) -> None:
    """Exact also where a probability vanishes in float32: a spread of 400 is a loss of hundreds of nats."""
    random = numpy.random.default_rng(0)
    logits = (random.normal(0, 1, (5, 4, 11)) * spread).astype(dtype)
    targets = random.integers(0, 11, (4, 5)).astype(numpy.int32)
    targets[2, 1:] = PADDING
    exact = logits.astype(numpy.float64)
    exact -= exact.max(axis=2, keepdims=True)
    log_likelihoods = exact - numpy.log(numpy.exp(exact).sum(axis=2, keepdims=True))
    one_hot = (targets.T[:, :, None] == numpy.arange(11)).astype(float)
    valid = targets.T >= 0
    expected = -(log_likelihoods * one_hot).sum() / valid.sum()
    expected_gradient = (numpy.exp(log_likelihoods) - one_hot) * valid[:, :, None] / valid.sum()

    native = np.array(logits, dtype=dtype), np.array(targets, dtype="int32")
    tolerance = 1e-12 if dtype == "float64" else 2e-7
    assert float(CrossEntropy(dtype)(*native)) == pytest.approx(expected, rel=2 * tolerance)
    gradient = CrossEntropyGradient(11, dtype)(*native).asnumpy()
    numpy.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=tolerance)


def test_a_batch_of_padding_alone_has_no_loss() -> None:
    logits, targets = np.zeros((3, 2, 5)), np.full((2, 3), PADDING, dtype="int32")
    assert float(CrossEntropy("float32")(logits, targets)) == 0
    assert not CrossEntropyGradient(5, "float32")(logits, targets).asnumpy().any()


# Learner


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_graphs_are_traced_once(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    kept = program.tracing
    monkeypatch.setattr(program, "tracing", lambda steps, size: traced.append(steps) or kept(steps, size))
    graph = prediction.step_graph
    monkeypatch.setattr(prediction, "step_graph", lambda *arguments: traced.append(1) or graph(*arguments))
    learner = _learner(spec)
    batch = drawn_batch(spec, 2, 4)
    state = learner.initial_state(2)
    for _ in range(3):
        _, state = learner.train_step(batch, state)
        learner.eval_step(batch, state)
        _, after = learner.predict_step(batch.inputs[:, 0], state)
        learner.predict_step(batch.inputs[:, 1], after)
    assert sorted(traced) == [1, 4, 4]


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_results_stay_valid_after_later_steps(spec: ModelSpec) -> None:
    """Memory is planned once and reused: what a step handed out must not lie in it."""
    learners = [_learner(spec) for _ in range(2)]
    batches = [drawn_batch(spec, 2, 4, seed) for seed in range(6)]
    states = [learner.initial_state(2) for learner in learners]
    late, early = [], []
    for batch in batches:
        result, states[0] = learners[0].train_step(batch, states[0])
        loss, _ = learners[0].eval_step(batch, states[0])
        late.append((result.loss, result.grad_norm, loss, *_flat(states[0])))
        result, states[1] = learners[1].train_step(batch, states[1])
        loss, _ = learners[1].eval_step(batch, states[1])
        early.append([part.asnumpy() for part in (result.loss, result.grad_norm, loss, *_flat(states[1]))])
    for one, two in zip(late, early, strict=True):
        for part, expected in zip(one, two, strict=True):
            numpy.testing.assert_array_equal(part.asnumpy(), expected)


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_evaluation_and_prediction_see_the_latest_parameters(spec: ModelSpec) -> None:
    """oneDNN keeps packed copies of weights for inference: none may be older than the last update."""
    learner = _learner(spec)
    reference = d2lrnn.backend("numpy")
    batch, state = drawn_batch(spec, 2, 4), learner.initial_state(2)
    for change in ("nothing", "step", "import", "step", "gluon", "new arrays", "step"):
        if change == "step":
            learner.train_step(batch, state)
        elif change == "import":
            half = numpy.float32(0.5)
            learner.import_parameters({k: v * half for k, v in learner.export_parameters().items()})
        elif change == "gluon":
            for parameter in learner.model.collect_params().values():
                parameter.set_data(parameter.data() * 1.5)
        elif change == "new arrays":
            learner.model.collect_params().reset_ctx(learner.context)
            for parameter in learner.model.collect_params().values():
                parameter.set_data(parameter.data() * 0.5)
        judge = reference.learner(reference.build(spec, learner.export_parameters()), TrainingSpec())
        expected, _ = judge.eval_step(batch, judge.initial_state(2))
        assert float(learner.eval_step(batch, state)[0]) == pytest.approx(expected, rel=1e-6)
        for size in (1, 2):
            tokens = batch.inputs[:size, 0]
            expected_logits, _ = judge.predict_step(tokens, judge.initial_state(size))
            logits, _ = learner.predict_step(tokens, learner.initial_state(size))
            numpy.testing.assert_allclose(logits, expected_logits, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_predictions_are_what_the_model_computes(spec: ModelSpec, batch_size: int) -> None:
    """The graph of one step against the model, whose layers have the formulas and Gluon's operators."""
    spec = replace(spec, dtype="float64")
    learner = _learner(spec)
    for name, parameter in learner.model.collect_params(".*h2h_bias").items():
        if spec.cell == "gru":  # what stands in the biases of the r and z gates counts for nothing
            parameter.data()[: 2 * spec.num_hiddens] = len(name)
    tokens = drawn_batch(spec, batch_size, 6).inputs
    expected, final = learner.model.unroll(np.array(tokens, dtype="int32"), learner.initial_state(batch_size))
    state, states = learner.initial_state(batch_size), []
    for step in range(6):
        logits, state = learner.predict_step(tokens[:, step], state)
        states.append((state, [part.asnumpy() for part in _flat(state)]))
        numpy.testing.assert_allclose(logits, expected[:, step].asnumpy(), rtol=0, atol=1e-14)
    for one, two in zip(learner.export_state(state), learner.export_state(final), strict=True):
        numpy.testing.assert_allclose(one, two, rtol=0, atol=1e-14)
    for kept, values in states:  # MXNet plans memory once and reuses it: a state must not lie in it
        for part, value in zip(_flat(kept), values, strict=True):
            numpy.testing.assert_array_equal(part.asnumpy(), value)


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_a_predicted_state_is_a_state(spec: ModelSpec) -> None:
    learner = _learner(spec)
    batch = drawn_batch(spec, 2, 4)
    _, predicted = learner.predict_step(batch.inputs[:, 0], learner.initial_state(2))
    same = learner.import_state(learner.export_state(predicted))
    assert float(learner.eval_step(batch, predicted)[0]) == float(learner.eval_step(batch, same)[0])
    assert learner.gradients(batch, predicted)[0] == learner.gradients(batch, same)[0]
    logits, _ = learner.predict_step(batch.inputs[:, 1], predicted)
    numpy.testing.assert_array_equal(logits, learner.predict_step(batch.inputs[:, 1], same)[0])
    result, trained = learner.train_step(batch, predicted)
    assert numpy.isfinite(float(result.loss))
    assert [part.shape for part in _flat(trained)] == [part.shape for part in _flat(same)]


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_equal_calls_of_equal_learners_are_bit_identical(spec: ModelSpec) -> None:
    """Outside training mode they were not: with two layers, one learner in three differed in the last bit."""
    seen = set()
    batch, keep = drawn_batch(spec, 2, 4), []
    for size in range(12):
        keep.append(bytearray(37 * size + 11))  # so that memory lies elsewhere for every learner
        learner = _learner(spec)
        _, state = learner.eval_step(batch, learner.initial_state(2))
        logits, after = learner.predict_step(batch.inputs[:, 0], state)
        parts = [logits, *learner.export_state(state), *learner.export_state(after)]
        seen.add(b"".join(part.tobytes() for part in parts))
    assert len(seen) == 1


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_states_belong_to_no_graph(spec: ModelSpec) -> None:
    learner = _learner(spec)
    batch = drawn_batch(spec, 2, 4)
    _, trained = learner.train_step(batch, learner.initial_state(2))
    with autograd.record():  # the caller's own
        _, evaluated = learner.eval_step(batch, trained)
        _, predicted = learner.predict_step(batch.inputs[:, 0], evaluated)
    for part in _flat([trained, evaluated, predicted]):
        with pytest.raises(mx.base.MXNetError, match=r"not in a computational graph|without recording"):
            part.backward()


def test_the_model_itself_is_trained_and_stays_plain() -> None:
    spec = ModelSpec(11, "lstm", "scratch", 8, num_layers=2)
    model = BACKEND.build(spec, drawn_parameters(spec))
    learner = BACKEND.learner(model, TrainingSpec(), device="cpu")
    batch = drawn_batch(spec, 2, 4)
    tokens = np.array(batch.inputs, dtype="int32")
    before = model(tokens).asnumpy()
    learner.train_step(batch, learner.initial_state(2))
    after = model(tokens).asnumpy()
    assert numpy.abs(after - before).max() > 1e-4
    logits, _ = learner.predict_step(batch.inputs[:, 0], learner.initial_state(2))
    numpy.testing.assert_allclose(logits, after[:, 0], atol=1e-6)
    assert model(tokens[:, :3]).shape == (2, 3, 11), "any number of steps"
    hybridised: list[bool] = []
    model.apply(lambda block: hybridised.append(getattr(block, "_active", False)))
    assert hybridised
    assert not any(hybridised), "the learner compiles around the model, not in it"


def test_batches_may_change_their_shape() -> None:
    spec = ModelSpec(11, "gru", "scratch", 8)
    learner = _learner(spec)
    judge = _learner(spec)
    for batch_size, num_steps in ((2, 4), (3, 6), (2, 1), (1, 4), (2, 4)):
        batch = drawn_batch(spec, batch_size, num_steps)
        loss, _ = learner.eval_step(batch, learner.initial_state(batch_size))
        expected, _ = judge.gradients(batch, judge.initial_state(batch_size))
        assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_batches_are_neither_kept_nor_locked() -> None:
    """MXNet takes memory over from NumPy: it must not be the caller's."""
    spec = ModelSpec(11, "rnn", "scratch", 8)
    learner = _learner(spec)
    batch = drawn_batch(spec, 2, 4)
    strided = Batch(numpy.asfortranarray(batch.inputs), numpy.asfortranarray(batch.targets))
    state = learner.import_state((numpy.ones((1, 2, 8), numpy.float32),))
    expected = float(learner.eval_step(batch, state)[0])
    assert float(learner.eval_step(strided, state)[0]) == expected
    arrays = (numpy.ones((1, 2, 8), numpy.float32),)
    imported = learner.import_state(arrays)
    arrays[0][:] = 0
    loss, _ = learner.eval_step(batch, imported)
    batch.inputs[:] = 0
    batch.targets[:] = 0
    assert float(loss) == expected


def test_a_float64_model_beside_a_float32_one() -> None:
    specs = [ModelSpec(11, "lstm", "concise", 8, num_layers=2, dtype=d) for d in ("float64", "float32")]
    models = [BACKEND.build(spec, initial_parameters(spec)) for spec in specs]
    tokens = np.array([[1, 2, 3]], dtype="int32")
    wide, narrow = (model(tokens) for model in models)
    assert (wide.dtype, narrow.dtype) == (numpy.float64, numpy.float32)
    assert 0 < numpy.abs(wide.asnumpy() - narrow.asnumpy()).max() < 1e-6
    assert np.ones(2).dtype == numpy.float32


# Devices


def test_devices_of_a_build_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 0)
    assert d2l.num_gpus() == 0
    assert d2l.try_gpu() == mx.cpu()
    assert [device.name for device in BACKEND.devices()] == ["cpu"]


def test_devices_of_a_build_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
    monkeypatch.setattr(mx.context, "gpu_memory_info", lambda i: (0, 80 * 2**30))
    assert d2l.try_gpu(1) == mx.gpu(1)
    assert d2l.try_gpu(2) == mx.cpu()
    listed = BACKEND.devices()
    assert [device.name for device in listed] == ["gpu:0", "gpu:1", "cpu"]
    assert listed[1].description == "MXNet gpu(1), 80 GiB"
    assert [devices.context_of(device) for device in listed] == [mx.gpu(0), mx.gpu(1), mx.cpu()]


def test_a_model_moves_to_the_learners_device() -> None:
    """Between two CPU contexts, as between any two devices."""
    spec = ModelSpec(11, "gru", "concise", 8, num_layers=2, dropout=0.5)
    results = []
    for context in (mx.cpu(0), mx.cpu(1)):
        learner = MXNetLearner(BACKEND.build(spec, drawn_parameters(spec)), TrainingSpec(clip=0.1), context)
        batch = drawn_batch(spec, 2, 4)
        _, state = learner.train_step(batch, learner.initial_state(2))
        result, state = learner.train_step(batch, state)
        assert state.ctx == context
        logits, _ = learner.predict_step(batch.inputs[:, 0], state)
        learner.import_parameters(learner.export_parameters())
        outputs, _ = BACKEND.run_layers(learner.model, numpy.zeros((3, 2, 11), numpy.float32))
        results.append((float(result.loss), logits, outputs))
    assert results[0][0] == results[1][0]
    for one, two in zip(results[0][1:], results[1][1:], strict=True):
        numpy.testing.assert_array_equal(one, two)


def test_synchronising_waits() -> None:
    spec = ModelSpec(11, "rnn", "scratch", 8)
    learner = _learner(spec)
    learner.train_step(drawn_batch(spec, 2, 4), learner.initial_state(2))
    learner.synchronize()
    npx.waitall()


# Writing: one way for the learner and for the model's own `predict`


@pytest.mark.parametrize("concise_head", [False, True])
@pytest.mark.parametrize("make", ALL)
def test_a_head_predicts_by_the_graph_of_one_step(
    make: Any, concise_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = d2l.RNNLM if concise_head else d2l.RNNLMScratch
    model, vocab = head(make(), vocab_size=5), Vocab("abcd")
    tokens = numpy.array([1], numpy.int32)
    model(np.zeros((1, 1), dtype="int32"))  # Gluon's layers learn their sizes
    mx.random.seed(0)
    for parameter in model.collect_params().values():
        parameter.set_data(np.random.uniform(-1, 1, parameter.shape))
    for parameter in model.collect_params(".*h2h_bias").values():
        if not isinstance(model.rnn, d2l.GRU):
            parameter.set_data(np.zeros(parameter.shape))
    graph, eager = model._predictor(), prediction.EagerPredictor(model.unroll, lambda size: None, mx.cpu())
    assert isinstance(graph, prediction.GraphPredictor)
    one, two = graph.initial_state(1), eager.initial_state(1)
    for _ in range(3):
        logits, one = graph.predict_step(tokens, one)
        expected, two = eager.predict_step(tokens, two)
        numpy.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    text = model.predict("ab", 8, vocab)
    monkeypatch.setattr(language_model, "spec_of", lambda model: None)
    assert isinstance(model._predictor(), prediction.EagerPredictor)
    assert model.predict("ab", 8, vocab) == text


def test_a_head_of_ones_own_is_asked_itself() -> None:
    class Head(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def output_layer(self, hiddens: Any) -> Any:
            return np.eye(5)[3] + 0 * super().output_layer(hiddens)

    class Layer(d2l.RNNScratch):  # type: ignore[name-defined, misc]
        def forward(self, inputs: Any, state: Any = None, masks: Any = None) -> Any:
            return super().forward(inputs * 0, state)

    assert Head(d2l.RNNScratch(5, 4), 5).predict("a", 3, Vocab("abcd")) == "accc"
    assert isinstance(d2l.RNNLMScratch(Layer(5, 4), 5)._predictor(), prediction.EagerPredictor)


@pytest.mark.parametrize("implementation", ["scratch", "concise"])
def test_dropout_of_a_model_by_itself_is_mxnets(implementation: Any) -> None:
    """Without a learner: on inside ``autograd.record()``, else off, at the embedding and before the head."""
    for rates in ({"input_dropout": 0.5}, {"output_dropout": 0.5}, {"dropout": 0.5, "num_layers": 2}):
        spec = ModelSpec(11, "rnn", implementation, 8, embedding_size=8, **rates)
        model = BACKEND.build(spec, drawn_parameters(spec))
        tokens = np.array(drawn_batch(spec, 2, 4).inputs, dtype="int32")
        numpy.testing.assert_array_equal(model(tokens).asnumpy(), model(tokens).asnumpy())
        with autograd.record():
            assert (model(tokens).asnumpy() != model(tokens).asnumpy()).any()


def test_a_model_with_layers_of_its_own_says_how_it_is_kept() -> None:
    class Own(d2lrnn_mxnet.RNNScratch):
        pass

    model = d2lrnn_mxnet.RNNLMScratch(Own(5, 4), vocab_size=5)
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(KindError, match=r"has layers of its own, .* save_parameters\(file\)"):
            copied(model)
