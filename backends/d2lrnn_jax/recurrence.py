"""Running a formula over time, with a backward pass by hand where it has one.

JAX differentiates the `jax.lax.scan` of `plain_scan` by itself. But then every step adds its share of a
weight's gradient to an array of the weight's size, and more intermediate values are kept than are needed.
`scan_recurrence` keeps the factors of its backward scan, collects the gradients at the pre-activations, and
computes each weight's gradient as one matrix product after that scan.

The formulas are in `d2lrnn_jax.scratch`, their derivatives in `d2lrnn_jax.derivatives`. T = time steps,
B = batch size, h = hidden units, G = gates; X = x w_x + b (B, G·h) is a step's projected input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import jax
from jax import lax
from jax import numpy as jnp

Arrays: TypeAlias = tuple[jax.Array, ...]

#: The weights of one layer by canonical name, without w_x and b: ``w_h`` and what else the cell has.
Weights: TypeAlias = dict[str, jax.Array]

#: What the backward pass needs: weights, H before the first step, outputs, and what each step kept.
_Residuals: TypeAlias = tuple[Weights, jax.Array, jax.Array, Arrays]


class Formula(Protocol):
    """One step of a cell: a module-level function or a static method, so that it is compiled once."""

    def __call__(self, X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """The next state, whose first part H (B, h) is the output, and what a `Derivative` keeps of the step.

        A formula that JAX differentiates has nothing to keep: ``()``.
        """


class Derivative(NamedTuple):
    """The backward pass of a `Formula`.

    Attributes:
        keep: ``(state_previous, state, activations) -> kept``, where `activations` is the second result of
            the formula: what `step_back` needs of a step, if possible the factors of the gradients, so that
            the backward pass only multiplies. The first of them has the shape of X, and is written over it.
        step_back: ``(weights, d_state, H_previous, kept) -> (d_state_previous, (d_hidden, …))``, where
            d_hidden is the gradient at the product of the state, followed by whatever else `gradients`
            needs.
        gradients: ``(H_previous, kept, (d_hidden, …)) -> (d_weights, dX)``, all steps at once, (T, B, …).
        in_place: whether d_hidden is written over the first of what was kept: that one is then needed for
            nothing else, and is not given to `gradients`.
    """

    keep: Callable[[Arrays, Arrays, Arrays], Arrays]
    step_back: Callable[[Weights, Arrays, jax.Array, Arrays], tuple[Arrays, Arrays]]
    gradients: Callable[[jax.Array, Arrays, Arrays], tuple[Weights, jax.Array]]
    in_place: bool = False


def differentiated_by(derivative: Derivative) -> Callable[[Formula], Formula]:
    """Marks a formula with its backward pass by hand.

    The function is marked, not the cell: a subclass's own formula does not inherit the derivative.
    """

    def mark(formula: Formula) -> Formula:
        formula.derivative = derivative  # type: ignore[attr-defined]  # a mark on a function
        return formula

    return mark


def run_recurrence(
    formula: Formula, weights: Weights, state: Arrays, inputs: jax.Array
) -> tuple[jax.Array, Arrays]:
    """Runs a formula over time.

    Args:
        formula: the step.
        weights: those of the step, by canonical name.
        state: the parts of the initial state, each (B, h).
        inputs: projected inputs (T, B, n); see `project`.

    Returns:
        The outputs (T, B, h) and the final state.
    """
    if len(inputs) == 1:
        state, _ = formula(inputs[0], state, weights)
        return state[0][None], state
    scan = scan_recurrence if hasattr(formula, "derivative") else plain_scan
    return scan(formula, weights, state, inputs)


def plain_scan(
    formula: Formula, weights: Weights, state: Arrays, inputs: jax.Array
) -> tuple[jax.Array, Arrays]:
    """`run_recurrence`, differentiated by JAX."""

    def body(state: Arrays, X: jax.Array) -> tuple[Arrays, jax.Array]:
        state, _ = formula(X, state, weights)
        return state, state[0]

    state, outputs = lax.scan(body, state, inputs)
    return outputs, state


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan_recurrence(
    formula: Formula, weights: Weights, state: Arrays, inputs: jax.Array
) -> tuple[jax.Array, Arrays]:
    """`run_recurrence`, differentiated by hand."""
    return plain_scan(formula, weights, state, inputs)


def _derivative(formula: Formula) -> Derivative:
    derivative: Derivative = formula.derivative  # type: ignore[attr-defined]  # see `differentiated_by`
    return derivative


def _forward(
    formula: Formula, weights: Weights, state: Arrays, inputs: jax.Array
) -> tuple[tuple[jax.Array, Arrays], _Residuals]:
    keep = _derivative(formula).keep

    def body(before: Arrays, spent: Arrays, _: Arrays) -> tuple[Arrays, Arrays]:
        (X,) = spent
        after, activations = formula(X, before, weights)
        return after, (*keep(before, after, activations), after[0])

    final, (*kept, outputs) = scan_in_place(body, state, (inputs,), ())
    return (outputs, final), (weights, state[0], outputs, tuple(kept))


def _backward(
    formula: Formula, residuals: _Residuals, d_results: tuple[jax.Array, Arrays]
) -> tuple[Weights, Arrays, jax.Array]:
    _, step_back, gradients, in_place = _derivative(formula)
    weights, H_0, outputs, kept = residuals
    d_outputs, d_final = d_results
    spent, kept = (kept[:1], kept[1:]) if in_place else ((), kept)

    def body(d_state: Arrays, spent: Arrays, read: Arrays) -> tuple[Arrays, Arrays]:
        d_output, H_previous, *kept = read
        d_state = (d_state[0] + d_output, *d_state[1:])
        return step_back(weights, d_state, H_previous, (*spent, *kept))

    H_previous = jnp.concatenate([H_0[None], outputs[:-1]])
    d_state, results = scan_in_place(body, d_final, spent, (d_outputs, H_previous, *kept), reverse=True)
    d_weights, dX = gradients(H_previous, kept, results)
    return d_weights, d_state, dX


scan_recurrence.defvjp(_forward, _backward)


# benchmarks/tricks: jax, results written over what a step was given
def scan_in_place(
    body: Callable[[Arrays, Arrays, Arrays], tuple[Arrays, Arrays]],
    carry: Arrays,
    spent: Arrays,
    read: Arrays,
    *,
    reverse: bool = False,
) -> tuple[Arrays, Arrays]:
    """`lax.scan`, with the first results written over what the step was given.

    `lax.scan` first fills the memory for its results with zeros, and XLA often copies these zeros once more.

    Args:
        body: ``(carry, spent, read) -> (carry, results)`` for one time step.
        carry: what goes from step to step.
        spent: arrays (T, …). As many of the results, the first ones, have their shapes and take their place.
        read: further arrays (T, …).
        reverse: whether to go from the last step to the first.

    Returns:
        The last carry, and the results of all steps (T, …).
    """

    def step(
        held: tuple[Arrays, Arrays], values: tuple[jax.Array, Arrays]
    ) -> tuple[tuple[Arrays, Arrays], Arrays]:
        (carry, arrays), (t, read_here) = held, values
        spent_here = tuple(lax.dynamic_index_in_dim(array, t, keepdims=False) for array in arrays)
        carry, results = body(carry, spent_here, read_here)
        arrays = tuple(
            lax.dynamic_update_index_in_dim(array, result, t, axis=0)
            for array, result in zip(arrays, results, strict=False)
        )
        return (carry, arrays), results[len(arrays) :]

    times = jnp.arange(len((*spent, *read)[0]))
    (carry, arrays), others = lax.scan(step, (carry, spent), (times, read), reverse=reverse)
    return carry, (*arrays, *others)


# benchmarks/tricks: jax, the larger factor on the left
def times_transposed(d: jax.Array, W: jax.Array) -> jax.Array:
    """The product ``d @ W.T``: (B, n), (m, n) -> (B, m).

    XLA packs the right factor anew at every step: so W, if it is the larger one, becomes the left factor.
    """
    if len(W) <= len(d):
        return d @ W.T
    swapped = lax.dot_general(W, d, (((1,), (1,)), ((), ())))
    # Without the barrier XLA would swap them back.
    return lax.optimization_barrier(swapped).T


# benchmarks/tricks: jax, a product over steps and batch as one of matrices
def product_over_time(left: jax.Array, right: jax.Array) -> jax.Array:
    """Σ_t left_tᵀ right_t as one matrix product: (T, B, m), (T, B, n) -> (m, n)."""
    return _rows(left).T @ _rows(right)


def _rows(x: jax.Array) -> jax.Array:
    """(T, B, n) -> (T·B, n): XLA takes longer for a product that sums over two axes of its operands."""
    return x.reshape(-1, x.shape[-1])


def project(inputs: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
    """All inputs times W, at once for all steps, plus b.

    Args:
        inputs: real vectors (T, B, in), or token indices (T, B): a one-hot vector times W is a row of it.
        W: (in, n).
        b: (n,).

    Returns:
        (T, B, n).
    """
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        if inputs.size < len(W):
            return jnp.take(W, inputs, axis=0, mode="clip") + b
        # benchmarks/tricks: jax, the bias added before rows are looked up
        # Fewer rows than tokens: adding the bias to the rows is cheaper, forward and backward.
        return jnp.take(W + b, inputs, axis=0, mode="clip")
    # benchmarks/tricks: jax, inputs of all steps as rows
    return (_rows(inputs) @ W + b).reshape(*inputs.shape[:-1], -1)
