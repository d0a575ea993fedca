"""The recurrence over time steps: a cell's formula, run over a sequence and differentiated.

All inputs of a layer are projected at once, before the recurrence (`project`). What remains of a cell is a
`Step`: from the projected inputs of one time step and the state before it to the state after it. The step
multiplies the state by weights only through the functions that it is given, so that `looped_recurrence` can
record the products: its backward pass leaves the weight gradients out of the loop and computes them as one
matrix product at the end, where automatic differentiation adds up one product for each step. With small
weights such sums cost less than a loop, and `plain_recurrence` leaves them to the framework.

T = time steps, B = batch size, h = hidden units, G = gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

Tensor: TypeAlias = Any

#: Rows of a table up to which the gradient of a look-up is a product with one-hot vectors; above, a sum.
_FEW_ROWS = 64

#: Steps, and numbers in the weights of a layer, up to which a recurrence is unrolled instead of a loop.
# benchmarks/tricks: tensorflow, weight gradients after the loop; steps without a loop
_FEW_STEPS, _FEW_WEIGHTS = 64, 1 << 17

#: The state of one layer: ``(H,)``, for an LSTM ``(H, C)``, each (B, h). The first part is the output.
LayerState: TypeAlias = tuple[Tensor, ...]

#: The factor of a product in a step: ``(W,)`` for ``left @ W``, or ``(W, b)`` for ``left @ W + b``.
Weight: TypeAlias = tuple[Tensor, ...]

#: The cell's vectors (h,), by name.
Vectors: TypeAlias = Mapping[str, Tensor]

#: ``step(X, state, *products, **vectors)``: projected inputs (B, G·h), state -> state; ``products[k](left)``
#: is the product with the k-th weight, to be called once in a step.
Step: TypeAlias = Callable[..., LayerState]


def project(inputs: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """``inputs @ W + b`` for all time steps at once.

    Args:
        inputs: real vectors (T, B, in), or token indices (T, B), which stand for one-hot vectors: such a
            vector times W is a row of it.
        W: (in, G·h).
        b: (G·h,).

    Returns:
        (T, B, G·h).
    """
    if inputs.dtype.is_integer:
        return look_up(W + b, inputs)
    return tf.tensordot(inputs, W, axes=1) + b


def look_up(table: Tensor, tokens: Tensor) -> Tensor:
    """``table[tokens]``. With few rows, each used often, its gradient is faster as a product.

    Args:
        table: (V, n).
        tokens: indices in [0, V), of any shape.

    Returns:
        (…, n), with the shape of `tokens` in front.
    """
    if table.shape[0] > _FEW_ROWS:
        return tf.gather(table, tokens)

    @tf.custom_gradient
    def rows(table: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def gradient(d_rows: Tensor) -> Tensor:
            one_hot = tf.one_hot(tf.reshape(tokens, (-1,)), table.shape[0], dtype=table.dtype)
            return tf.matmul(one_hot, _rows(d_rows), transpose_a=True)

        return tf.gather(table, tokens), gradient

    return rows(table)


def plain_recurrence(
    step: Step,
    projected: Tensor,
    state: LayerState,
    weights: Sequence[Weight],
    vectors: Vectors | None = None,
) -> tuple[Tensor, LayerState]:
    """`recurrence`, unrolled, and differentiated by the framework.

    T must be known when the graph is traced: every step gets nodes of its own.
    """
    products = [lambda left, weight=weight: _affine(left, *weight) for weight in weights]
    outputs = []
    for X in tf.unstack(projected):
        state = step(X, state, *products, **(vectors or {}))
        outputs.append(state[0])
    return tf.stack(outputs), tuple(state)


def recurrence(
    step: Step,
    projected: Tensor,
    state: LayerState,
    weights: Sequence[Weight],
    vectors: Vectors | None = None,
) -> tuple[Tensor, LayerState]:
    """Runs `step` over all time steps, in the faster of two ways.

    Args:
        step: see `Step`.
        projected: (T, B, G·h).
        state: the state before the first step, each part (B, h).
        weights: the weights of the step's products.
        vectors: the step's further arguments, by name.

    Returns:
        The first part of the state after every step (T, B, h), and the state after the last.

    Example:
        >>> def step(X, state, product):
        ...     return (tf.tanh(X + product(state[0])),)
        >>> outputs, (H,) = recurrence(step, tf.ones((5, 2, 3)), (tf.zeros((2, 3)),), [(tf.eye(3),)])
        >>> outputs.shape, H.shape
        (TensorShape([5, 2, 3]), TensorShape([2, 3]))
    """
    num_steps = projected.shape[0]
    num_weights = sum(weight[0].shape.num_elements() for weight in weights)
    few = num_steps is not None and num_steps <= _FEW_STEPS and num_weights <= _FEW_WEIGHTS
    run = plain_recurrence if few or num_steps == 1 else looped_recurrence
    return run(step, projected, state, weights, vectors)


def looped_recurrence(
    step: Step,
    projected: Tensor,
    state: LayerState,
    weights: Sequence[Weight],
    vectors: Vectors | None = None,
) -> tuple[Tensor, LayerState]:
    """`recurrence` as a loop with a custom backward pass (first derivatives only)."""
    structure = (tuple(state), tuple(weights), dict(vectors or {}))
    # Tensors, not variables: a custom gradient covers its arguments only.
    arguments = [tf.convert_to_tensor(part) for part in tf.nest.flatten((projected, structure))]

    @tf.custom_gradient
    def run(projected: Tensor, *flat: Tensor) -> tuple[tuple[Tensor, ...], Callable[..., Any]]:
        state, weights, vectors = tf.nest.pack_sequence_as(structure, flat)
        history, products, final = _forward(step, projected, state, weights, vectors)

        def gradient(d_outputs: Tensor, *d_final: Tensor) -> tuple[Tensor, ...]:
            d_projected, *others = _backward(
                step, projected, weights, vectors, history, products, d_outputs, d_final
            )
            return d_projected, *tf.nest.flatten(others)

        return (history[0][1:], *final), gradient

    outputs, *final = run(*arguments)
    return outputs, tuple(final)


def _forward(
    step: Step, projected: Tensor, state: LayerState, weights: Sequence[Weight], vectors: Vectors
) -> tuple[list[Tensor], list[Tensor], LayerState]:
    """The states before the first step and after each (T + 1, B, h), products (T, B, n), the last state."""
    num_steps = tf.shape(projected)[0]
    history = [_array(num_steps + 1, part).write(0, part) for part in state]
    kept = [_array(num_steps, state[0] @ weight[0]) for weight in weights]

    def body(t: Tensor, history: list[Any], kept: list[Any], state: LayerState) -> tuple[Any, ...]:
        results: dict[int, Tensor] = {}

        def product(k: int) -> Callable[[Tensor], Tensor]:
            def multiply(left: Tensor) -> Tensor:
                results[k] = _affine(left, *weights[k])
                return results[k]

            return multiply

        state = step(projected[t], state, *map(product, range(len(weights))), **vectors)
        history = [array.write(t + 1, part) for array, part in zip(history, state, strict=True)]
        kept = [array.write(t, results[k]) for k, array in enumerate(kept)]
        return t + 1, history, kept, tuple(state)

    _, history, kept, state = tf.while_loop(
        lambda t, *_: t < num_steps,
        body,
        (tf.constant(0), history, kept, tuple(state)),
        maximum_iterations=num_steps,
    )
    return [array.stack() for array in history], [array.stack() for array in kept], state


def _backward(
    step: Step,
    projected: Tensor,
    weights: Sequence[Weight],
    vectors: Vectors,
    history: Sequence[Tensor],
    products: Sequence[Tensor],
    d_outputs: Tensor,
    d_final: LayerState,
) -> tuple[Tensor, LayerState, list[Weight], Vectors]:
    """The gradients at the projected inputs, at the first state, of the weights and of the vectors.

    The loop differentiates one step at a time, with its products taken from the forward pass, and collects
    what each product multiplied and the gradient at its result.
    """
    num_steps = tf.shape(projected)[0]
    # Where a step only adds X to a product, both have the same gradient, and it is stored once.
    added_to: int | None = None
    # The H before each step is in the history already: only other factors, such as R ∘ H, are collected.
    own_factors: list[int] = []
    d_projected = _array(num_steps, projected[0])
    lefts = [_array(num_steps, history[0][0]) for _ in weights]
    d_products = [_array(num_steps, product[0]) for product in products]
    transposed = [tf.transpose(weight[0]) for weight in weights]

    def body(
        t: Tensor,
        d_projected: Any,
        lefts: list[Any],
        d_products: list[Any],
        d_state: LayerState,
        d_vectors: Vectors,
    ) -> tuple[Any, ...]:
        nonlocal added_to, own_factors
        left: dict[int, Tensor] = {}
        results: dict[int, Tensor] = {}

        def product(k: int) -> Callable[[Tensor], Tensor]:
            @tf.custom_gradient
            def restore(factor: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
                return products[k][t], lambda d: tf.matmul(d, transposed[k])

            def multiply(factor: Tensor) -> Tensor:
                left[k], results[k] = factor, restore(factor)
                return results[k]

            return multiply

        X, state = projected[t], tuple(part[t] for part in history)
        with tf.GradientTape() as tape:
            tape.watch((X, state, vectors))
            after = step(X, state, *map(product, range(len(weights))), **vectors)
        d_state = (d_state[0] + d_outputs[t], *d_state[1:])
        d_X, d_state, d_results, d_own = tape.gradient(
            after,
            (X, state, results, vectors),
            output_gradients=d_state,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        d_vectors = {name: d + d_own[name] for name, d in d_vectors.items()}
        added_to = next((k for k, d in d_results.items() if d is d_X), None)
        if added_to is None:
            d_projected = d_projected.write(t, d_X)
        own_factors = [k for k in left if left[k] is not state[0]]
        lefts = [array.write(t, left[k]) if k in own_factors else array for k, array in enumerate(lefts)]
        d_products = [array.write(t, d_results[k]) for k, array in enumerate(d_products)]
        return t - 1, d_projected, lefts, d_products, tuple(d_state), d_vectors

    d_vectors = {name: tf.zeros_like(vector) for name, vector in vectors.items()}
    _, d_projected, lefts, d_products, d_state, d_vectors = tf.while_loop(
        lambda t, *_: t >= 0,
        body,
        (num_steps - 1, d_projected, lefts, d_products, tuple(d_final), d_vectors),
        maximum_iterations=num_steps,
    )
    collected = [array.stack() for array in d_products]
    d_weights: list[Weight] = []
    for k, (weight, d_product) in enumerate(zip(weights, collected, strict=True)):
        left = lefts[k].stack() if k in own_factors else history[0][:-1]
        d_matrix = tf.matmul(_rows(left), _rows(d_product), transpose_a=True)
        d_weights.append((d_matrix, tf.reduce_sum(d_product, axis=(0, 1)))[: len(weight)])
    d_inputs = d_projected.stack() if added_to is None else collected[added_to]
    return d_inputs, d_state, d_weights, d_vectors


def _affine(left: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    return tf.matmul(left, W) if b is None else tf.matmul(left, W) + b


def _array(size: Tensor, element: Tensor) -> tf.TensorArray:
    """A `tf.TensorArray` of `size` tensors like `element`."""
    return tf.TensorArray(element.dtype, size, element_shape=element.shape, clear_after_read=False)


def _rows(tensor: Tensor) -> Tensor:
    """(T, B, n) to (T·B, n)."""
    return tf.reshape(tensor, (-1, tensor.shape[-1]))
