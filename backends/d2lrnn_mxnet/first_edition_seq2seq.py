"""Sequence to sequence in the first edition's words: its loss, its training, its translations.

The network is a `StatefulEncoderDecoder`, which the tab's ``FIRST_EDITION`` has as ``EncoderDecoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mxnet as mx
from mxnet import autograd, gluon, init, np, npx, optimizer

from d2lrnn.book.epochs import check_epochs, draw_epochs, run_epochs
from d2lrnn.book.translation import truncate_pad
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.encoder_decoder import write
from d2lrnn_mxnet.first_edition import grad_clipping
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np

# The chapter's largest norm of a gradient.
_THETA = 1.0


@use_np
class MaskedSoftmaxCELoss(gluon.loss.SoftmaxCELoss):
    """Cross-entropy of sequences of different lengths: padding costs nothing.

    Example:
        >>> losses = MaskedSoftmaxCELoss()(np.ones((3, 4, 10)), np.ones((3, 4)), np.array([4, 2, 0]))
        >>> [round(loss, 3) for loss in losses.tolist()]
        [2.303, 1.151, 0.0]
    """

    def forward(self, pred: Array, label: Array, valid_len: Array) -> Array:
        """The losses of sequences (B,): sums over their tokens, divided by T.

        Args:
            pred: logits (B, T, V).
            label: tokens (B, T).
            valid_len: how many tokens of each are no padding (B,).
        """
        weights = np.ones((*label.shape, 1), dtype=pred.dtype, ctx=pred.ctx)
        return super().forward(pred, label, npx.sequence_mask(weights, valid_len, True, axis=1))


@mx.util.use_np
def train_seq2seq(
    net: Any,
    data_iter: Iterable[Sequence[Array]],
    lr: float,
    num_epochs: int,
    tgt_vocab: Vocab,
    device: Any,
) -> None:
    """Trains with Adam on clipped gradients, plots the loss, and prints it with the speed.

    As in the book the network is initialised again, by Xavier's rule, and the loss is that of
    `MaskedSoftmaxCELoss`, summed and divided by the number of tokens.

    Args:
        net: a `StatefulEncoderDecoder`.
        data_iter: batches (source (B, T), its lengths (B,), target (B, T), its lengths (B,)).
        lr: the learning rate.
        num_epochs: how many epochs.
        tgt_vocab: the target's; it has ``<bos>``.
        device: where to train.

    Raises:
        SpecError: `num_epochs` is below 1, or there is no batch.
        DivergedError: a loss was NaN or infinite; the parameters are those from before that epoch.
    """
    check_epochs(num_epochs)
    training = _Translation(net, data_iter, lr, tgt_vocab["<bos>"], device)
    epochs = run_epochs(data_iter, num_epochs, training.step, training.begin_epoch)
    draw_epochs(epochs, num_epochs, device)


@mx.util.use_np
def predict_seq2seq(
    net: Any,
    src_sentence: str,
    src_vocab: Vocab,
    tgt_vocab: Vocab,
    num_steps: int,
    device: Any,
    save_attention_weights: bool = False,
) -> tuple[str, list[Any]]:
    """Translates a sentence by the likeliest tokens, up to the first ``<eos>``: no graph, dropout off.

    Args:
        net: a `StatefulEncoderDecoder`.
        src_sentence: words with a space between them; it is turned to lower case.
        src_vocab: of the sentence; it has ``<pad>`` and ``<eos>``.
        tgt_vocab: of the translation; it has ``<bos>`` and ``<eos>``.
        num_steps: T: a longer sentence is cut, and a translation is not longer.
        device: where `net` is.
        save_attention_weights: whether to collect ``net.decoder.attention_weights``.

    Returns:
        The translation, and of every step the attention weights, where they were asked for.
    """
    words = [*src_vocab[src_sentence.lower().split(" ")], src_vocab["<eos>"]]
    length = on_device([len(words)], "int32", device)
    source = on_device([truncate_pad(words, num_steps, src_vocab["<pad>"])], "int32", device)
    state = net.decoder.init_state(net.encoder(source, length), length)
    first = on_device([[tgt_vocab["<bos>"]]], "int32", device)
    tokens, weights = [], []
    for step in write(net.decoder, first, state, num_steps):
        if save_attention_weights:
            weights.append(net.decoder.attention_weights)
        token = int(step.item())
        if token == tgt_vocab["<eos>"]:
            break
        tokens.append(token)
    return " ".join(tgt_vocab.to_tokens(tokens)), weights


@use_np
class _Translation:
    """A network that learns to translate, and its optimiser.

    Args:
        net: a `StatefulEncoderDecoder`; its parameters get new values.
        batches: see `train_seq2seq`; the first one lets layers infer their sizes.
        lr: the learning rate.
        begin: the index of ``<bos>``.
        device: where to train.

    Raises:
        SpecError: there is no batch.
    """

    def __init__(
        self, net: Any, batches: Iterable[Sequence[Array]], lr: float, begin: int, device: Any
    ) -> None:
        net.initialize(init.Xavier(), force_reinit=True, ctx=device)
        self._net, self._begin, self._device = net, begin, device
        self._optimizer = gluon.Trainer(net.collect_params(), optimizer.Adam(learning_rate=lr))
        self._loss = MaskedSoftmaxCELoss()
        for batch in batches:
            X, X_valid_len, Y, _ = self._prepared(batch)
            net(X, self._late(Y), X_valid_len)
            break
        else:
            raise SpecError("there is no batch to train on")

    def begin_epoch(self) -> Callable[[], None]:
        """What puts back the parameters as they are now."""
        parameters = [parameter.data() for parameter in self._net.collect_params().values()]
        kept = [parameter.copy() for parameter in parameters]

        def put_back() -> None:
            for parameter, value in zip(parameters, kept, strict=True):
                parameter[:] = value

        return put_back

    def step(self, batch: Sequence[Array]) -> tuple[Array, int]:
        """Learns from a batch: the loss of its tokens, and how many they are."""
        # Counted before the batch is on the device, which would have to be waited for.
        num_tokens = int(batch[3].sum())
        X, X_valid_len, Y, Y_valid_len = self._prepared(batch)
        with autograd.record():
            Y_hat, _ = self._net(X, self._late(Y), X_valid_len)
            loss = self._loss(Y_hat, Y, Y_valid_len).sum()
        loss.backward()
        grad_clipping(self._net, _THETA)
        self._optimizer.step(num_tokens)
        return loss.detach() / num_tokens, num_tokens

    def _prepared(self, batch: Sequence[Array]) -> list[Array]:
        return [array.as_in_ctx(self._device) for array in batch]

    def _late(self, Y: Array) -> Array:
        """The targets one step late, behind ``<bos>``: what the decoder reads to tell them."""
        begin = np.full((len(Y), 1), self._begin, dtype=Y.dtype, ctx=Y.ctx)
        return np.concatenate([begin, Y[:, :-1]], axis=1)
