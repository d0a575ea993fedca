"""Encoder and decoder: one network reads a sequence, another writes one from what the first made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mxnet import np

from d2lrnn_mxnet.module import Block, Classifier, device_of
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


@use_np
class Encoder(Block):
    """What reads a sequence; a subclass gives its `forward`. The arguments are those of ``gluon.Block``."""

    def forward(self, X: Array, *args: Any) -> Any:
        """What a decoder's `init_state` takes.

        Args:
            X: tokens (B, T).
            *args: what else is known of them, such as their lengths without padding (B,).

        Raises:
            NotImplementedError: the encoder has no `forward` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, X, *args)")


@use_np
class Decoder(Block):
    """What writes a sequence; a subclass gives `init_state` and `forward`.

    The arguments are those of ``gluon.Block``.
    """

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """The state before the first token.

        Args:
            enc_all_outputs: what the encoder returned.
            *args: what it got beside the tokens.

        Raises:
            NotImplementedError: the decoder has no `init_state` of its own.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a method init_state(self, enc_all_outputs, *args)"
        )

    def forward(self, X: Array, state: Any) -> tuple[Array, Any]:
        """Logits (B, T, V), and the state after the last token.

        Args:
            X: tokens (B, T).
            state: from `init_state`, or from the call before.

        Raises:
            NotImplementedError: the decoder has no `forward` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, X, state)")


@use_np
class EncoderDecoder(Classifier):
    """An encoder and a decoder, trained together (Cho et al. 2014; Sutskever et al. 2014).

    Args:
        encoder: an `Encoder`.
        decoder: a `Decoder`.
    """

    def __init__(self, encoder: Any, decoder: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(  # type: ignore[override]  # two sequences
        self, enc_X: Array, dec_X: Array, *args: Any
    ) -> Array:
        """The decoder's logits (B, T', V), without its state.

        Args:
            enc_X: the sequences to read, tokens (B, T).
            dec_X: those to write, one step late (B, T'): the right token before each that is to be told.
            *args: what else the encoder and `Decoder.init_state` take, such as lengths.
        """
        state = self.decoder.init_state(self.encoder(enc_X, *args), *args)
        return self.decoder(dec_X, state)[0]

    def predict_step(
        self, batch: Sequence[Array], device: Any, num_steps: int, save_attention_weights: bool = False
    ) -> tuple[Array, list[Any]]:
        """Writes sequences by the likeliest tokens: no graph, dropout off.

        Args:
            batch: sources (B, T), targets (B, T'), of which only the first token counts, lengths of the
                sources (B,), and what may follow.
            device: where to compute; None is where the model is.
            num_steps: how many tokens to write.
            save_attention_weights: whether to collect ``decoder.attention_weights``.

        Returns:
            The tokens (B, num_steps), and of every step the attention weights, where they were asked for.
        """
        where = device_of(self) if device is None else device
        source, target, lengths = (array.as_in_ctx(where) for array in batch[:3])
        state = self.decoder.init_state(self.encoder(source, lengths), lengths)
        tokens, weights = [], []
        for token in write(self.decoder, target[:, :1], state, num_steps):
            tokens.append(token)
            if save_attention_weights:
                weights.append(self.decoder.attention_weights)
        return np.concatenate(tokens, axis=1), weights


@use_np
class StatefulEncoderDecoder(Block):
    """The first edition's ``EncoderDecoder``: a call gives the decoder's state too.

    Args:
        encoder: an `Encoder`.
        decoder: a `Decoder`.
        **kwargs: those of ``gluon.Block``.
    """

    def __init__(self, encoder: Any, decoder: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder

    def forward(self, enc_X: Array, dec_X: Array, *args: Any) -> tuple[Array, Any]:
        """The decoder's logits (B, T', V), and its state after the last token.

        Args:
            enc_X: the sequences to read, tokens (B, T).
            dec_X: those to write, one step late (B, T'): the right token before each that is to be told.
            *args: what else the encoder and `Decoder.init_state` take, such as lengths.
        """
        return self.decoder(dec_X, self.decoder.init_state(self.encoder(enc_X, *args), *args))


def write(decoder: Any, first: Array, state: Any, num_steps: int) -> Iterator[Array]:
    """The likeliest tokens of sequences, step by step, each told from the one before.

    Args:
        decoder: a `Decoder`.
        first: the tokens that they begin with (B, 1).
        state: from `Decoder.init_state`.
        num_steps: how many tokens.

    Yields:
        The tokens of a step (B, 1).
    """
    tokens = first
    for _ in range(num_steps):
        logits, state = decoder(tokens, state)
        tokens = logits.argmax(axis=2).astype("int32")
        yield tokens
