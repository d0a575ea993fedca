"""The language models: tokens in, recurrent layers, one output layer over all steps at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import generate
from d2lrnn_jax.inputs import can_take_tokens, stacked
from d2lrnn_jax.module import Classifier, TrainState


class RNNLMScratch(Classifier):
    """A language model whose output layer is written out: O = H W_hq + b_q.

    Attributes:
        rnn: recurrent layers, ``rnn(inputs, state) -> (outputs, state)`` with inputs (T, B, V). Those of this
            package take the tokens themselves; any other module is given one-hot vectors.
        vocab_size: V.
        lr: the learning rate, kept for the book's trainer.
        training: whether dropout is on; the book's trainer switches it.

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
    training: bool = False

    def setup(self) -> None:
        """The output layer's parameters."""
        initial = nn.initializers.normal(getattr(self.rnn, "sigma", 0.01))
        self.W_hq = self.param("W_hq", initial, (self.rnn.num_hiddens, self.vocab_size))
        self.b_q = self.param("b_q", nn.initializers.zeros, (self.vocab_size,))

    def one_hot(self, tokens: jax.Array) -> jax.Array:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        # Chapters make the parameters with ones for tokens, which are floats.
        return jax.nn.one_hot(jnp.swapaxes(tokens, 0, 1).astype(jnp.int32), self.vocab_size)

    def output_layer(self, hiddens: jax.Array | Iterable[jax.Array]) -> jax.Array:
        """Hidden states (T, B, h), or a list of T, to logits (B, T, V)."""
        return jnp.swapaxes(stacked(hiddens) @ self.W_hq + self.b_q, 0, 1)

    def forward(self, tokens: jax.Array, state: Any = None, training: bool | None = None) -> jax.Array:
        """Logits (B, T, V) for tokens (B, T).

        Args:
            tokens: (B, T).
            state: the recurrent layers'; None is zeros.
            training: whether dropout is on; None is the field's. It needs ``rngs={"dropout": key}``.
        """
        return self.unroll(tokens, state, training=self.training if training is None else training)[0]

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
        # Layers that are being made learn the size of their inputs from one-hot vectors.
        if self.is_initializing() or not can_take_tokens(self.rnn):
            inputs = self.one_hot(tokens)
        else:
            inputs = jnp.swapaxes(tokens, 0, 1)
        options: dict[str, Any] = {}
        if masks is not None:
            options["masks"] = masks
        if training and hasattr(self.rnn, "dropout"):
            options["training"] = True
        outputs, state = self.rnn(inputs, state, **options)
        return self.output_layer(outputs), state

    @nn.nowrap
    def training_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> tuple[Any, Any]:
        """Loss and gradient of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        value, gradient = jax.value_and_grad(self.loss, has_aux=True)(params, batch[:-1], batch[-1], state)
        self.plot("ppl", jnp.exp(value[0]), train=True)
        return value, gradient

    @nn.nowrap
    def validation_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> jax.Array:
        """The loss of a batch; plots the perplexity."""
        loss, _ = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("ppl", jnp.exp(loss), train=False)
        return loss

    @nn.nowrap
    def predict(self, prefix: str, num_preds: int, vocab: Vocab, params: Any) -> str:
        """Continues `prefix` by the likeliest characters, dropout off.

        Args:
            prefix: the beginning; it is turned to lower case, as the novel is.
            num_preds: how many characters to add.
            vocab: what the model was trained with.
            params: the parameters, ``trainer.state.params``.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        return generate(_Predictor(self, params), vocab, prefix, num_preds)


class RNNLM(RNNLMScratch):
    """A language model whose output layer is `nn.Dense`. See `RNNLMScratch`.

    Example:
        >>> model = RNNLM(GRU(num_hiddens=32, num_layers=2), vocab_size=28, lr=2)
    """

    def setup(self) -> None:
        """The output layer."""
        self.linear = nn.Dense(self.vocab_size)

    def output_layer(self, hiddens: jax.Array | Iterable[jax.Array]) -> jax.Array:
        """Hidden states (T, B, h), or a list of T, to logits (B, T, V)."""
        return jnp.swapaxes(self.linear(stacked(hiddens)), 0, 1)


class _Predictor:
    """A language model as what `d2lrnn.generation.generate` asks: one compiled step for all characters."""

    def __init__(self, model: RNNLMScratch, params: Any) -> None:
        self._params = params

        @jax.jit
        def step(params: Any, tokens: IntArray, state: Any) -> Any:
            logits, state = model.apply({"params": params}, tokens[:, None], state, method="unroll")
            return logits[:, 0], state

        self._step = step

    def initial_state(self, batch_size: int) -> Any:
        return None

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        # A GPU would multiply float32 in fewer bits (TF32) unless it is told not to.
        with jax.default_matmul_precision("highest"):
            logits, state = self._step(self._params, tokens, state)
        return np.asarray(logits), state
