"""The encoder-decoder architecture: one sequence is read, then another one is written.

B = batch size, T = time steps, V = size of the vocabulary that is written in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from d2lrnn_tensorflow.devices import on_device
from d2lrnn_tensorflow.module import Classifier
from d2lrnn_tensorflow.recurrence import Tensor


class _OfParts:
    """What is made of layers and has no weights of its own."""

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: the parts make their weights at their first use."""


class Encoder(_OfParts, keras.layers.Layer):
    """The interface of an encoder: it makes of a sequence what a decoder begins with.

    A subclass defines ``call(X, *args)``. Further arguments are the lengths of the sequences, if they are
    given. Keras passes ``training`` on to the layers inside, also where `call` does not take it.

    Args:
        **kwargs: those of `keras.layers.Layer`.
    """

    def call(self, X: Tensor, *args: Any) -> Any:
        """What the decoder's `Decoder.init_state` takes.

        Raises:
            NotImplementedError: the encoder does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method call(self, X, *args)")


class Decoder(_OfParts, keras.layers.Layer):
    """The interface of a decoder: it writes a sequence, beginning with what an encoder made.

    A subclass defines `init_state` and ``call(X, state)``.

    Args:
        **kwargs: those of `keras.layers.Layer`.
    """

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """The state before the first token, from the encoder's results and the lengths of its sequences.

        Raises:
            NotImplementedError: the decoder does not say.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a method init_state(self, enc_outputs, *args)"
        )

    def call(self, X: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the state after the last of them.

        Raises:
            NotImplementedError: the decoder does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method call(self, X, state)")


class EncoderDecoder(Classifier):
    """An encoder and a decoder as one model: the logits of the next token of the target sequence.

    Dropout is on while a `Trainer` trains it, or where ``training=True`` is passed.

    Args:
        encoder: an `Encoder`.
        decoder: a `Decoder`.

    Source: Cho et al. 2014; Sutskever et al. 2014.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, enc_X: Tensor, dec_X: Tensor, *args: Any) -> Tensor:  # type: ignore[override]
        """Logits (B, T, V), without the decoder's state.

        Args:
            enc_X: the sequence that is read (B, S).
            dec_X: the target sequence up to each token that is predicted (B, T).
            *args: handed to the encoder and to `Decoder.init_state`: the lengths of the first (B,).
        """
        state = self.decoder.init_state(self.encoder(enc_X, *args), *args)
        return self.decoder(dec_X, state)[0]

    def predict_step(
        self,
        batch: Sequence[Tensor],
        device: AbstractContextManager[Any] | str | None,
        num_steps: int,
        save_attention_weights: bool = False,
    ) -> tuple[Tensor, list[Any]]:
        """Writes the likeliest token at each step, without dropout. It is not Keras' ``predict_step``.

        Args:
            batch: source (B, S), target (B, T), of which the first tokens are taken, the source's lengths
                (B,), and the target one token later.
            device: where to compute, what `try_gpu` returns or TensorFlow's name of a device; None leaves it
                to TensorFlow.
            num_steps: how many tokens to write.
            save_attention_weights: whether to keep what the decoder attends to.

        Returns:
            The tokens (B, num_steps), and the decoder's ``attention_weights`` of each step.
        """
        source, target, lengths, _ = batch
        tokens, written, weights = target[:, :1], [], []
        with on_device(device):
            state = self.decoder.init_state(self.encoder(source, lengths, training=False), lengths)
            for _ in range(num_steps):
                logits, state = self.decoder(tokens, state, training=False)
                tokens = tf.argmax(logits, axis=-1)
                written.append(tokens)
                if save_attention_weights:
                    weights.append(self.decoder.attention_weights)
            return tf.concat(written, axis=1), weights


class StatefulEncoderDecoder(_OfParts, keras.Model):
    """The first edition's ``EncoderDecoder``, which also returns the decoder's state.

    Args:
        encoder: an `Encoder`.
        decoder: a `Decoder`.
        **kwargs: those of `keras.Model`.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder

    def call(self, enc_X: Tensor, dec_X: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        """Logits (B, T, V), and the decoder's state; arguments as for `EncoderDecoder.forward`.

        Other named arguments go to both parts.
        """
        state = self.decoder.init_state(self.encoder(enc_X, *args, **kwargs), *args)
        return self.decoder(dec_X, state, **kwargs)
