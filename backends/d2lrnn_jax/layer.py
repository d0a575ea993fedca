"""The base class of the scratch layers; a cell adds its formula (`d2lrnn_jax.scratch`)."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.book.current_edition import sole_state
from d2lrnn.contract.cells import Cell
from d2lrnn_jax.inputs import stacked, takes_tokens
from d2lrnn_jax.recurrence import Arrays, Weights, project, run_recurrence

#: The book's names of canonical parameters; the others keep their names in `d2lrnn.contract.cells`.
BOOK_NAMES = {"w_x": "W_xh", "w_h": "W_hh", "b": "b_h"}


class ScratchLayer(nn.Module):
    """A recurrent layer; a subclass gives its cell and the formula of one `step`.

    The gates lie side by side on the last axis of the parameters, G of them: ``W_xh (in, G·h)``,
    ``W_hh (h, G·h)``, ``b_h (G·h,)``; further parameters have their names in `d2lrnn.contract.cells`.

    Attributes:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights.
    """

    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01

    #: What the layer computes.
    cell: ClassVar[Cell]

    @staticmethod
    def step(X: jax.Array, state: Arrays, weights: Weights) -> tuple[Arrays, Arrays]:
        """One time step, the formula of the cell.

        Args:
            X: the projected input, ``inputs W_xh + b_h``, (B, G·h).
            state: the parts of the state, each (B, h), the output H first.
            weights: the other parameters, by canonical name: ``w_h`` and what else the cell has.

        Returns:
            The next state, and the values that a backward pass by hand needs
            (`d2lrnn_jax.recurrence.Derivative`): without one, ``()``.
        """
        raise NotImplementedError

    @nn.nowrap
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters, by canonical name."""
        return self.cell.shapes(self.num_inputs, self.num_hiddens)

    def setup(self) -> None:
        """Weights from N(0, σ²), biases zero, each an attribute of its own."""
        for name, shape in self.shapes().items():
            own = BOOK_NAMES.get(name, name)
            initial = nn.initializers.normal(self.sigma) if len(shape) == 2 else nn.initializers.zeros
            setattr(self, own, self.param(own, initial, shape))

    def initial_state(self, batch_size: int) -> Any:
        """Zeros (B, h); of a cell with several states a tuple of them."""
        zeros = jnp.zeros((batch_size, self.num_hiddens), self.W_hh.dtype)
        return alone((zeros,) * len(self.cell.states))

    @takes_tokens
    def __call__(self, inputs: jax.Array, state: Any = None) -> tuple[jax.Array, Any]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B); also a list of T arrays.
            state: (B, h), of a cell with several states a tuple of them; None is zeros.

        Returns:
            Outputs (T, B, h) and the final state.
        """
        inputs = stacked(inputs)
        if state is None:
            state = self.initial_state(inputs.shape[1])
        parts = as_parts(sole_state(state) if len(self.cell.states) == 1 else state)
        weights = {name: getattr(self, BOOK_NAMES.get(name, name)) for name in self.shapes()}
        X = project(inputs, weights.pop("w_x"), weights.pop("b"))
        outputs, parts = run_recurrence(self.step, weights, parts, X)
        return outputs, alone(parts)


def as_parts(state: Any) -> Arrays:
    """The parts of a layer's state, in a tuple."""
    return tuple(state) if isinstance(state, (tuple, list)) else (state,)


def alone(parts: Arrays) -> Any:
    """The inverse of `as_parts`: a state of one part is that part."""
    return parts if len(parts) > 1 else parts[0]
