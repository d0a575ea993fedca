"""Encoder and decoder: one network reads a sequence, another writes one from what the first made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.errors import SpecError
from d2lrnn_jax.module import Classifier

#: The names under which encoders and decoders `sow` their attention weights, for `predict_step` to find.
ENCODER_WEIGHTS, DECODER_WEIGHTS = "enc_attention_weights", "dec_attention_weights"


class Encoder(nn.Module):
    """What reads a sequence; a subclass gives its ``__call__``."""

    def __call__(self, X: jax.Array, *args: Any, training: bool = False) -> Any:
        """What a decoder's `init_state` takes.

        Args:
            X: tokens (B, T).
            *args: what else is known of them, such as their lengths without padding (B,).
            training: whether dropout is on.

        Raises:
            NotImplementedError: the encoder has no ``__call__`` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method __call__(self, X, *args, training)")


class Decoder(nn.Module):
    """What writes a sequence; a subclass gives `init_state` and ``__call__``."""

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """The state before the first token.

        Args:
            enc_all_outputs: what the encoder returned.
            *args: what it got beside the tokens.

        Raises:
            NotImplementedError: the decoder has no `init_state` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method init_state(self, enc_all_outputs)")

    def __call__(self, X: jax.Array, state: Any, training: bool = False) -> tuple[jax.Array, Any]:
        """Logits (B, T, V), and the state after the last token.

        Args:
            X: tokens (B, T).
            state: from `init_state`, or from the call before.
            training: whether dropout is on.

        Raises:
            NotImplementedError: the decoder has no ``__call__`` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method __call__(self, X, state, training)")


class EncoderDecoder(Classifier):
    """An encoder and a decoder, trained together.

    Attributes:
        encoder: an `Encoder`.
        decoder: a `Decoder`.
        training: whether dropout is on; the book's trainer switches it.

    Source: Cho et al. 2014; Sutskever et al. 2014.
    """

    encoder: nn.Module
    decoder: nn.Module
    training: bool

    def forward(self, enc_X: jax.Array, dec_X: jax.Array, *args: Any) -> jax.Array:
        """The decoder's logits (B, T, V), without its state.

        Args:
            enc_X: the tokens to read (B, S).
            dec_X: the tokens that are written (B, T), from ``<bos>`` on: each logit is of the next one.
            *args: what else the encoder and `Decoder.init_state` take, such as the lengths of `enc_X`.
        """
        enc_all_outputs = self.encoder(enc_X, *args, training=self.training)
        state = self.decoder.init_state(enc_all_outputs, *args)
        logits: jax.Array = self.decoder(dec_X, state, training=self.training)[0]
        return logits

    @nn.nowrap
    def predict_step(
        self, params: Any, batch: Sequence[Any], num_steps: int, save_attention_weights: bool = False
    ) -> tuple[jax.Array, tuple[list[Any], Any]]:
        """Writes by the likeliest tokens, dropout off.

        Args:
            params: the parameters, ``trainer.state.params``.
            batch: (what to read (B, S), tokens (B, T) of which the first column begins, …, labels), as
                ``MTFraEng.build`` returns it; labels are ignored.
            num_steps: how many tokens to write.
            save_attention_weights: whether to return what the networks keep of their attention by
                ``self.sow("intermediates", "dec_attention_weights", weights)``, the encoder by
                ``"enc_attention_weights"``.

        Returns:
            The tokens (B, num_steps), also those behind an ``<eos>``; and the weights, the decoder's in a
            list of `num_steps`, and the encoder's. Where none are saved, both are empty lists.

        Raises:
            SpecError: `num_steps` is below 1; or the decoder keeps no attention weights to save.
        """
        if num_steps < 1:
            raise SpecError(f"num_steps is {num_steps}: it must be at least 1")
        source, target, *others, _ = batch
        encode, decode = _compiled(self.encoder), _compiled(self.decoder)
        enc_all_outputs, kept = encode(params["encoder"], source, *others)
        encoder_weights = sown(kept, ENCODER_WEIGHTS) if save_attention_weights else None
        decoder_params = params["decoder"]
        state = self.decoder.apply({"params": decoder_params}, enc_all_outputs, *others, method="init_state")
        tokens, written, decoder_weights = jnp.asarray(target)[:, :1], [], []
        for _ in range(num_steps):
            (logits, state), kept = decode(decoder_params, tokens, state)
            tokens = logits.argmax(-1)
            written.append(tokens)
            if save_attention_weights:
                decoder_weights.append(self._decoder_weights(kept))
        weights = decoder_weights, [] if encoder_weights is None else encoder_weights
        return jnp.concatenate(written, 1), weights

    @nn.nowrap
    def _decoder_weights(self, kept: Mapping[str, Any]) -> Any:
        weights = sown(kept, DECODER_WEIGHTS)
        if weights is None:
            raise SpecError(
                f"{type(self.decoder).__name__} has no attention weights to save: keep them in its __call__ "
                f"by self.sow('intermediates', {DECODER_WEIGHTS!r}, weights)"
            )
        return weights


def _compiled(network: nn.Module) -> Callable[..., Any]:
    """From parameters and inputs to the network's outputs, dropout off, and to what it sows."""

    # Compiled at each call of `predict_step`: a chapter may have replaced methods since the last one.
    @jax.jit
    def call(params: Any, *inputs: Any) -> Any:
        # By default a GPU multiplies float32 in fewer bits (TF32).
        with jax.default_matmul_precision("highest"):
            return network.apply({"params": params}, *inputs, training=False, mutable="intermediates")

    return call


def sown(variables: Mapping[str, Any], name: str) -> Any:
    """What a call of a network has sown in ``"intermediates"`` under this name, or None."""
    kept = variables.get("intermediates", {}).get(name)
    return kept[-1] if kept else None
