"""Sequence to sequence by recurrent networks: a sentence in, its translation out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn_jax.concise import GRU
from d2lrnn_jax.encoder_decoder import Decoder, Encoder, EncoderDecoder
from d2lrnn_jax.inputs import as_indices
from d2lrnn_jax.module import TrainState


class Seq2SeqEncoder(Encoder):
    """Gated recurrent units that read a sequence of tokens.

    Attributes:
        vocab_size: V.
        embed_size: E, the size of the embedding vectors.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.

    Example:
        >>> encoder = Seq2SeqEncoder(vocab_size=10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> tokens = jnp.zeros((4, 9), int)
        >>> (outputs, H), _ = encoder.init_with_output(jax.random.key(0), tokens)
        >>> outputs.shape, H.shape
        ((9, 4, 16), (2, 4, 16))

    Source: Sutskever et al. 2014; Cho et al. 2014.
    """

    vocab_size: int
    embed_size: int
    num_hiddens: int
    num_layers: int
    dropout: float = 0

    def setup(self) -> None:
        """Embedding and recurrent layers."""
        self.embedding = nn.Embed(self.vocab_size, self.embed_size)
        self.rnn = GRU(self.num_hiddens, self.num_layers, self.dropout)

    def __call__(self, X: jax.Array, *args: Any, training: bool = False) -> tuple[jax.Array, jax.Array]:
        """Reads a sequence, padding and all.

        Args:
            X: tokens (B, T).
            *args: not used: lengths.
            training: whether dropout is on; it draws from the stream ``"dropout"``.

        Returns:
            The outputs of the last layer (T, B, h), and the final state (L, B, h).
        """
        return self.rnn(self.embedding(as_indices(X)), training=training)


class Seq2SeqDecoder(Decoder):
    """Gated recurrent units that write a sequence of tokens, begun with the encoder's final state.

    The context c is the encoder's last output. Every step reads it beside the embedding of the token that was
    written last: h_t = GRU([e(y_{t-1}), c], h_{t-1}), and the logits are W h_t + b.

    Attributes:
        vocab_size: V.
        embed_size: E, the size of the embedding vectors.
        num_hiddens: h, that of the encoder.
        num_layers: L, that of the encoder.
        dropout: the rate between layers while training.

    Example:
        >>> encoder, decoder = Seq2SeqEncoder(10, 8, 16, 2), Seq2SeqDecoder(12, 8, 16, 2)
        >>> tokens = jnp.zeros((4, 9), int)
        >>> state = decoder.init_state(encoder.init_with_output(jax.random.key(0), tokens)[0])
        >>> (logits, state), _ = decoder.init_with_output(jax.random.key(1), tokens, state)
        >>> logits.shape, state[1].shape
        ((4, 9, 12), (2, 4, 16))

    Source: Cho et al. 2014.
    """

    vocab_size: int
    embed_size: int
    num_hiddens: int
    num_layers: int
    dropout: float = 0

    def setup(self) -> None:
        """Embedding, recurrent layers and output layer."""
        self.embedding = nn.Embed(self.vocab_size, self.embed_size)
        self.rnn = GRU(self.num_hiddens, self.num_layers, self.dropout)
        self.dense = nn.Dense(self.vocab_size)

    def init_state(self, enc_all_outputs: tuple[jax.Array, jax.Array], *args: Any) -> Any:
        """The encoder's outputs (S, B, h) and its final state (L, B, h)."""
        return enc_all_outputs

    def __call__(
        self, X: jax.Array, state: Sequence[jax.Array], training: bool = False
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Logits for the tokens that follow.

        Args:
            X: tokens (B, T).
            state: the encoder's outputs (S, B, h), and the hidden state (L, B, h).
            training: whether dropout is on; it draws from the stream ``"dropout"``.

        Returns:
            Logits (B, T, V), and the state after the last token.
        """
        enc_outputs, H = state
        embedded = self.embedding(as_indices(X))
        context = jnp.broadcast_to(enc_outputs[-1], (len(embedded), *enc_outputs.shape[1:]))
        outputs, H = self.rnn(jnp.concatenate((embedded, context), -1), H, training=training)
        return jnp.swapaxes(self.dense(outputs), 0, 1), (enc_outputs, H)


class Seq2Seq(EncoderDecoder):
    """An encoder and a decoder that are trained by Adam, and learn nothing from padding.

    Attributes:
        tgt_pad: the index of ``<pad>`` among the tokens that are written.
        lr: the learning rate.

    Example:
        >>> encoder, decoder = Seq2SeqEncoder(10, 8, 16, 2), Seq2SeqDecoder(12, 8, 16, 2)
        >>> model = Seq2Seq(encoder, decoder, tgt_pad=2, lr=0.005, training=False)
        >>> source, target = jnp.zeros((4, 7), int), jnp.zeros((4, 9), int)
        >>> params = model.init(jax.random.key(0), source, target)["params"]
        >>> model.apply({"params": params}, source, target).shape
        (4, 9, 12)
        >>> tokens, _ = model.predict_step(params, (source, target, target), num_steps=5)
        >>> tokens.shape
        (4, 5)

    Source: Sutskever et al. 2014.
    """

    tgt_pad: int
    lr: float

    @nn.nowrap
    def loss(
        self, params: Any, X: Sequence[Any], Y: Any, state: TrainState, averaged: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Cross-entropy in nats of the tokens that are no padding, and an empty dictionary.

        Args:
            params: the parameters.
            X: the inputs: what is read (B, S), what is written from ``<bos>`` on (B, T), lengths.
            Y: what is written, one token later (B, T).
            state: has the module's function, `apply_fn`, and the dropout key.
            averaged: whether to take the mean; else there is one loss for every token (B·T,), 0 for padding.
        """
        losses, auxiliary = super().loss(params, X, Y, state, averaged=False)
        counts = Y.reshape(-1) != self.tgt_pad
        return losses.mean(where=counts) if averaged else losses * counts, auxiliary

    @nn.nowrap
    def validation_step(self, params: Any, batch: Sequence[Any], state: TrainState) -> jax.Array:
        """The loss of a batch; plots it."""
        loss, _ = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        return loss

    @nn.nowrap
    def configure_optimizers(self) -> optax.GradientTransformation:
        """Adam at the rate ``self.lr``."""
        return optax.adam(self.lr)
