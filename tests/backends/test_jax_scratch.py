"""Scratch means the formula: JAX's layers, their backward passes by hand, and cells of other packages."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

from d2lrnn_jax import (  # noqa: E402
    RNNScratch,
    StackedRNNScratch,
)
from d2lrnn_jax.adapter import JaxBackend  # noqa: E402
from d2lrnn_jax.layer import ScratchLayer  # noqa: E402
from d2lrnn_jax.recurrence import plain_scan, run_recurrence, scan_recurrence  # noqa: E402
from d2lrnn_jax.scratch import LAYERS, resetting_after  # noqa: E402
from d2lrnn_jax.specification import spec_of  # noqa: E402
from flax import linen as nn  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from parity.models import drawn_batch, drawn_parameters  # noqa: E402

from d2lrnn.contract import cells  # noqa: E402
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402

KEY = jax.random.key(0)


def _normal(seed: int, *shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def _assert_trees_close(one: Any, other: Any, atol: float = 1e-5) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


# The fast path and its plain twins


BY_HAND = [
    (layer, reset_after)
    for layer in LAYERS.values()
    if hasattr(layer.step, "derivative")
    for reset_after in ([False, True] if layer.cell.reset_bias else [None])
]


@pytest.mark.parametrize(("layer", "reset_after"), BY_HAND)
def test_the_backward_pass_by_hand_is_the_derivative_of_the_formula(
    layer: Any, reset_after: bool | None
) -> None:
    T, B, h = 6, 3, 5
    shapes = layer.cell.shapes(1, h, reset_after=reset_after)
    width = shapes.pop("b")[0]
    del shapes["w_x"]
    weights = {name: 0.5 * _normal(k, *shape) for k, (name, shape) in enumerate(shapes.items())}
    state = tuple(_normal(12 + k, B, h) for k in range(len(layer.cell.states)))
    inputs = _normal(14, T, B, width)
    # The loss looks at every output and at the final state, by weights of their own.
    by_output, by_state = _normal(15, T, B, h), _normal(16, B, h)

    def loss(scan: Any, *arguments: Any) -> Any:
        outputs, final = scan(layer.step, *arguments)
        return jnp.sum(outputs * by_output) + sum(k * jnp.sum(p * by_state) for k, p in enumerate(final, 1))

    differentiate = jax.value_and_grad(loss, argnums=(1, 2, 3))
    fast, plain = (
        differentiate(scan_recurrence, weights, state, inputs),
        differentiate(plain_scan, weights, state, inputs),
    )
    _assert_trees_close(fast, plain)


def test_a_formula_of_ones_own_takes_the_place_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training too: the backward pass by hand belongs to the formula that it was made for."""

    class Linear(RNNScratch):
        @staticmethod
        def step(X: Any, state: Any, weights: Any) -> Any:
            return (X + state[0] @ weights["w_h"],), ()

    X = _normal(0, 4, 2, 3)
    variables = jax.tree.map(lambda p: p + 0.3, RNNScratch(3, 5).init(KEY, X))
    gradients = []
    for replaced in (False, True):
        if replaced:
            monkeypatch.setattr(RNNScratch, "step", staticmethod(Linear.step))
        module = RNNScratch(3, 5) if replaced else Linear(3, 5)
        gradient = jax.grad(lambda v, module=module: jnp.sum(module.apply(v, X)[0]))(variables)
        # Of a linear layer: every bias counts once for every later step.
        ones, W = np.ones((2, 5)), np.asarray(variables["params"]["W_hh"])
        expected, d = 0.0, np.zeros((2, 5))
        for _ in range(4):
            d = ones + d @ W.T
            expected = expected + d.sum(axis=0)
        np.testing.assert_allclose(gradient["params"]["b_h"], expected, rtol=1e-5)
        gradients.append(gradient)
    _assert_trees_close(*gradients)


def test_a_single_step_is_the_formula_without_a_loop() -> None:
    state, X, weights = (_normal(0, 2, 5),), _normal(1, 1, 2, 5), {"w_h": _normal(2, 5, 5)}
    outputs, final = run_recurrence(RNNScratch.step, weights, state, X)
    _assert_trees_close((outputs, final), plain_scan(RNNScratch.step, weights, state, X), 1e-6)
    program = jax.make_jaxpr(lambda *args: run_recurrence(RNNScratch.step, *args))(weights, state, X)
    assert "scan" not in str(program)


# Scratch means the formula

#: What flax and JAX have of recurrent layers, and the primitives that a GPU's fused ones are.
FLAX_LAYERS = (
    nn.RNN, nn.Bidirectional, nn.RNNCellBase, nn.SimpleCell, nn.GRUCell, nn.MGUCell, nn.LSTMCell,
    nn.OptimizedLSTMCell, nn.ConvLSTMCell,
)  # fmt: skip
FUSED_PRIMITIVES = {"rnn_fwd", "rnn_bwd"}  # jax.experimental.rnn, cuDNN's


def _primitives(program: Any) -> set[str]:
    """The names of all primitives of a jaxpr, of those inside loops and derivatives too."""
    found = set()
    for equation in program.eqns:
        found.add(equation.primitive.name)
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    found |= _primitives(inner)
    return found


def _recurrent_layers_in(module: nn.Module, X: Any) -> set[str]:
    """What `FLAX_LAYERS` and fused operators a module calls on inputs (T, B, in), forward and backward.

    Lowered for a GPU as well: a kernel of another library is a custom call there.
    """
    found = set()

    def watch(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        if isinstance(context.module, FLAX_LAYERS):
            found.add(type(context.module).__name__)
        return call(*arguments, **options)

    def loss(variables: Any, X: Any) -> Any:
        return jnp.sum(module.apply(variables, X)[0])

    with nn.intercept_methods(watch):
        variables = jax.eval_shape(module.init, KEY, X)  # a GPU's operator cannot run here
        step = jax.jit(jax.grad(loss))
        found |= _primitives(jax.make_jaxpr(step)(variables, X)) & FUSED_PRIMITIVES
    for platform in ("cpu", "cuda"):
        if not found:
            lowered = step.trace(variables, X).lower(lowering_platforms=(platform,)).as_text()
            found |= set(re.findall(r"stablehlo\.custom_call @(\w+)", lowered))
    return found


@pytest.mark.parametrize("num_steps", [1, 5], ids=["single", "sequence"])
@pytest.mark.parametrize("cell", JaxBackend().cells("scratch"))
def test_no_scratch_model_calls_a_recurrent_layer(cell: str, num_steps: int) -> None:
    for layer in [LAYERS[cell]] + [resetting_after(LAYERS[cell])] * bool(LAYERS[cell].cell.reset_bias):
        for module in (layer(6, 5, 0.01), StackedRNNScratch(6, 5, 2, layer=layer)):
            assert not _recurrent_layers_in(module, _normal(0, num_steps, 3, 6))


class _OfFlax(nn.Module):
    """A layer that calls a cell of flax."""

    cell: Any

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        return nn.RNN(self.cell(5), time_major=True)(inputs), None


class _Fused(nn.Module):
    """A layer that is cuDNN's, as far as that can be traced without a GPU."""

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        from jax.experimental import rnn

        T, B, n = inputs.shape
        weights = self.param("w", nn.initializers.zeros, (rnn.get_num_params_in_lstm(n, 5, 1, False),))
        zeros = jnp.zeros((1, B, 5))
        lengths = jnp.full((B,), T, jnp.int32)
        batch_first = jnp.swapaxes(inputs, 0, 1)
        return rnn.lstm(batch_first, zeros, zeros, weights, lengths, n, 5, 1, 0.0, False)[:1]


class _Foreign(nn.Module):
    """A layer that leaves JAX."""

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        W = self.param("W", nn.initializers.ones, (inputs.shape[-1], 5))
        shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
        return jax.pure_callback(np.tanh, shape, jax.lax.stop_gradient(inputs)) @ W, None


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (_OfFlax(nn.SimpleCell), {"RNN", "SimpleCell"}),
        (_OfFlax(nn.MGUCell), {"RNN", "MGUCell"}),
        (_OfFlax(nn.OptimizedLSTMCell), {"RNN", "OptimizedLSTMCell"}),
        (_Fused(), {"rnn_fwd", "rnn_bwd"}),
        (_Foreign(), {"xla_ffi_python_cpu_callback"}),
    ],
    ids=lambda value: repr(value).split("(")[0] if isinstance(value, nn.Module) else "",
)
def test_a_recurrent_layer_is_noticed(
    module: nn.Module, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a GPU's library cuDNN cannot be asked how much memory it needs, which the program does not show.
    sizes = "jaxlib.gpu_rnn.compute_rnn_workspace_reserve_space_sizes"
    monkeypatch.setattr(sizes, lambda *arguments: (8, 8), raising=False)
    assert _recurrent_layers_in(module, _normal(0, 5, 3, 6)) == expected


def test_a_cell_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """By entry points: its formula alone makes a layer, alone and stacked, that trains."""
    leaky = cells.Cell("leaky", "leaky unit", ("n",), "h' = a ∘ h + n", "a test", vectors=("a",))

    class Leaky(ScratchLayer):
        cell = leaky

        @staticmethod
        def step(X: Any, state: Any, weights: Any) -> Any:
            (H,) = state
            return (weights["a"] * H + jnp.tanh(X + H @ weights["w_h"]),), ()

    def announced(group: str) -> dict[str, Any]:
        found = {"d2lrnn.cells": leaky, "d2lrnn.cells.jax": Leaky}
        return {"leaky": SimpleNamespace(load=lambda: found[group])} if group in found else {}

    monkeypatch.setattr(cells, "_announced", announced)
    backend = JaxBackend()
    assert "leaky" in backend.cells("scratch")
    for num_layers in (1, 2):
        spec = ModelSpec(6, "leaky", num_hiddens=5, num_layers=num_layers)
        parameters = drawn_parameters(spec)
        model = backend.build(spec, parameters)
        assert spec_of(model) == spec
        X, H = np.float32(_normal(0, 4, 2, 6)), []
        for l in range(num_layers):
            w = {name[6:]: value for name, value in parameters.items() if name.startswith(f"rnn.{l}.")}
            state, outputs = np.zeros((2, 5), np.float32), []
            for x in X if l == 0 else H:
                state = w["a"] * state + np.tanh(x @ w["w_x"] + w["b"] + state @ w["w_h"])
                outputs.append(state)
            H = outputs
        np.testing.assert_allclose(backend.run_layers(model, X)[0], np.stack(H), atol=1e-5)
        learner = backend.learner(model, TrainingSpec(1.0))
        batch, state = drawn_batch(spec, batch_size=4, num_steps=9), learner.initial_state(4)
        losses = [float(learner.train_step(batch, state)[0].loss) for _ in range(9)]
        assert losses[-1] < losses[0] - 0.1
        exported = learner.export_parameters()
        assert all((value != parameters[name]).any() for name, value in exported.items())
