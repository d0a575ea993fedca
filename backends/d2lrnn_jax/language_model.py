"""The language models: tokens in, recurrent layers, one output layer over all steps at once."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp


class RNNLMScratch(nn.Module):
    """A language model whose output layer is written out: O = H W_hq + b_q.

    Attributes:
        rnn: recurrent layers, ``rnn(inputs, state) -> (outputs, state)`` with inputs (T, B, V). Those of this
            package take the tokens themselves; any other module is given one-hot vectors.
        vocab_size: V.
        lr: the learning rate, kept for the book's trainer.

    Example:
        >>> model = RNNLMScratch(RNNScratch(num_inputs=28, num_hiddens=32), vocab_size=28)
        >>> tokens = jnp.zeros((2, 35), int)
        >>> variables = model.init(jax.random.key(0), tokens)
        >>> model.apply(variables, tokens).shape
        (2, 35, 28)
    """

    rnn: nn.Module
    vocab_size: int
    lr: float = 0.01

    def setup(self) -> None:
        """The output layer's parameters."""
        initial = nn.initializers.normal(getattr(self.rnn, "sigma", 0.01))
        self.W_hq = self.param("W_hq", initial, (self.rnn.num_hiddens, self.vocab_size))
        self.b_q = self.param("b_q", nn.initializers.zeros, (self.vocab_size,))

    def output_layer(self, hiddens: jax.Array) -> jax.Array:
        """Hidden states (T, B, h) to logits (B, T, V)."""
        return jnp.swapaxes(hiddens @ self.W_hq + self.b_q, 0, 1)

    def __call__(self, tokens: jax.Array, state: Any = None, training: bool = False) -> jax.Array:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state, training=training)[0]

    def unroll(
        self,
        tokens: jax.Array,
        state: Any = None,
        masks: jax.Array | None = None,
        training: bool = False,
    ) -> tuple[jax.Array, Any]:
        """Runs over all steps.

        Args:
            tokens: (B, T).
            state: the recurrent layers'; None is zeros.
            masks: dropout masks (L - 1, T, B, h) for concise layers.
            training: whether dropout is on, where no masks are given; needs ``rngs={"dropout": key}``.

        Returns:
            Logits (B, T, V) and the final state.
        """
        inputs = jnp.swapaxes(tokens, 0, 1)
        # Layers that are being made learn the size of their inputs from these.
        if self.is_initializing() or not getattr(self.rnn, "takes_tokens", False):
            inputs = jax.nn.one_hot(inputs, self.vocab_size)
        options: dict[str, Any] = {}
        if masks is not None:
            options["masks"] = masks
        if training and hasattr(self.rnn, "dropout"):
            options["training"] = True
        outputs, state = self.rnn(inputs, state, **options)
        return self.output_layer(outputs), state


class RNNLM(RNNLMScratch):
    """A language model whose output layer is `nn.Dense`. See `RNNLMScratch`.

    Example:
        >>> model = RNNLM(GRU(num_hiddens=32, num_layers=2), vocab_size=28, lr=2)
    """

    def setup(self) -> None:
        """The output layer."""
        self.linear = nn.Dense(self.vocab_size)

    def output_layer(self, hiddens: jax.Array) -> jax.Array:
        """Hidden states (T, B, h) to logits (B, T, V)."""
        return jnp.swapaxes(self.linear(hiddens), 0, 1)
