"""What only the JAX backend has: flax's modules and cells, the backward pass by hand, compilation, x64."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import optax  # noqa: E402
from d2lrnn_jax import (  # noqa: E402
    GRU,
    LSTM,
    RNN,
    RNNLM,
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNN,
    ReluRNNScratch,
    RNNLMScratch,
    RNNScratch,
    StackedRNNScratch,
    cpu,
    gpu,
    num_gpus,
    try_all_gpus,
    try_gpu,
)
from d2lrnn_jax import devices as devices_module  # noqa: E402
from d2lrnn_jax.adapter import JaxBackend  # noqa: E402
from d2lrnn_jax.compiled import (  # noqa: E402
    compiled_loss,
    compiled_parts,
    compiled_prediction,
    compiled_training_step,
)
from d2lrnn_jax.gradients import clip  # noqa: E402
from d2lrnn_jax.scratch import resetting_after  # noqa: E402
from d2lrnn_jax.specification import spec_of  # noqa: E402
from flax import linen as nn  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from parity.models import KINDS, drawn_batch, drawn_parameters, name_of  # noqa: E402

from d2lrnn.contract.clipping import clip_scale  # noqa: E402
from d2lrnn.contract.optimizers import SGD, Adam  # noqa: E402
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.contract.values import Batch  # noqa: E402
from d2lrnn.errors import SpecError  # noqa: E402

KEY = jax.random.key(0)


def _normal(seed: int, *shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def _assert_trees_close(one: Any, other: Any, atol: float = 1e-5) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


# The compiled step


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("implementation", ["scratch", "concise"])
def test_no_step_copies_what_all_steps_have_made(implementation: str, cell: str) -> None:
    """Else a training step would take time in proportion to the square of its length."""
    T, B = 17, 64
    spec = ModelSpec(11, cell, implementation, 32, 2)
    backend = JaxBackend()
    learner = backend.learner(backend.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")
    batch, state = drawn_batch(spec, B, T), learner.initial_state(B)
    train = compiled_training_step(learner._module, TrainingSpec().optimizer, TrainingSpec().clip)
    arguments = learner._params, learner._remembered, 1.0, 0, batch, state, None
    program = train.lower(*arguments).compile().as_text()
    computations = re.split(r"\n\n", program)
    bodies = set(re.findall(r"body=(%[\w.-]+)", program))
    assert bodies
    for computation in computations:
        if computation.lstrip().split(" ")[0] in bodies:
            assert not re.search(rf"= \w+\[{T},{B},\d+\]\S* copy\(", computation), computation


@pytest.mark.parametrize("kind", [RNN, ReluRNN, GRU, LSTM])
def test_concise_layers_are_nn_rnn_of_their_cells(kind: type[RNN]) -> None:
    T, B, V, h, L = 7, 3, 6, 5, 3  # of three layers one is neither the first nor the last
    module, X = kind(h, L), _normal(0, T, B, V)
    params = module.init(KEY, X)["params"]
    # Biases too must count for something.
    params = jax.tree.map(lambda p: p + 0.1 * _normal(p.size, *p.shape), params)
    H = tuple(_normal(7 + k, L, B, h) for k in range(2 if kind is LSTM else 1))
    if kind is ReluRNN:  # which has no bound: small numbers stay small
        X, H = X / 8, (H[0] / 8,)
    state = H if kind is LSTM else H[0]

    def of_flax(params: Any) -> Any:
        outputs, final = X, []
        for l in range(L):
            # flax's LSTM carry is (c, h).
            carry = (H[1][l], H[0][l]) if kind is LSTM else H[0][l]
            layer = nn.RNN(kind.flax_cell(h), time_major=True, return_carry=True)
            variables = {"params": {"cell": params[f"cells_{l}"]}}
            carry, outputs = layer.apply(variables, outputs, initial_carry=carry)
            final.append(carry[::-1] if kind is LSTM else carry)
        return outputs, jax.tree.map(lambda *parts: jnp.stack(parts), *final)

    def ours(params: Any) -> Any:
        return module.apply({"params": params}, X, state)

    _assert_trees_close(ours(params), of_flax(params), 1e-6)
    weight = _normal(9, T, B, h)
    one, other = (jax.grad(lambda p, f=f: jnp.sum(f(p)[0] * weight))(params) for f in (ours, of_flax))
    _assert_trees_close(one, other)


# Direct use, as flax's users do


@pytest.mark.parametrize(
    "module",
    [
        RNNScratch(6, 5),
        GRUScratch(6, 5),
        GRUScratch(6, 5, reset_after=True),
        MGUScratch(6, 5),
        ReluRNNScratch(6, 5),
        LSTMScratch(6, 5),
        StackedRNNScratch(6, 5, 2),
        StackedRNNScratch(6, 5, 3, layer=LSTMScratch),
        StackedRNNScratch(6, 5, 2, layer=resetting_after(GRUScratch)),
        RNN(5),
        RNN(5, 2),
        GRU(5, 3),
        LSTM(5),
        LSTM(5, 2),
    ],
    ids=lambda module: repr(module).split("(")[0],
)
def test_a_state_goes_back_in(module: nn.Module) -> None:
    X = _normal(0, 8, 4, 6)
    (outputs, state), variables = module.init_with_output(KEY, X)
    assert outputs.shape == (8, 4, 5)
    shapes = {part.shape for part in jax.tree.leaves(state)}
    assert shapes == ({(module.num_layers, 4, 5)} if isinstance(module, RNN) else {(4, 5)})
    first, state = module.apply(variables, X[:3])
    second, final = module.apply(variables, X[3:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second]), outputs, rtol=0, atol=1e-6)
    _assert_trees_close(final, module.apply(variables, X)[1], 1e-6)


def test_the_callers_list_of_states_is_unchanged() -> None:
    module, X = StackedRNNScratch(6, 5, 2), _normal(0, 8, 4, 6)
    variables = module.init(KEY, X)
    states = [jnp.ones((4, 5)), jnp.ones((4, 5))]
    kept = list(states)
    module.apply(variables, X, states)
    assert all(one is other for one, other in zip(states, kept, strict=True))


@pytest.mark.parametrize("module", [RNNScratch(6, 5), StackedRNNScratch(6, 5, 2), LSTM(5, 2)])
def test_tokens_are_one_hot_vectors(module: nn.Module) -> None:
    variables = module.init(KEY, jnp.ones((7, 3, 6)))
    for num_steps in (7, 1):  # more tokens than rows, and fewer
        tokens = jnp.asarray(np.random.default_rng(0).integers(0, 6, (num_steps, 3)))
        one_hot = jax.nn.one_hot(tokens, 6)
        _assert_trees_close(module.apply(variables, tokens), module.apply(variables, one_hot), 1e-6)


@pytest.mark.parametrize(
    "model",
    [
        RNNLMScratch(RNNScratch(6, 5), 6),
        RNNLMScratch(StackedRNNScratch(6, 5, 3, layer=GRUScratch), 6),
        RNNLM(GRU(5, 3), 6, lr=2),
        RNNLM(LSTM(5, 2), 6),
        RNNLMScratch(MGUScratch(4, 5), 6, embedding_size=4),
        RNNLM(ReluRNN(5), 6, embedding_size=5, tied=True),
    ],
    ids=lambda model: repr(type(model.rnn).__name__),
)
def test_an_optimizer_of_optax_trains_every_parameter(model: nn.Module) -> None:
    batch = drawn_batch(ModelSpec(6), batch_size=4, num_steps=9)
    variables = model.init(KEY, batch.inputs)
    assert model.apply(variables, batch.inputs).shape == (4, 9, 6)

    def loss(params: Any) -> Any:
        logits = model.apply({"params": params}, batch.inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets).mean()

    optimizer, params = optax.adam(1e-2), variables["params"]
    updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params))
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        assert jnp.any(update != 0), jax.tree_util.keystr(path)


def test_initial_values() -> None:
    params = RNNLMScratch(RNNScratch(400, 100, sigma=0.03), 400).init(KEY, jnp.zeros((1, 1), int))["params"]
    for value in (params["rnn"]["W_xh"], params["W_hq"]):
        assert float(value.std()) == pytest.approx(0.03, rel=0.05)
    assert not params["rnn"]["b_h"].any()
    cell = GRU(8).init(KEY, jnp.zeros((1, 1, 3)))["params"]["cells_0"]
    product = cell["hn"]["kernel"] @ cell["hn"]["kernel"].T  # flax's default is orthogonal
    np.testing.assert_allclose(product, np.eye(8), atol=1e-5)


def test_a_model_may_have_recurrent_layers_of_its_own() -> None:
    class Foreign(nn.Module):
        num_hiddens: int = 5

        @nn.compact
        def __call__(self, inputs: Any, state: Any = None) -> Any:
            assert inputs.shape == (4, 2, 6)
            assert inputs.dtype == jnp.float32
            return nn.Dense(5)(inputs), state

    model = RNNLMScratch(Foreign(), 6)
    tokens = jnp.zeros((2, 4), int)
    assert model.apply(model.init(KEY, tokens), tokens).shape == (2, 4, 6)


# Dropout of flax's own, where a model is used directly


def test_dropout_is_between_layers_at_its_rate() -> None:
    h, rate = 500, 0.3
    module = RNN(h, 2, dropout=rate)
    X = jnp.ones((4, 5, 3))
    params = module.init(KEY, X)["params"]
    # The second layer repeats its input: tanh(x · I), and what was dropped is zero.
    params["cells_1"] = {
        "i": {"kernel": jnp.eye(h), "bias": jnp.zeros(h)},
        "h": {"kernel": jnp.zeros((h, h))},
    }
    variables = {"params": params}
    below, _ = RNN(h).apply({"params": {"cells_0": params["cells_0"]}}, X)
    evaluated, _ = module.apply(variables, X)
    np.testing.assert_allclose(evaluated, jnp.tanh(below), atol=1e-6)
    trained, (final) = module.apply(variables, X, training=True, rngs={"dropout": KEY})
    dropped = trained == 0
    assert float(dropped.mean()) == pytest.approx(rate, abs=0.03)
    assert not (dropped == dropped[:1]).all(), "every time step has a mask of its own"
    np.testing.assert_allclose(trained, jnp.where(dropped, 0, jnp.tanh(below / (1 - rate))), atol=1e-5)
    # The state of the layer below is what was computed, not what was dropped.
    np.testing.assert_allclose(final[0], below[-1], atol=1e-6)


def test_no_dropout_after_the_last_layer_and_masks_take_its_place() -> None:
    X = jnp.ones((4, 5, 3))
    one = GRU(8, dropout=0.9)
    variables = one.init(KEY, X)
    np.testing.assert_array_equal(one.apply(variables, X, training=True)[0], one.apply(variables, X)[0])
    two = GRU(8, 2, dropout=0.9)
    variables = two.init(KEY, X)
    ones = jnp.ones((1, 4, 5, 8))
    np.testing.assert_array_equal(
        two.apply(variables, X, training=True, masks=ones)[0], two.apply(variables, X)[0]
    )


def test_a_language_model_in_training_drops() -> None:
    model = RNNLM(LSTM(16, 2, dropout=0.5), 6)
    tokens = jnp.zeros((2, 4), int)
    variables = model.init(KEY, tokens)
    evaluated = model.apply(variables, tokens)
    trained = model.apply(variables, tokens, training=True, rngs={"dropout": KEY})
    assert float(jnp.abs(trained - evaluated).max()) > 1e-3
    np.testing.assert_array_equal(model.apply(variables, tokens), evaluated)


@pytest.mark.parametrize("model", [RNNLM, RNNLMScratch])
def test_dropout_of_inputs_and_outputs(model: Any) -> None:
    h, rate = 400, 0.25
    layers = RNN(h) if model is RNNLM else RNNScratch(h, h)
    tokens = jnp.zeros((2, 50), int)
    for name in ("input_dropout", "output_dropout"):
        module = model(layers, 6, embedding_size=h, **{name: rate})
        variables = module.init(KEY, tokens)
        seen = {}

        def watch(call: Any, arguments: Any, options: Any, context: Any, seen: Any = seen) -> Any:
            if context.method_name == "output_layer":
                seen["output_dropout"] = arguments[0]
            if isinstance(context.module, (RNN, RNNScratch)) and context.method_name == "__call__":
                seen["input_dropout"] = arguments[0]
            return call(*arguments, **options)

        with nn.intercept_methods(watch):
            module.apply(variables, tokens, training=True, rngs={"dropout": KEY})
        for place, values in seen.items():
            expected = rate if place == name else 0
            assert float((values == 0).mean()) == pytest.approx(expected, abs=0.02), place
        with nn.intercept_methods(watch):
            module.apply(variables, tokens)
        assert not any((values == 0).any() for values in seen.values())


# Specifications, learners, compilation


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_a_model_says_what_it_is(spec: ModelSpec) -> None:
    backend = JaxBackend()
    for dtype in ("float32", "float64"):
        spec = dataclasses.replace(spec, dtype=dtype)
        assert spec_of(backend.build(spec, drawn_parameters(spec))) == spec


def test_a_learner_takes_a_model_that_a_user_made() -> None:
    model = RNNLM(GRU(5, 2, dropout=0.25), 6)
    batch = drawn_batch(ModelSpec(6), batch_size=4, num_steps=9)
    bound = model.bind(model.init(KEY, batch.inputs))
    learner = JaxBackend().learner(bound, TrainingSpec())
    assert learner.spec == ModelSpec(6, "gru", "concise", 5, 2, dropout=0.25)
    loss, _ = learner.eval_step(batch, learner.initial_state(4))
    losses = optax.softmax_cross_entropy_with_integer_labels(bound(batch.inputs), batch.targets)
    assert float(loss) == pytest.approx(float(losses.mean()), rel=1e-6)


def test_what_a_learner_refuses() -> None:
    class Foreign(nn.Module):
        num_hiddens: int = 5

    with pytest.raises(SpecError, match="bind"):
        JaxBackend().learner(RNNLM(RNN(5), 6), TrainingSpec())
    with pytest.raises(SpecError, match="bind"):
        JaxBackend().learner(RNN(5), TrainingSpec())
    head = {"W_hq": jnp.ones((5, 6)), "b_q": jnp.ones(6)}
    with pytest.raises(SpecError, match="Foreign is not one of"):
        JaxBackend().learner(RNNLMScratch(Foreign(), 6).bind({"params": head}), TrainingSpec())


def test_what_the_user_holds_is_never_given_away() -> None:
    """Training donates the memory of its parameters; a model, a state and a batch stay as they were."""
    spec = ModelSpec(6, "gru", "concise", 5, 2)
    built = JaxBackend().build(spec, drawn_parameters(spec))
    batch = drawn_batch(spec, batch_size=4, num_steps=9)
    before = np.array(built(batch.inputs))
    learner = JaxBackend().learner(built, TrainingSpec())
    state = learner.initial_state(4)
    learner.train_step(batch, state)
    trained = learner.model
    after_one = np.array(trained(batch.inputs))
    learner.train_step(batch, state)
    np.testing.assert_array_equal(built(batch.inputs), before)
    np.testing.assert_array_equal(trained(batch.inputs), after_one)
    assert np.abs(after_one - before).max() > 1e-3
    assert not state.any()


def test_a_batch_can_be_written_over_while_the_step_is_on_its_way() -> None:
    """Steps run asynchronously, and on a CPU JAX may compute in the caller's memory."""
    spec = ModelSpec(16, "rnn", "scratch", 64)
    losses = []
    for overwrite in (False, True):
        learner = JaxBackend().learner(JaxBackend().build(spec, drawn_parameters(spec)), TrainingSpec())
        batch = drawn_batch(spec, batch_size=256, num_steps=64)
        state = learner.initial_state(256)
        results = []
        for seed in range(4):
            fresh = drawn_batch(spec, batch_size=256, num_steps=64, seed=seed)
            if overwrite:
                batch.inputs[:], batch.targets[:] = fresh
                result, _ = learner.train_step(batch, state)
                batch.inputs[:], batch.targets[:] = 0, 0
            else:
                result, _ = learner.train_step(Batch(*fresh), state)
            results.append(result.loss)
        losses.append([float(loss) for loss in results])
    assert losses[0] == losses[1]


def test_equal_models_compile_once() -> None:
    spec = ModelSpec(6, "lstm", "concise", 7, 2)
    batch = drawn_batch(spec, batch_size=4, num_steps=9)
    shared = []
    for seed in range(2):
        training = TrainingSpec(learning_rate=0.123 * (1 + seed), clip=0.77)
        learner = JaxBackend().learner(JaxBackend().build(spec, drawn_parameters(spec, seed)), training)
        state = learner.initial_state(4)
        single = learner.initial_state(1)
        for _ in range(3):
            _, state = learner.train_step(batch, state)
            learner.eval_step(batch, state)
            _, single = learner.predict_step(np.zeros(1, np.int32), single)
        learner.import_parameters(drawn_parameters(spec, 5))
        _, state = learner.train_step(batch, learner.import_state(learner.export_state(state)))
        module = learner._module
        shared.append(module)
        assert compiled_training_step(module, training.optimizer, 0.77)._cache_size() == 1
        assert compiled_loss(module)._cache_size() == 1
        assert compiled_prediction(module)._cache_size() == 1
    assert shared[0] == shared[1]
    assert compiled_prediction(shared[0]) is compiled_prediction(shared[1])


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=lambda optimizer: optimizer.name)
def test_another_rate_or_step_compiles_nothing(optimizer: Any) -> None:
    spec = ModelSpec(6, num_hiddens=7)
    training = TrainingSpec(optimizer=optimizer, clip=0.78)
    learner = JaxBackend().learner(JaxBackend().build(spec, drawn_parameters(spec)), training)
    batch, state = drawn_batch(spec, batch_size=4, num_steps=9), learner.initial_state(4)
    for rate in (1, 0.5, np.float64(0.25), np.float32(0.1)):  # numbers of any type
        learner.learning_rate = rate
        before = learner.export_parameters()["head.b"]
        _, state = learner.train_step(batch, state)
        moved = np.abs(learner.export_parameters()["head.b"] - before).max()
        assert 0 < moved < 1.1 * rate
    learner.step = 1000
    learner.import_optimizer_state(learner.export_optimizer_state())
    learner.train_step(batch, state)
    assert compiled_training_step(learner._module, optimizer, 0.78)._cache_size() == 1


def test_parts_of_one_size_compile_once() -> None:
    spec = ModelSpec(6, num_hiddens=7)
    training = TrainingSpec(clip=0.79, accumulate=3)
    learner = JaxBackend().learner(JaxBackend().build(spec, drawn_parameters(spec)), training)
    batch, state = drawn_batch(spec, batch_size=8, num_steps=9), learner.initial_state(8)
    for _ in range(3):
        _, state = learner.train_step(batch, state)
    add, update = compiled_parts(learner._module, training.optimizer, 0.79)
    # Of three rows, and of the two that are left.
    assert (add._cache_size(), update._cache_size()) == (2, 1)


def test_predictions_belong_to_the_caller() -> None:
    spec = ModelSpec(6)
    learner = JaxBackend().learner(JaxBackend().build(spec, drawn_parameters(spec)), TrainingSpec())
    logits, _ = learner.predict_step(np.zeros(2, np.int32), learner.initial_state(2))
    logits += 1


def test_float64_is_switched_on_for_its_own_calls_alone() -> None:
    backend = JaxBackend()
    batch = drawn_batch(ModelSpec(6), batch_size=2, num_steps=3)
    learners = []
    for dtype in ("float64", "float32"):
        spec = ModelSpec(6, "gru", "concise", 5, 2, dropout=0.5, dtype=dtype)  # type: ignore[arg-type]
        learners.append(backend.learner(backend.build(spec, drawn_parameters(spec)), TrainingSpec()))
    for learner, dtype in zip(learners * 2, ("float64", "float32") * 2, strict=True):
        state = learner.import_state(learner.export_state(learner.initial_state(2)))
        result, state = learner.train_step(batch, state)
        learner.eval_step(batch, state)
        logits, state = learner.predict_step(batch.inputs[:, 0], state)
        assert {logits.dtype, result.loss.dtype, result.grad_norm.dtype} == {np.dtype(dtype)}
        assert all(part.dtype == dtype for part in learner.export_state(state))
        learner.synchronize()
        assert not jax.config.jax_enable_x64
        assert jnp.ones(1, float).dtype == jnp.float32


def test_float32_stays_float32_where_the_user_switched_x64_on() -> None:
    spec = ModelSpec(6, "lstm", "concise", 5, 2)
    with jax.enable_x64(True):
        learner = JaxBackend().learner(JaxBackend().build(spec, drawn_parameters(spec)), TrainingSpec())
        batch = drawn_batch(spec, batch_size=2, num_steps=3)
        result, state = learner.train_step(batch, learner.initial_state(2))
        assert result.loss.dtype == jnp.float32
        assert {part.dtype for part in learner.export_state(state)} == {np.dtype("float32")}
        assert all(value.dtype == np.float32 for value in learner.export_parameters().values())


@pytest.mark.parametrize("theta", [0.1, 5.0, 1e3, None])
def test_clipping_is_the_formula(theta: float | None) -> None:
    gradient = {"a": _normal(0, 3, 4), "b": _normal(1, 5)}
    clipped = clip(gradient, theta)
    norm = float(np.sqrt(sum((np.float64(g) ** 2).sum() for g in gradient.values())))
    for name, value in gradient.items():
        np.testing.assert_allclose(clipped[name], value * clip_scale(norm, theta), rtol=1e-6)
        if clip_scale(norm, theta) == 1:
            np.testing.assert_array_equal(clipped[name], value)


# Devices


def test_devices_with_and_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    here, gpus = object(), [SimpleNamespace(device_kind="H200"), SimpleNamespace(device_kind="H100")]
    present: dict[str, list[Any]] = {"cpu": [here], "gpu": gpus}

    def devices(backend: str) -> list[Any]:
        if backend not in present:
            raise RuntimeError(f"Unknown backend {backend}")
        return present[backend]

    monkeypatch.setattr(devices_module.jax, "local_devices", devices)
    *listed, last = devices_module.devices()
    assert [tuple(device) for device in listed] == [("gpu:0", "H200"), ("gpu:1", "H100")]
    assert last.name == "cpu"
    assert devices_module.native_device("gpu:1") is gpus[1]
    assert devices_module.native_device("cpu") is here
    assert (num_gpus(), try_gpu(), try_gpu(1), try_gpu(2)) == (2, gpus[0], gpus[1], here)
    assert (cpu(), gpu(), gpu(1), try_all_gpus()) == (here, gpus[0], gpus[1], gpus)
    del present["gpu"]
    assert [device.name for device in devices_module.devices()] == ["cpu"]
    assert (num_gpus(), try_gpu(), try_all_gpus()) == (0, here, [here])


def test_asynchronous_dispatch_is_off() -> None:
    """In a process of its own, because JAX reads the setting once. Importing changes nothing."""
    read = "jax.config.read('jax_cpu_enable_async_dispatch')"
    program = f"import jax, d2lrnn_jax; a = {read}; import d2lrnn; d2lrnn.backend('jax'); print(a, {read})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
