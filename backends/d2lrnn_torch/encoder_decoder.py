"""The encoder–decoder architecture: one network reads a sequence, another writes one.

Source: Sutskever et al. 2014; Cho et al. 2014.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from d2lrnn_torch.devices import full_precision
from d2lrnn_torch.language_model import predicting
from d2lrnn_torch.module import Classifier
from d2lrnn_torch.tokens import check_tensor


class Encoder(nn.Module):
    """What reads a sequence; a subclass has the `forward`."""

    def forward(self, X: Tensor, *args: Any) -> Any:
        """What is known of sequences.

        Args:
            X: (B, T).
            *args: more about them, such as their lengths without padding (B,).

        Raises:
            NotImplementedError: the encoder has none.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, X, *args)")


class Decoder(nn.Module):
    """What writes a sequence; a subclass has the methods."""

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """The state before the first step.

        Args:
            enc_all_outputs: what the encoder returned.
            *args: what the encoder got beside its sequences.

        Raises:
            NotImplementedError: the decoder has none.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a method init_state(self, enc_all_outputs, *args)"
        )

    def forward(self, X: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The outputs (B, T, V) for sequences (B, T), and the state after them.

        Raises:
            NotImplementedError: the decoder has none.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, X, state)")


class AttentionDecoder(Decoder):
    """A decoder that attends to what the encoder read, and shows to what."""

    @property
    def attention_weights(self) -> Any:
        """The weights of the last call; what they are is the subclass's own.

        Raises:
            NotImplementedError: the decoder has none.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a property attention_weights")


class EncoderDecoder(Classifier):
    """An encoder and a decoder, trained together.

    While it is trained, the decoder reads the right sequence, one step late (teacher forcing).

    Args:
        encoder: see `Encoder`.
        decoder: see `Decoder`.

    Example:
        >>> sizes = dict(vocab_size=10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> model = EncoderDecoder(Seq2SeqEncoder(**sizes), Seq2SeqDecoder(**sizes))
        >>> source, target = torch.ones(4, 9, dtype=torch.long), torch.ones(4, 7, dtype=torch.long)
        >>> model(source, target).shape
        torch.Size([4, 7, 10])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, enc_X: Tensor, dec_X: Tensor, *args: Any) -> Any:  # type: ignore[override]  # two inputs
        """The decoder's outputs (B, T, V).

        Args:
            enc_X: what is read, (B, S).
            dec_X: what is written, one step late, (B, T).
            *args: for the encoder and the decoder's first state, such as the lengths of `enc_X` (B,).
        """
        return self.unroll(enc_X, dec_X, *args)[0]

    def unroll(self, enc_X: Tensor, dec_X: Tensor, *args: Any) -> tuple[Tensor, Any]:
        """As `forward`, with the decoder's state after the last step."""
        check_tensor(enc_X)
        state = self.decoder.init_state(self.encoder(enc_X, *args), *args)
        outputs, state = self.decoder(dec_X, state)
        return outputs, state

    def predict_step(
        self,
        batch: Sequence[Tensor],
        device: torch.device | str | None,
        num_steps: int,
        save_attention_weights: bool = False,
    ) -> tuple[Tensor, list[Any]]:
        """Writes by the likeliest tokens: no graph, dropout off.

        Args:
            batch: source (B, S), target, of which only the first token counts, the source's lengths (B,), and
                a fourth part that does not count: what ``MTFraEng.build`` returns.
            device: where to compute; the model is moved there. None is where it is.
            num_steps: T: how many tokens to write; it goes on behind ``<eos>``.
            save_attention_weights: whether to collect the decoder's ``attention_weights``.

        Returns:
            The tokens (B, T), and for each step the attention weights, if they are collected.
        """
        if device is not None:
            self.to(device)
        device = next(self.parameters()).device
        source, target, lengths = (tensor.to(device) for tensor in batch[:3])
        written, weights = [], []
        with predicting(self), full_precision(device):
            state = self.decoder.init_state(self.encoder(source, lengths), lengths)
            for tokens in islice(likeliest_tokens(self.decoder, state, target[:, :1]), num_steps):
                written.append(tokens)
                if save_attention_weights:
                    weights.append(self.decoder.attention_weights)
        return torch.cat(written, dim=1), weights


class StatefulEncoderDecoder(EncoderDecoder):
    """`EncoderDecoder` whose call also gives the decoder's state, as in the first edition."""

    def forward(  # type: ignore[override]  # two inputs
        self, enc_X: Tensor, dec_X: Tensor, *args: Any
    ) -> tuple[Tensor, Any]:
        """The decoder's outputs (B, T, V), and its state after the last step; see `EncoderDecoder`."""
        return self.unroll(enc_X, dec_X, *args)


def likeliest_tokens(decoder: Any, state: Any, begin: Tensor) -> Iterator[Tensor]:
    """The likeliest tokens (B, 1) of step after step, without end; each is what the next step reads.

    Args:
        decoder: from tokens (B, 1) and a state to logits (B, 1, V) and a state.
        state: before the first step.
        begin: the tokens that the first step reads, (B, 1).
    """
    tokens = begin
    while True:
        logits, state = decoder(tokens, state)
        tokens = logits.argmax(dim=2)
        yield tokens
