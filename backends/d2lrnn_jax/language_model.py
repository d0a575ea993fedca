"""The language models: tokens in, recurrent layers, one output layer over all steps at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import continue_prefix
from d2lrnn_jax.dropout import drop
from d2lrnn_jax.head import summed_loss
from d2lrnn_jax.inputs import as_indices, can_take_tokens, stacked
from d2lrnn_jax.module import Classifier, TrainState
from d2lrnn_jax.precision import precision
from d2lrnn_jax.prediction import Predictor, compiled_step


class RNNLMScratch(Classifier):
    """A language model whose output layer is written out: O = H W_hq + b_q.

    Attributes:
        rnn: recurrent layers, ``rnn(inputs, state) -> (outputs, state)`` with inputs (T, B, V), or (T, B, E)
            after an embedding. Those of this package take the tokens themselves where there is no embedding;
            any other module takes one-hot vectors.
        vocab_size: V.
        lr: the learning rate, kept for the book's trainer.
        training: whether dropout is on; the book's trainer switches it.
        embedding_size: E, the size of the embedding vectors, the rows of ``W_e (V, E)``; None takes one-hot
            vectors.
        tied: whether the output layer's weight is the embedding's, transposed; E is then h.
        input_dropout: the rate at the embedding, while training.
        output_dropout: the rate between the last layer and the output layer, while training.

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
    embedding_size: int | None = None
    tied: bool = False
    input_dropout: float = 0.0
    output_dropout: float = 0.0

    def setup(self) -> None:
        """The parameters of embedding and output layer."""
        initial = nn.initializers.normal(getattr(self.rnn, "sigma", 0.01))
        V, E = self.vocab_size, self.embedding_size
        if E is not None:
            # Variance 1, as the embedding is a layer's input; a tied one starts as the output layer's weight.
            self.W_e = self.param("W_e", initial if self.tied else nn.initializers.normal(1.0), (V, E))
        if not self.tied:
            self.W_hq = self.param("W_hq", initial, (self.rnn.num_hiddens, V))
        self.b_q = self.param("b_q", nn.initializers.zeros, (V,))
        self._setup_dropout()

    @nn.nowrap
    def _setup_dropout(self) -> None:
        self.drop_inputs, self.drop_outputs = nn.Dropout(self.input_dropout), nn.Dropout(self.output_dropout)

    def one_hot(self, tokens: jax.Array) -> jax.Array:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return jax.nn.one_hot(as_indices(tokens), self.vocab_size)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """The embedding vectors (T, B, E) of tokens (B, T)."""
        return jnp.take(self.W_e, as_indices(tokens), axis=0, mode="clip")

    def output_layer(self, hiddens: jax.Array | Iterable[jax.Array]) -> jax.Array:
        """Hidden states (T, B, h), or a list of T, to logits (B, T, V)."""
        W, b = self._head()
        return jnp.swapaxes(stacked(hiddens) @ W + b, 0, 1)

    def _head(self) -> tuple[jax.Array, jax.Array]:
        """The output layer's weight (h, V) and bias (V,)."""
        return self.W_e.T if self.tied else self.W_hq, self.b_q

    def forward(self, tokens: jax.Array, state: Any = None, training: bool | None = None) -> jax.Array:
        """Logits (B, T, V) for tokens (B, T).

        Args:
            tokens: (B, T).
            state: that of the recurrent layers; None is zeros.
            training: whether dropout is on; None takes the model's field. It needs ``rngs={"dropout": key}``.
        """
        return self.unroll(tokens, state, training=self.training if training is None else training)[0]

    def unroll(
        self,
        tokens: jax.Array,
        state: Any = None,
        masks: DropoutMasks | None = None,
        training: bool = False,
    ) -> tuple[jax.Array, Any]:
        """Runs over all steps.

        Args:
            tokens: (B, T).
            state: that of the recurrent layers; None is zeros.
            masks: dropout masks, in place of flax's own.
            training: whether dropout is on, where no masks are given; needs ``rngs={"dropout": key}``.

        Returns:
            Logits (B, T, V) and the final state.
        """
        outputs, state = self._outputs(tokens, state, masks, training)
        return self.output_layer(outputs), state

    def summed_loss(
        self, tokens: jax.Array, targets: jax.Array, state: Any = None, masks: DropoutMasks | None = None
    ) -> tuple[jax.Array, Any]:
        """The sum of the cross-entropies, in nats, and the final state.

        Args:
            tokens: (B, T).
            targets: (B, T); negative ones are padding, and count nothing.
            state: see `unroll`.
            masks: see `unroll`; None drops nothing.
        """
        outputs, state = self._outputs(tokens, state, masks, training=False)
        return summed_loss(stacked(outputs), *self._head(), jnp.swapaxes(targets, 0, 1)), state

    def _outputs(
        self, tokens: jax.Array, state: Any, masks: DropoutMasks | None, training: bool
    ) -> tuple[Any, Any]:
        """The last layer's outputs (T, B, h), or a list of T, with dropout; and the final state."""
        training = training and masks is None
        masks = masks or DropoutMasks()
        options: dict[str, Any] = {}
        if masks.between is not None:
            options["masks"] = masks.between
        if training and hasattr(self.rnn, "dropout"):
            options["training"] = True
        inputs = self._inputs(tokens)
        # A chapter's own `setup` makes no dropout layers: none is used where the rate is 0.
        if masks.inputs is not None or self.input_dropout:
            inputs = drop(self.drop_inputs, inputs, masks.inputs, training)
        outputs, state = self.rnn(inputs, state, **options)
        if masks.outputs is not None or self.output_dropout:
            outputs = drop(self.drop_outputs, stacked(outputs), masks.outputs, training)
        return outputs, state

    def _inputs(self, tokens: jax.Array) -> jax.Array:
        """The inputs of the recurrent layers: vectors, or tokens (T, B) if they look them up."""
        if self.embedding_size is not None:
            return self.embed(tokens)
        # At initialisation layers infer the size of their inputs from one-hot vectors.
        if self.is_initializing() or not can_take_tokens(self.rnn):
            return self.one_hot(tokens)
        return jnp.swapaxes(tokens, 0, 1)

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
    def predict(self, prefix: str | Sequence[str], num_preds: int, vocab: Vocab, params: Any) -> Any:
        """Continues `prefix` by the likeliest tokens, dropout off.

        Args:
            prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
                `vocab` is of was. Of a list of texts each is continued, and a list comes back.
            num_preds: how many tokens to add.
            vocab: what the model was trained with.
            params: the parameters, ``trainer.state.params``.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        # Compiled at each call: a chapter may have replaced methods since the last one (`add_to_class`).
        step = compiled_step(lambda params, *rest: self.apply({"params": params}, *rest, method="unroll"))
        # A subclass with its own `__call__` may have another state than the class it inherits from.
        if can_take_tokens(self.rnn):
            predictor = Predictor(step, params, self.bind({"params": params}).rnn.initial_state)
        else:
            predictor = Predictor(step, params)
        return continue_prefix(predictor, vocab, prefix, num_preds)

    @nn.nowrap
    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy and a pickle of a module that is bound are bound to copies of the parameters."""
        if self.scope is None:
            return super().__reduce_ex__(protocol)
        module, variables = self.unbind()
        return _bound, (module, jax.tree.map(np.array, variables))


def _bound(module: RNNLMScratch, variables: Any) -> RNNLMScratch:
    # Without this JAX would make float32 of float64.
    with precision(str(jax.tree.leaves(variables)[0].dtype)):
        return module.bind(jax.tree.map(jnp.array, variables))


class RNNLM(RNNLMScratch):
    """A language model whose embedding is `nn.Embed` and whose output layer is `nn.Dense`.

    Where they are tied, the output layer is the embedding's `nn.Embed.attend` and a bias. See `RNNLMScratch`.

    Example:
        >>> model = RNNLM(GRU(num_hiddens=32, num_layers=2), vocab_size=28, lr=2)
    """

    def setup(self) -> None:
        """Embedding and output layer."""
        if self.embedding_size is not None:
            self.embedding = nn.Embed(self.vocab_size, self.embedding_size)
        if self.tied:
            self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        else:
            self.linear = nn.Dense(self.vocab_size)
        self._setup_dropout()

    def embed(self, tokens: jax.Array) -> jax.Array:
        """The embedding vectors (T, B, E) of tokens (B, T)."""
        return self.embedding(as_indices(tokens))

    def output_layer(self, hiddens: jax.Array | Iterable[jax.Array]) -> jax.Array:
        """Hidden states (T, B, h), or a list of T, to logits (B, T, V)."""
        hiddens = stacked(hiddens)
        logits = self.embedding.attend(hiddens) + self.bias if self.tied else self.linear(hiddens)
        return jnp.swapaxes(logits, 0, 1)

    def _head(self) -> tuple[jax.Array, jax.Array]:
        """The output layer's weight (h, V) and bias (V,)."""
        if self.tied:
            return self.embedding.embedding.T, self.bias
        dense = self.linear.variables["params"]
        return dense["kernel"], dense["bias"]
