"""Sequences to sequences with recurrent layers: the models of both editions, and the first one's training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from d2lrnn.book.epochs import check_epochs, draw_epochs, run_epochs
from d2lrnn.book.translation import truncate_pad
from d2lrnn.data.vocabulary import Vocab
from d2lrnn_torch.concise import GRU
from d2lrnn_torch.devices import as_device, full_precision
from d2lrnn_torch.encoder_decoder import Decoder, Encoder, EncoderDecoder, likeliest_tokens
from d2lrnn_torch.epochs import begin_epoch
from d2lrnn_torch.gradients import clip
from d2lrnn_torch.language_model import predicting
from d2lrnn_torch.masking import MaskedSoftmaxCELoss
from d2lrnn_torch.tokens import check_tensor

# The first edition's largest norm of a gradient.
_THETA = 1.0


def init_seq2seq(module: nn.Module) -> None:
    """Draws the weights of a linear layer or a GRU anew, for ``model.apply(init_seq2seq)``.

    They are uniform, with the bounds of Glorot and Bengio 2010; biases and other layers stay.
    """
    # A lazy layer is a linear one too, and has no weights yet.
    if type(module) is nn.Linear or isinstance(module, nn.GRU):
        for name, parameter in module.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_uniform_(parameter)


class Seq2SeqEncoder(Encoder):
    """An embedding and a `GRU`.

    Args:
        vocab_size: V.
        embed_size: the size of the embedding vectors.
        num_hiddens: h.
        num_layers: L.
        dropout: the rate between layers while training.

    Example:
        >>> encoder = Seq2SeqEncoder(vocab_size=10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> outputs, state = encoder(torch.zeros(4, 9))
        >>> outputs.shape, state.shape
        (torch.Size([9, 4, 16]), torch.Size([2, 4, 16]))

    Source: Sutskever et al. 2014; Cho et al. 2014.
    """

    def __init__(
        self, vocab_size: int, embed_size: int, num_hiddens: int, num_layers: int, dropout: float = 0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = GRU(embed_size, num_hiddens, num_layers, dropout)
        self.apply(init_seq2seq)

    def forward(self, X: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        """The outputs of the last layer (T, B, h) for tokens (B, T), and the final state (L, B, h)."""
        check_tensor(X)
        outputs, state = self.rnn(self.embedding(X.t().long()))
        return outputs, state


class Seq2SeqDecoder(Decoder):
    """An embedding, a `GRU` and an output layer; every step also reads the encoder's last output.

    The arguments are those of `Seq2SeqEncoder`; the encoder has as many layers and hidden units.

    Example:
        >>> sizes = dict(embed_size=8, num_hiddens=16, num_layers=2)
        >>> encoder, decoder = Seq2SeqEncoder(10, **sizes), Seq2SeqDecoder(12, **sizes)
        >>> state = decoder.init_state(encoder(torch.zeros(4, 9)))
        >>> decoder(torch.zeros(4, 7), state)[0].shape
        torch.Size([4, 7, 12])

    Source: Cho et al. 2014.
    """

    def __init__(
        self, vocab_size: int, embed_size: int, num_hiddens: int, num_layers: int, dropout: float = 0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.rnn = GRU(embed_size + num_hiddens, num_hiddens, num_layers, dropout)
        self.dense = nn.Linear(num_hiddens, vocab_size)
        self.apply(init_seq2seq)

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """The encoder's outputs (S, B, h) and final state (L, B, h): what it returned."""
        return enc_all_outputs

    def forward(self, X: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the state, of the form that `init_state` gives."""
        check_tensor(X)
        enc_outputs, H = state
        vectors = self.embedding(X.t().long())
        context = enc_outputs[-1].expand(len(vectors), -1, -1)  # the same (B, h) in every step
        outputs, H = self.rnn(torch.cat([vectors, context], dim=-1), H)
        return self.dense(outputs).swapaxes(0, 1), (enc_outputs, H)


class Seq2Seq(EncoderDecoder):
    """An encoder and a decoder with the loss of translations, in which padding does not count.

    Args:
        encoder: see `Encoder`.
        decoder: see `Decoder`.
        tgt_pad: the index of ``<pad>`` in the target's vocabulary.
        lr: the learning rate of `configure_optimizers`.

    Example:
        >>> sizes = dict(vocab_size=10, embed_size=8, num_hiddens=16, num_layers=2)
        >>> model = Seq2Seq(Seq2SeqEncoder(**sizes), Seq2SeqDecoder(**sizes), tgt_pad=1, lr=0.005)
        >>> logits = torch.zeros(1, 3, 10)
        >>> logits[0, 2, 5] = 9
        >>> model.loss(logits, torch.tensor([[4, 5, 1]]))
        tensor(2.3026)
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, tgt_pad: int, lr: float) -> None:
        super().__init__(encoder, decoder)
        self.save_hyperparameters()

    def loss(self, Y_hat: Tensor, Y: Tensor, averaged: bool = True) -> Tensor:
        """Cross-entropy in nats: the mean over all targets but padding, or one for each, 0 for padding.

        Args:
            Y_hat: logits (B, T, V).
            Y: tokens (B, T).
            averaged: whether to take the mean.
        """
        reduction = "mean" if averaged else "none"
        logits, targets = Y_hat.flatten(0, 1), Y.flatten().long()
        return cross_entropy(logits, targets, ignore_index=self.tgt_pad, reduction=reduction)

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """The loss of a batch."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=False)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at the rate ``self.lr``."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def train_seq2seq(
    net: nn.Module,
    data_iter: Iterable[Sequence[Tensor]],
    lr: float,
    num_epochs: int,
    tgt_vocab: Vocab,
    device: torch.device | str | None,
) -> None:
    """Draws the weights anew, trains with Adam on clipped gradients, and plots and prints the loss.

    A step's loss is the sum of what `MaskedSoftmaxCELoss` gives for the sequences. What is plotted is the sum
    of an epoch's, divided by the number of its tokens.

    Args:
        net: from source (B, S), target one step late (B, T) and the source's lengths (B,) to logits
            (B, T, V), or to a tuple that begins with them.
        data_iter: batches of source, its lengths, target and its lengths, as of `load_data_nmt`.
        lr: the learning rate.
        num_epochs: how many epochs.
        tgt_vocab: has ``<bos>``, which the decoder reads first.
        device: where to train; the network is moved there.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite; the parameters are those from before the epoch.
    """
    check_epochs(num_epochs)
    device = as_device(device)
    net.apply(init_seq2seq)
    net.to(device)
    optimizer, loss = torch.optim.Adam(net.parameters(), lr=lr), MaskedSoftmaxCELoss()

    def train_step(batch: Sequence[Tensor]) -> tuple[Tensor, int]:
        num_tokens = int(batch[3].sum())
        X, X_lengths, Y, Y_lengths = (tensor.to(device) for tensor in batch)
        begin = Y.new_full((len(Y), 1), tgt_vocab["<bos>"])
        with full_precision(device):
            outputs = net(X, torch.cat([begin, Y[:, :-1]], dim=1), X_lengths)
            # An `EncoderDecoder` of the current edition gives the logits alone.
            logits = outputs if isinstance(outputs, Tensor) else outputs[0]
            total = loss(logits, Y, Y_lengths).sum()
            optimizer.zero_grad()
            total.backward()
        clip(net.parameters(), _THETA)
        optimizer.step()
        return total.detach() / num_tokens, num_tokens

    draw_epochs(run_epochs(data_iter, num_epochs, train_step, partial(begin_epoch, net)), num_epochs, device)


def predict_seq2seq(
    net: Any,
    src_sentence: str,
    src_vocab: Vocab,
    tgt_vocab: Vocab,
    num_steps: int,
    device: torch.device | str | None,
    save_attention_weights: bool = False,
) -> tuple[str, list[Any]]:
    """Translates a sentence by the likeliest tokens, up to ``<eos>``: no graph, dropout off.

    Args:
        net: has an encoder and a decoder, as `EncoderDecoder`.
        src_sentence: words and marks with a space between them; it is turned to lower case.
        src_vocab: what the network was trained with.
        tgt_vocab: likewise.
        num_steps: T: a longer sentence is cut, and no more tokens are written.
        device: where the network is.
        save_attention_weights: whether to collect the decoder's ``attention_weights``.

    Returns:
        The translation, and for each step the attention weights, if they are collected.
    """
    device = as_device(device)
    source = [*src_vocab[src_sentence.lower().split(" ")], src_vocab["<eos>"]]
    X = torch.tensor([truncate_pad(source, num_steps, src_vocab["<pad>"])], device=device)
    length = torch.tensor([min(len(source), num_steps)], device=device)
    begin = torch.tensor([[tgt_vocab["<bos>"]]], device=device)
    written, weights = [], []
    with predicting(net), full_precision(device):
        state = net.decoder.init_state(net.encoder(X, length), length)
        for tokens in islice(likeliest_tokens(net.decoder, state, begin), num_steps):
            if save_attention_weights:
                weights.append(net.decoder.attention_weights)
            if int(tokens) == tgt_vocab["<eos>"]:
                break
            written.append(int(tokens))
    return " ".join(tgt_vocab.to_tokens(written)), weights
