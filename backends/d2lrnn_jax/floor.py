"""The benchmark's floor: the time of the matrix products alone that no training step can avoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from d2lrnn.benchmark.products import step_parts
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn_jax.devices import devices, native_device
from d2lrnn_jax.precision import precision
from d2lrnn_jax.recurrence import times_transposed


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    One compiled function, whose loops are scans, as in a training step. There is no activation and no update.
    In place of the state that the gates would compute, h columns of a product go from step to step: of the
    same size, and available no sooner. The weights are drawn so that a state keeps its norm; one that shrank
    would end in denormal numbers, whose products are slow. Every product is either the input of a later one
    or returned, so that XLA can eliminate none.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.contract.protocols.Backend.learner`.

    Returns:
        A function without arguments that runs them all, once, and waits until they are done.

    Example:
        >>> floor(ModelSpec(28, num_hiddens=512), batch_size=32, num_steps=35)()
    """
    B, T, h, V, L = batch_size, num_steps, spec.num_hiddens, spec.vocab_size, spec.num_layers
    width = spec.num_gates * h
    # The columns of a step's first product; a second one, if there is one, is the candidate's.
    split = step_parts(spec)[0]
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return random.normal(0.0, h**-0.5, shape).astype(spec.dtype)

    def forward_step(w_h: jax.Array, H: jax.Array) -> jax.Array:
        gates = product(H, w_h[:, :split])
        if split < width:
            gates = jnp.concatenate([gates, product(gates[:, :h], w_h[:, split:])], axis=1)
        return gates

    def backward_step(w_h: jax.Array, d_gates: jax.Array) -> jax.Array:
        if split < width:
            d_gates = d_gates.at[:, :h].set(product(d_gates[:, split:], w_h[:, split:], transposed=True))
        return product(d_gates[:, :split], w_h[:, :split], transposed=True)

    def recur(w_h: jax.Array, H: jax.Array) -> jax.Array:
        def body(H: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            gates = forward_step(w_h, H)
            return gates[:, -h:], gates

        return lax.scan(body, H, None, length=T)[1]

    def recur_back(w_h: jax.Array, d_gates: jax.Array) -> jax.Array:
        def body(d_gates: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            d_previous = d_gates.at[:, :h].set(backward_step(w_h, d_gates))
            return d_previous, d_previous

        before = lax.scan(body, d_gates, None, length=T - 1)[1]
        return jnp.concatenate([d_gates[None], before])

    @jax.jit
    def run(given: dict[str, Any]) -> Any:
        w_h, w_x, head, results = given["w_h"], given["w_x"], given["head"], []
        H, rows = given["H"], []
        for layer in range(L):
            gates = recur(w_h, H)
            rows.append(gates[:, :, -h:].reshape(T * B, h))
            # The layer above starts from the last rows of the projection, so that it depends on it.
            if layer + 1 < L:
                projected = product(rows[-1], w_x)
                results.append(projected)
                H = projected[-B:, :h]
        logits = product(rows[-1], head)
        d_rows = product(logits, head.T)
        results.append(product(rows[-1].T, logits))
        for layer in reversed(range(L)):
            d_last = jnp.concatenate([d_rows[-B:]] * spec.num_gates, axis=1)
            d_gates = recur_back(w_h, d_last).reshape(T * B, width)
            results.append(product(rows[layer].T, d_gates))
            if layer:
                # Not the rows of this layer: XLA would compute two equal products once.
                results.append(product(rows[layer - 1].T, d_gates))
                d_rows = product(d_gates, w_x.T)
        return results, d_rows

    on = native_device(choose_device(device, devices()).name)
    with precision(spec.dtype):
        values = {"w_h": drawn(h, width), "w_x": drawn(h, width), "head": drawn(h, V), "H": drawn(B, h)}
        given = jax.device_put(values, on)

    def floor_once() -> None:
        with precision(spec.dtype), jax.default_matmul_precision("highest"):
            jax.block_until_ready(run(given))

    return floor_once


def product(left: jax.Array, right: jax.Array, *, transposed: bool = False) -> jax.Array:
    """``left @ right`` or ``left @ right.T``; a function of its own: a test counts the calls."""
    return times_transposed(left, right) if transposed else left @ right
