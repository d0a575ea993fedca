"""The book's `Module` and `Classifier` on flax.linen.

A module holds no parameters: the methods of the book's JAX tab take them, and a `TrainState` that has the
module's function (``state.apply_fn``) and the dropout key.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial
from typing import Any

import jax
import optax
from flax import linen as nn
from flax.training import train_state
from jax import numpy as jnp

from d2lrnn.book import current_edition as book
from d2lrnn.book.figures import ProgressBoard


class TrainState(train_state.TrainState):
    """flax' `TrainState`, parameters and optimizer state, with a dropout key.

    Attributes:
        dropout_rng: the random key of this step's dropout.
    """

    dropout_rng: jax.Array


class Module(book.Module, nn.Module):
    """A `flax.linen.Module` with the book's steps and board; see `d2lrnn.book.current_edition.Module`.

    Its hyperparameters are fields, as in flax. Two modules with equal fields are equal, whatever their boards
    show.

    Example:
        >>> class Linear(Module):
        ...     lr: float
        ...     def setup(self): self.net = nn.Dense(1)
        >>> model = Linear(lr=0.1)
        >>> params = model.apply_init([jnp.ones((2, 3))], key=get_key())
        >>> model.apply(params, jnp.ones((2, 3))).shape
        (2, 1)
    """

    plot_train_per_epoch: int = field(default=2, init=False)
    plot_valid_per_epoch: int = field(default=1, init=False)
    board: ProgressBoard = field(
        default_factory=ProgressBoard, init=False, repr=False, compare=False, hash=False
    )

    def forward(self, X: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """``self.net(X, …)``."""
        return self.net(X, *args, **kwargs)

    def __call__(self, X: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """Calls `forward`, which a chapter's cells define."""
        return self.forward(X, *args, **kwargs)

    @nn.nowrap
    def loss(self, params: Any, X: Sequence[Any], y: Any, state: TrainState) -> Any:
        """The mean loss of a batch at `params`.

        Raises:
            NotImplementedError: the model has no loss of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method loss(self, params, X, y, state)")

    @nn.nowrap
    def training_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> tuple[Any, Any]:
        """The loss of a batch ``(inputs …, targets)``, and its gradient at `params`."""
        loss, gradient = jax.value_and_grad(self.loss)(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=True)
        return loss, gradient

    @nn.nowrap
    def validation_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> Any:
        """The loss of a batch; plots it."""
        loss = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        return loss

    @nn.nowrap
    def apply_init(self, dummy_input: Sequence[Any], key: Any) -> Any:
        """The module's initial variables for inputs of these shapes: ``{"params": …}``.

        Args:
            dummy_input: the inputs.
            key: a random key, or a dictionary of them.
        """
        # Compiled, as XLA leaves out what the parameters do not depend on: the model itself does not run.
        return jax.jit(self.init)(key, *dummy_input)

    @nn.nowrap
    def configure_optimizers(self) -> optax.GradientTransformation:
        """Stochastic gradient descent at the rate ``self.lr``."""
        return optax.sgd(self.lr)


class Classifier(Module):
    """A model whose outputs are the logits of classes, the last axis."""

    @nn.nowrap
    def loss(
        self, params: Any, X: Sequence[Any], Y: Any, state: TrainState, averaged: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Cross-entropy in nats, and an empty dictionary: the book's auxiliary data.

        Args:
            params: the parameters.
            X: the inputs.
            Y: classes (…).
            state: has the module's function, `apply_fn`, and the dropout key.
            averaged: whether to take the mean; else there is one loss for every prediction.
        """
        losses = _cross_entropy(state.apply_fn, params, X, Y, state.dropout_rng, averaged)
        return losses, {}

    @nn.nowrap
    def accuracy(
        self, params: Any, X: Sequence[Any], Y: Any, state: TrainState, averaged: bool = True
    ) -> jax.Array:
        """The share of predictions whose largest logit is the class in Y; or for every one 0 or 1."""
        return _accuracy(state.apply_fn, params, X, Y, averaged)

    @nn.nowrap
    def training_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> tuple[Any, Any]:
        """The loss of a batch with the auxiliary data, and the gradient at `params`."""
        value, gradient = jax.value_and_grad(self.loss, has_aux=True)(params, batch[:-1], batch[-1], state)
        self.plot("loss", value[0], train=True)
        return value, gradient

    @nn.nowrap
    def validation_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> jax.Array:
        """Loss and accuracy of a batch."""
        loss, _ = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(params, batch[:-1], batch[-1], state), train=False)
        return loss

    @nn.nowrap
    def layer_summary(self, X_shape: Sequence[int], key: Any = None) -> None:
        """Prints the output shape of each layer of ``self.net``, an `nn.Sequential`, for zeros as inputs."""
        X = jnp.zeros(X_shape)
        bound = self.bind(self.init(get_key() if key is None else key, X))
        for layer in bound.net.layers:
            X = layer(X)
            print(f"{type(layer).__name__} output shape:\t {X.shape}")


def compiled_apply(model: nn.Module) -> Callable[..., Any]:
    """``model.apply``, compiled.

    Every training gets its own function: modules with the same fields are equal, but methods may have been
    replaced in between (`add_to_class`), and a function from before would run the old ones.
    """

    @partial(jax.jit, static_argnames=("method", "mutable"))
    def apply(variables: Any, *args: Any, **options: Any) -> Any:
        return model.apply(variables, *args, **options)

    return apply


def get_seed() -> int:
    """A seed drawn from Python's generator, which `seed_everything` seeds."""
    return random.randint(0, 1_000_000)


def get_key() -> jax.Array:
    """A new random key, from `get_seed`.

    Example:
        >>> list(RNNScratch(28, 32).init(get_key(), jnp.ones((5, 2, 28)))["params"])
        ['W_xh', 'W_hh', 'b_h']
    """
    return jax.random.key(get_seed())


@partial(jax.jit, static_argnums=(0, 5))
def _cross_entropy(
    apply: Callable[..., Any], params: Any, X: Sequence[Any], Y: jax.Array, dropout: Any, averaged: bool
) -> jax.Array:
    logits = apply({"params": params}, *X, mutable=False, rngs={"dropout": dropout})
    logits = logits.reshape(-1, logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, Y.reshape(-1))
    return losses.mean() if averaged else losses


@partial(jax.jit, static_argnums=(0, 4))
def _accuracy(
    apply: Callable[..., Any], params: Any, X: Sequence[Any], Y: jax.Array, averaged: bool
) -> jax.Array:
    predicted = apply({"params": params}, *X).argmax(-1).reshape(-1)
    correct = (predicted == Y.reshape(-1)).astype(jnp.float32)
    return correct.mean() if averaged else correct
