"""Sequence-to-sequence learning: a recurrent network reads a sentence, another one writes its translation.

B = batch size, S and T = time steps of source and target, L = layers, h = hidden units, V = vocabulary size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from d2lrnn.book.epochs import check_epochs, draw_epochs, run_epochs
from d2lrnn.book.translation import truncate_pad
from d2lrnn.data.vocabulary import Vocab
from d2lrnn_tensorflow.compiled import Compiled
from d2lrnn_tensorflow.concise import GRU
from d2lrnn_tensorflow.devices import on_device
from d2lrnn_tensorflow.encoder_decoder import Decoder, Encoder, EncoderDecoder
from d2lrnn_tensorflow.gradients import clipped
from d2lrnn_tensorflow.masking import MaskedSoftmaxCELoss
from d2lrnn_tensorflow.module import Module
from d2lrnn_tensorflow.recurrence import Tensor

# The chapter's largest norm of a gradient.
_THETA = 1.0


class Seq2SeqEncoder(Encoder):
    """An embedding and a GRU, which read a sentence.

    Args:
        vocab_size: V of the source.
        embed_size: the size of the embedding vectors.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers, while training.
        **kwargs: those of `keras.layers.Layer`.

    Example:
        >>> encoder = Seq2SeqEncoder(vocab_size=10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> outputs, state = encoder(tf.zeros((4, 9), tf.int32))
        >>> outputs.shape, [H.shape for H in state]
        (TensorShape([9, 4, 16]), [TensorShape([4, 16]), TensorShape([4, 16])])

    Source: Sutskever et al. 2014; Cho et al. 2014.
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
        self.embedding = keras.layers.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout)

    def call(self, X: Tensor, *args: Any) -> tuple[Tensor, list[Tensor]]:
        """The last layer's outputs (S, B, h), and the final states of the L layers, each (B, h).

        Args:
            X: tokens (B, S).
            *args: the lengths of the sentences; this encoder reads the padding, too.
        """
        outputs, state = self.rnn(self.embedding(tf.transpose(X)))
        # A list is what Keras' own stacked cells take, and `GRU` takes it as well.
        return outputs, tf.unstack(state)


class BatchMajorSeq2SeqEncoder(Seq2SeqEncoder):
    """The first edition's ``Seq2SeqEncoder``, whose outputs are (B, S, h)."""

    def call(self, X: Tensor, *args: Any) -> tuple[Tensor, list[Tensor]]:
        """The last layer's outputs (B, S, h), and the final states of the L layers, each (B, h)."""
        outputs, state = super().call(X, *args)
        return tf.transpose(outputs, (1, 0, 2)), state


class Seq2SeqDecoder(Decoder):
    """An embedding and a GRU, which write a sentence.

    At every step the GRU is given the word before, and the encoder's last output.

    Args:
        vocab_size: V of the target.
        embed_size: the size of the embedding vectors.
        num_hiddens: h, the encoder's too.
        num_layers: L, the encoder's too.
        dropout: the rate between layers, while training.
        **kwargs: those of `keras.layers.Layer`.

    Example:
        >>> encoder = Seq2SeqEncoder(vocab_size=10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> decoder = Seq2SeqDecoder(vocab_size=12, embed_size=8, num_hiddens=16, num_layers=2)
        >>> state = decoder.init_state(encoder(tf.zeros((4, 9), tf.int32)))
        >>> logits, state = decoder(tf.zeros((4, 7), tf.int32), state)
        >>> logits.shape
        TensorShape([4, 7, 12])

    Source: Cho et al. 2014.
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
        self.embedding = keras.layers.Embedding(vocab_size, embed_size)
        self.rnn = GRU(num_hiddens, num_layers, dropout)
        self.dense = keras.layers.Dense(vocab_size)

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """What `Seq2SeqEncoder` returned."""
        return enc_all_outputs

    def call(self, X: Tensor, state: Any) -> tuple[Tensor, list[Any]]:
        """Logits (B, T, V), and the state after the last token.

        Args:
            X: tokens (B, T).
            state: the encoder's outputs (S, B, h), and the states of the layers.
        """
        enc_outputs, hidden_state = state
        embedded = self.embedding(tf.transpose(X))
        context = tf.repeat(enc_outputs[-1:], X.shape[1], axis=0)
        outputs, hidden_state = self.rnn(tf.concat([embedded, context], axis=-1), hidden_state)
        logits = tf.transpose(self.dense(outputs), (1, 0, 2))
        return logits, [enc_outputs, tf.unstack(hidden_state)]


class Seq2Seq(EncoderDecoder):
    """An encoder and a decoder that learn to translate, by the cross-entropy of all words but padding.

    Args:
        encoder: an `Encoder`.
        decoder: a `Decoder`.
        tgt_pad: the index of the target's padding.
        lr: Adam's learning rate.

    Example:
        >>> sizes = {"embed_size": 8, "num_hiddens": 16, "num_layers": 2}
        >>> encoder, decoder = Seq2SeqEncoder(10, **sizes), Seq2SeqDecoder(12, **sizes)
        >>> model = Seq2Seq(encoder, decoder, tgt_pad=0, lr=0.005)
        >>> model(tf.zeros((4, 9), tf.int32), tf.zeros((4, 7), tf.int32), tf.fill((4,), 9)).shape
        TensorShape([4, 7, 12])

    Source: Sutskever et al. 2014.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, tgt_pad: int, lr: float) -> None:
        super().__init__(encoder, decoder)
        self.save_hyperparameters()

    def loss(self, Y_hat: Tensor, Y: Tensor, averaged: bool = True) -> Tensor:
        """Cross-entropy in nats of the targets that are no padding: the mean, or one for every prediction.

        Args:
            Y_hat: logits (B, T, V).
            Y: targets (B, T).
            averaged: whether to take the mean; else the loss of padding is 0.
        """
        mask = tf.cast(tf.reshape(Y, (-1,)) != self.tgt_pad, Y_hat.dtype)
        losses = mask * super().loss(Y_hat, Y, averaged=False)
        return tf.reduce_sum(losses) / tf.reduce_sum(mask) if averaged else losses

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """The loss of a batch; without the accuracy, in which padding would count."""
        return Module.validation_step(self, batch)

    def configure_optimizers(self) -> Any:
        """Adam at the rate ``self.lr``."""
        return keras.optimizers.Adam(float(self.lr))  # Keras takes no integer


def train_seq2seq(
    net: keras.Model,
    data_iter: Iterable[Sequence[Tensor]],
    lr: float,
    num_epochs: int,
    tgt_vocab: Vocab,
    device: AbstractContextManager[Any] | str | None,
) -> None:
    """Trains with Adam on clipped gradients, plots the loss, and prints it and the speed.

    The target is what the decoder is given, too, one word later (teacher forcing). The loss is what the first
    edition takes: the losses of `MaskedSoftmaxCELoss`, summed, and divided by the number of words.

    Args:
        net: called with source (B, S), target (B, T), the source's lengths (B,) and ``training``; gives
            logits (B, T, V) and a state.
        data_iter: what `load_data_nmt` returns.
        lr: the learning rate.
        num_epochs: how many epochs.
        tgt_vocab: the target's vocabulary; has ``<bos>``.
        device: where to compute, as for `EncoderDecoder.predict_step`.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite; the parameters are those from before that epoch.
    """
    check_epochs(num_epochs)
    with on_device(device):
        training = _Training(net, lr, tgt_vocab["<bos>"])
        epochs = run_epochs(data_iter, num_epochs, training.step, training.begin_epoch)
        draw_epochs(epochs, num_epochs, getattr(device, "_device_name", device))


class _Training:
    """A network and its optimiser."""

    def __init__(self, net: keras.Model, lr: float, bos: int) -> None:
        self._net, self._bos = net, bos
        self._optimizer = keras.optimizers.Adam(float(lr))  # Keras takes no integer
        self._differentiate = Compiled(self._loss_and_gradients)
        self._begun = False

    def begin_epoch(self) -> Callable[[], None]:
        """What puts back the parameters as they are now, or were made by the first step."""
        self._remember_parameters()
        return self._put_back_parameters

    def step(self, batch: Sequence[Tensor]) -> tuple[Tensor, int]:
        """Learns from a batch: the loss of its words, and how many they are."""
        source, source_lens, target, target_lens = batch
        if not self._begun:
            # Layers make their weights at their first use, which must not be inside a graph.
            self._net(source[:1], target[:1], source_lens[:1], training=False)
            self._remember_parameters()
            self._begun = True
        loss, gradients = self._differentiate(source, source_lens, target, target_lens)
        self._optimizer.apply_gradients(zip(gradients, self._net.trainable_variables, strict=True))
        num_words = int(tf.reduce_sum(target_lens))
        return loss / num_words, num_words

    def _loss_and_gradients(
        self, source: Tensor, source_lens: Tensor, target: Tensor, target_lens: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        begin = tf.fill((tf.shape(target)[0], 1), tf.cast(self._bos, target.dtype))
        given = tf.concat([begin, target[:, :-1]], axis=1)
        with tf.GradientTape() as tape:
            logits, _ = self._net(source, given, source_lens, training=True)
            loss = tf.reduce_sum(MaskedSoftmaxCELoss(target_lens)(target, logits))
        return loss, clipped(tape.gradient(loss, self._net.trainable_variables), _THETA)

    def _remember_parameters(self) -> None:
        self._before = [variable.numpy() for variable in self._net.trainable_variables]

    def _put_back_parameters(self) -> None:
        for variable, value in zip(self._net.trainable_variables, self._before, strict=True):
            variable.assign(value)


def predict_seq2seq(
    net: keras.Model,
    src_sentence: str,
    src_vocab: Vocab,
    tgt_vocab: Vocab,
    num_steps: int,
    save_attention_weights: bool = False,
) -> tuple[str, list[Any]]:
    """Translates a sentence by the likeliest words, up to ``<eos>``.

    Args:
        net: has an ``encoder`` and a ``decoder``.
        src_sentence: words with a space between them; it is turned to lower case.
        src_vocab: its vocabulary; has ``<pad>`` and ``<eos>``.
        tgt_vocab: the translation's; has ``<bos>`` and ``<eos>``.
        num_steps: T: the sentence is cut or padded, and the translation has at most so many words.
        save_attention_weights: whether to keep what the decoder attends to.

    Returns:
        The translation, and the decoder's ``attention_weights`` of each step, also of that of ``<eos>``.
    """
    words = [*src_vocab[src_sentence.lower().split(" ")], src_vocab["<eos>"]]
    lengths = tf.constant([len(words)])
    source = tf.constant([truncate_pad(words, num_steps, src_vocab["<pad>"])])
    state = net.decoder.init_state(net.encoder(source, lengths, training=False), lengths)
    token, written, weights = tgt_vocab["<bos>"], [], []
    for _ in range(num_steps):
        logits, state = net.decoder(tf.constant([[token]]), state, training=False)
        token = int(tf.argmax(logits[0, 0]))
        if save_attention_weights:
            weights.append(net.decoder.attention_weights)
        if token == tgt_vocab["<eos>"]:
            break
        written.append(token)
    return " ".join(tgt_vocab.to_tokens(written)), weights
