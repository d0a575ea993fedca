"""The tricks of the JAX backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
import optax
from d2lrnn_jax import activations, derivatives, head, recurrence, scratch
from d2lrnn_jax.concise import MODELS
from elsewhere import Elsewhere
from flax import linen as nn
from jax import numpy as jnp
from run import Trick

import d2lrnn
from d2lrnn.contract import cells
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.training.initialization import initial_parameters

C, M, W = (32, 35, 512), (1024, 32, 32), (20, 35, 650)
#: Tokens of a vocabulary of words.
WORDS = 10_000

#: Single steps in one call to another process.
STEPS = 100


def tricks() -> list[Trick]:
    """All tricks of this backend."""
    with_derivative = [kind for kind in scratch.LAYERS.values() if hasattr(kind.step, "derivative")]
    return [
        *(_derivative(kind, False, *sizes) for kind in with_derivative for sizes in (C, M)),
        *(_derivative(scratch.GRUScratch, True, *sizes) for sizes in (C, M)),
        *(_left_factor(kind) for kind in with_derivative),
        *(_in_place(kind, *sizes) for kind in with_derivative for sizes in (C, M)),
        *(_gates_once(reset_after, *sizes) for reset_after in (False, True) for sizes in (C, M)),
        *(_product_over_time(*sizes) for sizes in (C, M)),
        *(_projection(*sizes) for sizes in (C, M)),
        *(_lstm_gates(B, h) for B, _, h in (C, M)),
        *(_look_up(*sizes) for sizes in (C, M)),
        *(_bias_of_rows(*sizes) for sizes in (C, M)),
        *(_concise(name, *sizes) for name in MODELS for sizes in (C, M)),
        _summed_loss(*W),
        _dispatch(),
    ]


def _derivative(kind: Any, reset_after: bool, B: int, T: int, h: int) -> Trick:
    """Outputs and gradients of a layer: the backward pass by hand, and JAX's own of the scan."""
    title = f"{kind.cell.title} that resets after the product" if reset_after else kind.cell.title
    return Trick(
        f"{title}, backward pass by hand", f"derivatives.{kind.cell.name.upper()}", f"{B} x {T} x {h}",
        _forth_and_back(kind, (B, T, h), reset_after, recurrence.scan_recurrence),
        _forth_and_back(kind, (B, T, h), reset_after, recurrence.plain_scan), 1e-4,
    )  # fmt: skip


def _left_factor(kind: Any) -> Trick:
    B, T, h = C
    instead = [(derivatives, "times_transposed", lambda d, W: d @ W.T)]
    return Trick(
        f"{kind.cell.title}, the larger factor on the left", "recurrence.times_transposed",
        f"{B} x {T} x {h}", _forth_and_back(kind, C), _forth_and_back(kind, C, instead=instead), 1e-4,
    )  # fmt: skip


def _in_place(kind: Any, B: int, T: int, h: int) -> Trick:
    """The loops of `scan_recurrence`, and the same without reuse of memory."""

    def scan(body: Any, carry: Any, spent: Any, read: Any, *, reverse: bool = False) -> Any:
        return jax.lax.scan(lambda carry, given: body(carry, *given), carry, (spent, read), reverse=reverse)

    instead = [(recurrence, "scan_in_place", scan)]
    return Trick(
        f"{kind.cell.title}, results written over what a step was given", "recurrence.scan_in_place",
        f"{B} x {T} x {h}", _forth_and_back(kind, (B, T, h)),
        _forth_and_back(kind, (B, T, h), instead=instead), 1e-4,
    )  # fmt: skip


def _gates_once(reset_after: bool, B: int, T: int, h: int) -> Trick:
    """A GRU, and one whose gates and their gradient are left to XLA."""
    instead = [
        (scratch, "sigmoid", jax.nn.sigmoid),
        (scratch, "once", lambda x: x),
        (derivatives, "once", lambda x: x),
    ]
    sizes, kind = (B, T, h), "GRU that resets after the product" if reset_after else "GRU"
    return Trick(
        f"{kind}, gates by a tanh, computed once", "activations.sigmoid", f"{B} x {T} x {h}",
        _forth_and_back(scratch.GRUScratch, sizes, reset_after),
        _forth_and_back(scratch.GRUScratch, sizes, reset_after, instead=instead), 1e-4,
    )  # fmt: skip


def _product_over_time(B: int, T: int, h: int) -> Trick:
    """An LSTM's weight gradient."""
    left, right = _drawn(T, B, h), _drawn(T, B, 4 * h)
    return Trick(
        "a product over steps and batch as one of matrices", "recurrence.product_over_time",
        f"{B} x {T} x {h} by {4 * h}", _compiled(recurrence.product_over_time, left, right),
        _compiled(lambda left, right: jnp.einsum("tbm,tbn->mn", left, right), left, right),
    )  # fmt: skip


def _projection(B: int, T: int, h: int) -> Trick:
    """The inputs of a second layer times its weights, and the gradients."""
    values = _drawn(T, B, h), _drawn(h, 4 * h), _drawn(4 * h)
    d = _drawn(T, B, 4 * h)
    return Trick(
        "inputs of all steps as rows", "recurrence.project", f"{B} x {T} x {h} by {4 * h}",
        _gradient(recurrence.project, d, *values), _gradient(lambda X, W, b: X @ W + b, d, *values), 1e-4,
    )  # fmt: skip


def _lstm_gates(B: int, h: int) -> Trick:
    """One tanh of all gates, and one activation after the other."""
    x = _drawn(B, 4 * h)

    def one_by_one(x: Any) -> Any:
        i, f, g, o = jnp.split(x, 4, axis=-1)
        sigmoid = jax.nn.sigmoid
        return jnp.concatenate([sigmoid(i), sigmoid(f), jnp.tanh(g), sigmoid(o)], axis=-1)

    return Trick(
        "an LSTM's gates as one tanh", "activations.lstm_gates", f"{B} x {4 * h}",
        _compiled(activations.lstm_gates, x), _compiled(one_by_one, x),
    )  # fmt: skip


def _look_up(B: int, T: int, h: int) -> Trick:
    """Rows of weights and their gradient, from tokens or from one-hot vectors."""
    tokens, W, b, d = _tokens(B, T), _drawn(28, 4 * h), _drawn(4 * h), _drawn(T, B, 4 * h)

    def by_product(W: Any, b: Any, tokens: Any) -> Any:
        return recurrence.project(jax.nn.one_hot(tokens, len(W)), W, b)

    return Trick(
        "tokens looked up, not multiplied", "inputs.takes_tokens", f"{B} x {T} tokens of 28, {4 * h}",
        _gradient(lambda W, b, tokens: recurrence.project(tokens, W, b), d, W, b, rest=(tokens,)),
        _gradient(by_product, d, W, b, rest=(tokens,)), 1e-4,
    )  # fmt: skip


def _bias_of_rows(B: int, T: int, h: int) -> Trick:
    """The bias added to the rows of a table, and to the rows that were looked up."""
    tokens, W, b, d = _tokens(B, T), _drawn(28, 4 * h), _drawn(4 * h), _drawn(T, B, 4 * h)

    def bias_after(W: Any, b: Any, tokens: Any) -> Any:
        return jnp.take(W, tokens, axis=0, mode="clip") + b

    return Trick(
        "the bias added before rows are looked up", "recurrence.project", f"{B} x {T} tokens of 28, {4 * h}",
        _gradient(lambda W, b, tokens: recurrence.project(tokens, W, b), d, W, b, rest=(tokens,)),
        _gradient(bias_after, d, W, b, rest=(tokens,)), 1e-4,
    )  # fmt: skip


def _concise(name: str, B: int, T: int, h: int) -> Trick:
    """A concise layer, and `flax.linen.RNN` with the same cell."""
    kind = MODELS[name]
    own, flax = kind(h), nn.RNN(kind.flax_cell(h), time_major=True)
    # Rounding decides on which side of zero a ReLU's argument is: gradients differ by percents.
    tolerance = 0.05 if kind.cell is cells.RELU_RNN else 1e-4
    inputs, d = _drawn(T, B, h), _drawn(T, B, h)
    params = own.init(jax.random.key(0), inputs[:1])["params"]["cells_0"]
    return Trick(
        f"a concise {kind.cell.title} that is not `nn.RNN`", "concise.RNN", f"{B} x {T} x {h}",
        _gradient(lambda p, X: own.apply({"params": {"cells_0": p}}, X)[0], d, params, inputs),
        _gradient(lambda p, X: flax.apply({"params": {"cell": p}}, X), d, params, inputs), tolerance,
    )  # fmt: skip


def _summed_loss(B: int, T: int, h: int) -> Trick:
    """The output layer and the loss of a batch, with their gradients."""
    H, w, b = _drawn(T, B, h), _drawn(h, WORDS, sigma=h**-0.5), _drawn(WORDS)
    targets = jnp.array(np.random.default_rng(0).integers(0, WORDS, (T, B)))

    def plain(H: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(H @ w + b, targets).sum()

    def trick(H: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        return head.summed_loss(H, w, b, targets)

    both = [_compiled(jax.value_and_grad(each, argnums=(0, 1, 2)), H, w, b) for each in (trick, plain)]
    return Trick("the head's loss with its gradient", "head._summed_loss", f"{T * B} x {h} x {WORDS}", *both)


def _dispatch() -> Trick:
    return Trick(
        f"asynchronous dispatch off, {STEPS} single steps", "dispatch.disable_async_dispatch",
        "tanh RNN, 1 x 32", Elsewhere(single_steps, False), Elsewhere(single_steps, True),
    )  # fmt: skip


def single_steps(asynchronous: bool) -> Callable[[], Any]:
    """In a process of its own: `STEPS` single steps, which return the last logits."""
    backend = d2lrnn.backend()
    if asynchronous:
        jax.config.update("jax_cpu_enable_async_dispatch", True)
    spec = ModelSpec(28)
    learner = backend.learner(backend.build(spec, initial_parameters(spec)), TrainingSpec(), device="cpu")
    tokens = np.zeros(1, np.int32)

    def run() -> Any:
        state = learner.initial_state(1)
        for _ in range(STEPS):
            logits, state = learner.predict_step(tokens, state)
        return logits

    return run


def _forth_and_back(
    kind: Any,
    sizes: tuple[int, int, int],
    reset_after: bool = False,
    scan: Callable[..., Any] = recurrence.scan_recurrence,
    instead: Any = (),
) -> Callable[[], Any]:
    """Outputs of a layer that reads tokens, and all its gradients."""
    B, T, h = sizes
    shapes = kind.cell.shapes(28, h, reset_after=reset_after if kind.cell.reset_bias else None)
    weights = {name: _drawn(*shape, sigma=h**-0.5) for name, shape in shapes.items()}
    state = tuple(_drawn(B, h) for _ in kind.cell.states)

    def outputs(weights: Any, state: Any, tokens: Any) -> Any:
        rest = dict(weights)
        X = recurrence.project(tokens, rest.pop("w_x"), rest.pop("b"))
        return scan(kind.step, rest, state, X)[0]

    return _gradient(outputs, _drawn(T, B, h), weights, state, rest=(_tokens(B, T),), instead=instead)


def _gradient(
    function: Callable[..., Any], d: Any, *values: Any, rest: Any = (), instead: Any = ()
) -> Callable[[], Any]:
    """A function's results, and the gradients of its arguments for the gradient `d` at its results."""

    def forth_and_back(d: Any, values: Any, rest: Any) -> Any:
        result, back = jax.vjp(lambda *values: function(*values, *rest), *values)
        return result, jax.tree.leaves(back(d))

    return _compiled(forth_and_back, d, values, rest, instead=instead)


def _compiled(function: Callable[..., Any], *arguments: Any, instead: Any = ()) -> Callable[[], Any]:
    """A function of arrays, compiled with replacements for some of the library's functions."""
    with ExitStack() as stack:
        for module, name, other in instead:
            stack.enter_context(patch.object(module, name, other))
        compiled = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments))


def _drawn(*shape: int, sigma: float = 1.0) -> jax.Array:
    # Equal shapes give equal numbers.
    return jnp.asarray(np.random.default_rng(len(shape)).normal(0, sigma, shape), jnp.float32)


def _tokens(B: int, T: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 28, (T, B)), jnp.int32)
