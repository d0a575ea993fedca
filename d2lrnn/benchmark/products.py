"""The matrix products that a training step cannot do without, and how many multiply-adds they are.

B = batch size, T = time steps, h = hidden units, G = gates, V = vocabulary size, E = embedding size. For
every layer:

=========================  =================================  ============================================
recurrence, forward        T products (B, h) @ (h, G·h)       each waits for the one before it
recurrence, backward       T - 1 products (B, G·h) @ (G·h, h) likewise; the state that the batch came with
                                                              needs no gradient
its weights' gradient      (h, T·B) @ (T·B, G·h)              one product, after the loop
=========================  =================================  ============================================

and for every layer but the first, whose one-hot inputs pick rows and need no product; with an embedding for
the first one, too, with E in the place of the first h,

=========================  =================================
inputs                     (T·B, h) @ (h, G·h)
their weights' gradient    (h, T·B) @ (T·B, G·h)
gradient of the inputs     (T·B, G·h) @ (G·h, h)
=========================  =================================

and once for the output layer (T·B, h) @ (h, V), (h, T·B) @ (T·B, V) and (T·B, V) @ (V, h).

A GRU that resets before the product has two products a step where others have one: (B, h) @ (h, 2·h) for the
gates, and then, of what the reset gate made of the state, (B, h) @ (h, h). There are as many multiply-adds.
A minimal gated unit has two likewise, both (B, h) @ (h, h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from d2lrnn.contract.cells import MGU
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray

_Array = TypeVar("_Array")


def multiply_adds(spec: ModelSpec, batch_size: int, num_steps: int) -> int:
    """How many multiply-adds the products of a training step are.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.

    Example:
        >>> multiply_adds(ModelSpec(10, num_hiddens=4), batch_size=2, num_steps=3)
        976
    """
    h, width, tokens = spec.num_hiddens, spec.num_gates * spec.num_hiddens, batch_size * num_steps
    recurrence = (tokens + (tokens - batch_size) + tokens) * h * width
    inputs = 3 * tokens * width * sum(_product_inputs(spec, layer) for layer in range(spec.num_layers))
    head = 3 * tokens * h * spec.vocab_size
    return spec.num_layers * recurrence + inputs + head


def _product_inputs(spec: ModelSpec, layer: int) -> int:
    """The length of the inputs of a layer that are multiplied: 0 of one-hot vectors, which pick rows."""
    return spec.num_hiddens if layer else spec.embedding_size or 0


def step_parts(spec: ModelSpec) -> tuple[int, ...]:
    """The columns of the recurrent products of one time step, which are G·h together.

    Example:
        >>> step_parts(ModelSpec(10, "gru", "scratch", num_hiddens=4))
        (8, 4)
    """
    h, width = spec.num_hiddens, spec.num_gates * spec.num_hiddens
    return (width - h, h) if spec.reset_after is False or spec.cell == MGU.name else (width,)


def shapes(spec: ModelSpec, batch_size: int, num_steps: int) -> Iterator[tuple[int, int, int]]:
    """(m, k, n) for every product (m, k) @ (k, n) of a training step, in the order in which it makes them."""
    B, T, h, V = batch_size, num_steps, spec.num_hiddens, spec.vocab_size
    width, parts, tokens = spec.num_gates * h, step_parts(spec), num_steps * batch_size
    for layer in range(spec.num_layers):
        if n := _product_inputs(spec, layer):
            yield tokens, n, width
        for _ in range(T):
            yield from ((B, h, part) for part in parts)
    yield from [(tokens, h, V), (tokens, V, h), (h, tokens, V)]
    for layer in reversed(range(spec.num_layers)):
        for _ in range(T - 1):
            yield from ((B, part, h) for part in reversed(parts))
        yield h, tokens, width
        if n := _product_inputs(spec, layer):
            yield from [(n, tokens, width), (tokens, width, n)]


def factors(
    spec: ModelSpec,
    batch_size: int,
    num_steps: int,
    left: Callable[[FloatArray], _Array],
    right: Callable[[FloatArray, int], _Array],
) -> list[tuple[_Array, _Array]]:
    """The factors of all products of `shapes`; products of one shape share them, as time steps share weights.

    The entries are drawn from N(0, 1/h): numbers that are multiplied by such weights do not shrink, and none
    is too small to be multiplied at full speed.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        left: makes the backend's array of a left factor (m, k).
        right: makes the backend's array of a right factor (k, n), given m.
    """
    random, made = np.random.default_rng(0), {}

    def drawn(rows: int, columns: int) -> FloatArray:
        return random.normal(0.0, spec.num_hiddens**-0.5, (rows, columns)).astype(spec.dtype)

    order = list(shapes(spec, batch_size, num_steps))
    for m, k, n in dict.fromkeys(order):
        made[m, k, n] = left(drawn(m, k)), right(drawn(k, n), m)
    return [made[shape] for shape in order]
