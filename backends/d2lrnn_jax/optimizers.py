"""The optimisers of `d2lrnn.contract.optimizers`, from optax' parts where these have the same formula.

A transformation computes the direction of a step. The rate that multiplies it is an input of the compiled
step (`updated`). optax' own differ in this: `optax.rmsprop` has epsilon inside the root by default,
`optax.adagrad` always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from d2lrnn.contract import optimizers


def sgd(o: optimizers.SGD) -> optax.GradientTransformation:
    """See `d2lrnn.contract.optimizers.SGD`."""
    momentum = optax.trace(o.momentum, o.nesterov) if o.momentum else optax.identity()
    return optax.chain(_decayed(o), momentum)


def adam(o: optimizers.Adam) -> optax.GradientTransformation:
    """See `d2lrnn.contract.optimizers.Adam`."""
    return optax.chain(_decayed(o), _scale_by_adam(o))


def adamw(o: optimizers.AdamW) -> optax.GradientTransformation:
    """See `d2lrnn.contract.optimizers.AdamW`: p - η λ p and Adam's step are one sum."""
    return optax.chain(_scale_by_adam(o), _decayed(o))


def _scale_by_adam(o: optimizers.Adam) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, with more digits of 1 - βᵗ in float32.

    optax rounds 0.999 before it subtracts it from 1: the first corrections are wrong by 1 part in 10⁵.
    """

    def update(gradient: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, Any]:
        t = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(gradient, state.mu, o.beta1, 1)
        nu = optax.tree.update_moment(gradient, state.nu, o.beta2, 2)
        m_scale, v_scale = 1 / _one_minus_power(o.beta1, t), 1 / _one_minus_power(o.beta2, t)
        direction = jax.tree.map(
            lambda m, v: (m * m_scale).astype(m.dtype)
            / (jnp.sqrt((v * v_scale).astype(v.dtype)) + o.epsilon),
            mu, nu,
        )  # fmt: skip
        return direction, optax.ScaleByAdamState(t, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _one_minus_power(beta: float, t: jax.Array) -> jax.Array:
    """1 - βᵗ as -expm1(t log β), the logarithm in float64."""
    return -jnp.expm1(t * math.log(beta)) if beta else jnp.ones(())


def rmsprop(o: optimizers.RMSprop) -> optax.GradientTransformation:
    """See `d2lrnn.contract.optimizers.RMSprop`."""
    momentum = optax.trace(o.momentum) if o.momentum else optax.identity()
    return optax.chain(_decayed(o), optax.scale_by_rms(o.alpha, o.epsilon, eps_in_sqrt=False), momentum)


def adagrad(o: optimizers.Adagrad) -> optax.GradientTransformation:
    """See `d2lrnn.contract.optimizers.Adagrad`: `optax.scale_by_rss` with epsilon beside the root."""

    def init(params: Any) -> optax.ScaleByRssState:
        return optax.ScaleByRssState(optax.tree.zeros_like(params))

    def update(gradient: Any, state: optax.ScaleByRssState, params: Any = None) -> tuple[Any, Any]:
        sums = jax.tree.map(lambda v, g: v + g * g, state.sum_of_squares, gradient)
        step = jax.tree.map(lambda v, g: g / (jnp.sqrt(v) + o.epsilon), sums, gradient)
        return step, optax.ScaleByRssState(sums)

    return optax.chain(_decayed(o), optax.GradientTransformation(init, update))


def _decayed(o: optimizers.Optimizer) -> optax.GradientTransformation:
    return optax.add_decayed_weights(o.weight_decay) if o.weight_decay else optax.identity()


class Rule(NamedTuple):
    """An optimiser on optax.

    Attributes:
        transformation: from the contract's value to the transformation of the clipped gradient.
        fields: what optax calls the slots in its state.
    """

    transformation: Callable[[Any], optax.GradientTransformation]
    fields: Mapping[str, str]


#: By the name of the optimiser.
RULES: dict[str, Rule] = {
    optimizers.SGD.name: Rule(sgd, {"m": "trace"}),
    optimizers.Adam.name: Rule(adam, {"m": "mu", "v": "nu"}),
    optimizers.AdamW.name: Rule(adamw, {"m": "mu", "v": "nu"}),
    optimizers.RMSprop.name: Rule(rmsprop, {"v": "nu", "m": "trace"}),
    optimizers.Adagrad.name: Rule(adagrad, {"v": "sum_of_squares"}),
}


def initial_state(optimizer: optimizers.Optimizer, params: Any) -> Any:
    """The state of the transformation before the first step: zeros."""
    return RULES[optimizer.name].transformation(optimizer).init(params)


def updated(
    optimizer: optimizers.Optimizer, params: Any, gradient: Any, state: Any, rate: Any, step: Any
) -> tuple[Any, Any]:
    """One step of an optimiser, for a compiled function.

    Args:
        optimizer: which one; what is compiled depends on it.
        params: the parameters.
        gradient: after clipping.
        state: see `initial_state`.
        rate: η.
        step: the number of steps before this one, which optax' own count is set to.

    Returns:
        The parameters and the state after the step.
    """
    if optax.tree.get(state, "count") is not None:
        state = optax.tree.set(state, count=jnp.asarray(step, jnp.int32))
    direction, state = RULES[optimizer.name].transformation(optimizer).update(gradient, state, params)
    return jax.tree.map(lambda p, d: p - rate * d, params, direction), state


def slots(optimizer: optimizers.Optimizer, state: Any) -> dict[str, Any]:
    """The slots of the optimiser: trees like the parameters'."""
    fields = RULES[optimizer.name].fields
    return {slot: optax.tree.get(state, fields[slot]) for slot in optimizer.slots}


def with_slots(optimizer: optimizers.Optimizer, state: Any, trees: Mapping[str, Any]) -> Any:
    """`state` with these trees in place of its own; the inverse of `slots`."""
    fields = RULES[optimizer.name].fields
    return optax.tree.set(state, **{fields[slot]: tree for slot, tree in trees.items()}) if trees else state
