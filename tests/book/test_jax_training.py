"""The first edition's functions on JAX, run on the novel."""

from __future__ import annotations

import math
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="this environment has no JAX")
nn = pytest.importorskip("flax.linen", reason="this environment has no flax")

from d2lrnn.errors import DivergedError  # noqa: E402
from d2lrnn.registry import BackendEntry  # noqa: E402

jnp = jax.numpy


@pytest.fixture(autouse=True)
def _only_jax(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "jax":
        pytest.skip("these tests are written in JAX")
    d2l.seed_everything(0)


def cross_entropy(logits: Any, targets: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1)


def norm_of(grads: Any) -> Any:
    return jnp.sqrt(sum((part**2).sum() for part in jax.tree.leaves(grads)))


def functions(d2l: ModuleType, vocab: Any, h: int = 16) -> Any:
    def params(vocab_size: int, h: int, key: Any) -> dict[str, Any]:
        shapes = {"W_xh": (vocab_size, h), "W_hh": (h, h), "W_hq": (h, vocab_size), "b_q": (vocab_size,)}
        keys = jax.random.split(key, len(shapes))
        drawn = zip(shapes.items(), keys, strict=True)
        return {name: 0.1 * jax.random.normal(key, shape) for (name, shape), key in drawn}

    def state(batch_size: int, h: int) -> Any:
        return (d2l.zeros((batch_size, h)),)

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        (H,) = state
        outputs = []
        for X in inputs:
            H = jnp.tanh(X @ params["W_xh"] + H @ params["W_hh"])
            outputs.append(H @ params["W_hq"] + params["b_q"])
        return jnp.concatenate(outputs), (H,)

    return d2l.RNNModelScratch(len(vocab), h, params, state, forward)


CELLS = {"RNN": nn.SimpleCell, "GRU": nn.GRUCell, "LSTM": nn.OptimizedLSTMCell}


@pytest.mark.parametrize("kind", ["functions", *CELLS])
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_first_editions_training(
    d2l: ModuleType, capsys: pytest.CaptureFixture[str], kind: str, use_random_iter: bool
) -> None:
    train_iter, vocab = d2l.load_data_time_machine(8, 10, use_random_iter, max_tokens=2000)
    net = functions(d2l, vocab) if kind == "functions" else d2l.RNNModel(nn.RNN(CELLS[kind](16)), len(vocab))
    X, _ = next(iter(train_iter))
    start = net.init(jax.random.key(0), X, net.begin_state(batch_size=8))
    params = d2l.train_ch8(net, train_iter, vocab, 1.0, 3, start, use_random_iter)
    assert all((a != b).any() for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(params), strict=True))
    first, *written = capsys.readouterr().out.splitlines()
    assert float(first.split()[1].rstrip(",")) < 25
    assert [line[:9] for line in written] == ["time trav", "traveller"]
    assert [len(line) for line in written] == [len("time traveller") + 50, len("traveller") + 50]


def test_the_first_editions_model_reads_step_by_step(d2l: ModuleType) -> None:
    net = d2l.RNNModel(nn.RNN(nn.OptimizedLSTMCell(8)), 28)
    tokens, state = jnp.array([[1, 2, 3], [4, 5, 6]]), net.begin_state(batch_size=2)
    params = net.init(jax.random.key(0), tokens, state)
    logits, _ = net.apply(params, tokens, state)
    for t in range(3):
        one, state = net.apply(params, tokens[:, t : t + 1], state)
        np.testing.assert_allclose(one, logits[2 * t : 2 * t + 2], atol=1e-6)


@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_first_edition_carries_the_state_and_clips(d2l: ModuleType, use_random_iter: bool) -> None:
    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    net = functions(d2l, vocab)
    states: list[Any] = []
    norms: list[float] = []
    plain = net.forward_fn

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        outputs, after = plain(inputs, state, params)
        jax.debug.callback(lambda *pair: states.append(tuple(map(np.asarray, pair))), state[0], after[0])
        return outputs, after

    def updater(params: Any, grads: Any, batch_size: int) -> Any:
        assert batch_size == 1
        jax.debug.callback(lambda norm: norms.append(float(norm)), norm_of(grads))
        return params

    def loss(outputs: Any, targets: Any) -> Any:
        return 100 * cross_entropy(outputs, targets)

    net.forward_fn = forward
    params = net.init(jax.random.key(0))
    d2l.train_epoch_ch8(net, train_iter, loss, updater, use_random_iter, params)
    jax.effects_barrier()
    assert len(states) == len(norms) > 5
    for (_, before), (begun, _) in pairwise(states):
        assert np.array_equal(begun, before) is not use_random_iter
        assert begun.any() is np.bool_(not use_random_iter)
    assert norms == [pytest.approx(1.0, rel=1e-4)] * len(norms)


def test_a_step_is_sgds(d2l: ModuleType) -> None:
    """One batch: the parameters are those of a step by hand, and those that were given are as they were."""
    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    batch = next(iter(train_iter))
    net = functions(d2l, vocab)
    params = net.init(jax.random.key(0))

    def loss(params: Any) -> Any:
        logits, _ = net.apply(params, batch[0], net.begin_state(batch_size=4))
        return cross_entropy(logits, batch[1].T.reshape(-1)).mean()

    def updater(params: Any, grads: Any, batch_size: int) -> Any:
        return d2l.sgd(params, grads, 0.5, batch_size)

    value, grads = jax.value_and_grad(loss)(params)
    assert norm_of(grads) < 1
    ppl, speed, after = d2l.train_epoch_ch8(net, [batch], cross_entropy, updater, True, params)
    assert ppl == pytest.approx(math.exp(value), rel=1e-5)
    assert speed > 0
    for name, param in params.items():
        np.testing.assert_allclose(after[name], param - 0.5 * grads[name], atol=1e-6)


def test_the_first_edition_notices_divergence(d2l: ModuleType) -> None:
    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    net = functions(d2l, vocab)
    params = net.init(jax.random.key(0))
    params["b_q"] = params["b_q"].at[0].set(jnp.nan)
    with pytest.raises(DivergedError, match="step 1 "):
        d2l.train_ch8(net, train_iter, vocab, 1.0, 1, params)


def test_gradients_are_scaled_down_and_never_up(d2l: ModuleType) -> None:
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    clipped = d2l.grad_clipping(grads, 1.0)
    np.testing.assert_allclose([*clipped["a"], *clipped["b"]], [0.6, 0.8], rtol=1e-6)
    assert d2l.grad_clipping(grads, 10.0)["b"][0] == 4.0
