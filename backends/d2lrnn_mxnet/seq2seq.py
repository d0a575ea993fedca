"""Sequence to sequence on gated recurrent units.

The decoder begins with the encoder's final state, and reads the encoder's last output, the *context*, beside
every token. T = time steps, B = batch size, V = vocabulary size, L = layers, h = hidden units.

Source: Cho et al. 2014, Learning phrase representations using RNN encoder-decoder; Sutskever et al. 2014,
Sequence to sequence learning with neural networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet import gluon, init, np, optimizer
from mxnet.gluon import nn, rnn

from d2lrnn_mxnet.concise import GRU
from d2lrnn_mxnet.encoder_decoder import Decoder, Encoder, EncoderDecoder
from d2lrnn_mxnet.layers import run_layers
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


@use_np
class Seq2SeqEncoder(Encoder):
    """An embedding and recurrent layers.

    Args:
        vocab_size: V.
        embed_size: E.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.

    Attributes:
        embedding: tokens to vectors.
        rnn: a `GRU`.

    Example:
        >>> encoder = Seq2SeqEncoder(10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> outputs, state = encoder(np.zeros((4, 9)))
        >>> outputs.shape, state.shape
        ((9, 4, 16), (2, 4, 16))
    """

    def __init__(
        self, vocab_size: int, embed_size: int, num_hiddens: int, num_layers: int, dropout: float = 0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout, num_inputs=embed_size)
        self.initialize(init.Xavier())

    def forward(self, X: Array, *args: Any) -> tuple[Array, Array]:
        """The outputs of the last layer (T, B, h), and the final state of all layers (L, B, h).

        Args:
            X: tokens (B, T).
            *args: not used: padding is read, too.
        """
        return self.rnn(self.embedding(X.T))


@use_np
class GluonSeq2SeqEncoder(Encoder):
    """The first edition's ``Seq2SeqEncoder``: `initialize` gives its values, Gluon's layer its state.

    Args:
        vocab_size: V.
        embed_size: E.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.
        **kwargs: those of ``gluon.Block``.

    Attributes:
        embedding: tokens to vectors.
        rnn: a ``gluon.rnn.GRU``.

    Example:
        >>> encoder = GluonSeq2SeqEncoder(10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> encoder.initialize()
        >>> outputs, state = encoder(np.zeros((4, 7)))
        >>> outputs.shape, [part.shape for part in state]
        ((7, 4, 16), [(2, 4, 16)])
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        num_hiddens: int,
        num_layers: int,
        dropout: float = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = rnn.GRU(num_hiddens, num_layers, dropout=dropout, input_size=embed_size)

    def forward(self, X: Array, *args: Any) -> tuple[Array, list[Array]]:
        """The outputs of the last layer (T, B, h), and the final state as Gluon has it, ``[H]``, (L, B, h).

        Args:
            X: tokens (B, T).
            *args: not used: padding is read, too.
        """
        vectors = self.embedding(X.T)
        return run_layers(self.rnn, vectors, self.rnn.begin_state(batch_size=len(X), ctx=X.ctx))


@use_np
class Seq2SeqDecoder(Decoder):
    """An embedding, recurrent layers and an output layer, fed with the encoder's last output at every step.

    It takes over from any encoder of the same L and h that returns its outputs (T, B, h) and its final state,
    (L, B, h) or a list of that.

    Args:
        vocab_size: V.
        embed_size: E.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.

    Attributes:
        embedding: tokens to vectors.
        rnn: a `GRU`, whose inputs are (E + h).
        dense: hidden states to logits.

    Example:
        >>> encoder, decoder = Seq2SeqEncoder(10, 8, 16, 2), Seq2SeqDecoder(12, 8, 16, 2)
        >>> logits, (_, state) = decoder(np.zeros((4, 9)), decoder.init_state(encoder(np.zeros((4, 7)))))
        >>> logits.shape, state.shape
        ((4, 9, 12), (2, 4, 16))
    """

    def __init__(
        self, vocab_size: int, embed_size: int, num_hiddens: int, num_layers: int, dropout: float = 0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout, num_inputs=embed_size + num_hiddens)
        self.dense = nn.Dense(vocab_size, flatten=False, in_units=num_hiddens)
        self.initialize(init.Xavier())

    def init_state(self, enc_all_outputs: Sequence[Any], *args: Any) -> Sequence[Any]:
        """The encoder's outputs and its final state, as they are."""
        return enc_all_outputs

    def forward(self, X: Array, state: Sequence[Any]) -> tuple[Array, list[Any]]:
        """Logits (B, T, V), and the encoder's outputs with the state after the last token (L, B, h).

        Args:
            X: tokens (B, T).
            state: from `init_state`, or from the call before.
        """
        enc_outputs, hidden_state = state
        vectors = self.embedding(X.T)
        context = enc_outputs[-1]
        contexts = np.broadcast_to(context, (len(vectors), *context.shape))
        outputs, hidden_state = self.rnn(np.concatenate([vectors, contexts], axis=2), hidden_state)
        return self.dense(outputs).swapaxes(0, 1), [enc_outputs, hidden_state]


@use_np
class Seq2Seq(EncoderDecoder):
    """An encoder and a decoder, trained on the target's tokens without its padding.

    Args:
        encoder: see `EncoderDecoder`.
        decoder: likewise.
        tgt_pad: the index of padding in the target's vocabulary.
        lr: the learning rate of Adam.
    """

    def __init__(self, encoder: Any, decoder: Any, tgt_pad: int, lr: float) -> None:
        super().__init__(encoder, decoder)
        self.save_hyperparameters()

    def loss(self, Y_hat: Array, Y: Array, averaged: bool = True) -> Array:
        """Cross-entropy in nats over all tokens but padding: the mean, or one for every prediction.

        Args:
            Y_hat: logits (B, T, V).
            Y: tokens (B, T).
            averaged: whether to take the mean; if not, the losses of padding are zeros.
        """
        losses = super().loss(Y_hat, Y, averaged=False)
        counts = (Y.reshape(-1) != self.tgt_pad).astype(losses.dtype)
        losses = losses * counts
        return losses.sum() / counts.sum() if averaged else losses

    def validation_step(self, batch: Sequence[Array]) -> Array:
        """The loss of a batch ``(source, target one step late, lengths of the sources, target)``."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=False)
        return loss

    def configure_optimizers(self) -> Any:
        """Gluon's Adam at the rate ``self.lr``."""
        return gluon.Trainer(self.parameters(), optimizer.Adam(learning_rate=self.lr))
