"""Linear regression, which the chapter on sequences predicts the next value with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import optax
from flax import linen as nn

from d2lrnn_jax.module import Module, TrainState


class LinearRegression(Module):
    """A linear model: ŷ = X w + b.

    Attributes:
        lr: the learning rate.

    Example:
        >>> model = LinearRegression(lr=0.03)
        >>> X = jax.numpy.ones((16, 4))
        >>> variables = model.init(get_key(), X)
        >>> model.apply(variables, X).shape
        (16, 1)
    """

    lr: float

    def setup(self) -> None:
        """The layer; its weights are drawn from N(0, 0.01²)."""
        self.net = nn.Dense(1, kernel_init=nn.initializers.normal(0.01))

    @nn.nowrap
    def loss(self, params: Any, X: Sequence[Any], y: Any, state: TrainState) -> jax.Array:
        """Half of the mean squared error at `params`.

        Args:
            params: the parameters.
            X: the inputs, one array (B, in).
            y: the targets, (B, 1) or (B,).
            state: has the module's function, `apply_fn`.
        """
        y_hat = state.apply_fn({"params": params}, *X)
        # In the shape of the predictions: targets (B,) would be subtracted from every row of theirs.
        return optax.l2_loss(y_hat, y.reshape(y_hat.shape)).mean()

    @nn.nowrap
    def get_w_b(self, state: TrainState) -> tuple[jax.Array, jax.Array]:
        """The weights (in, 1) and the bias (1,) in a state: ``trainer.state``."""
        layer = state.params["net"]
        return layer["kernel"], layer["bias"]
