"""The language-model head: tokens to recurrent layers to logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.contract.values import PADDING
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import continue_prefix
from d2lrnn_torch.dropout import dropped
from d2lrnn_torch.head import summed_loss
from d2lrnn_torch.module import Classifier
from d2lrnn_torch.products import affine
from d2lrnn_torch.stepper import Stepper
from d2lrnn_torch.tokens import can_take_tokens, check_tensor, look_up


class RNNLMScratch(Classifier):
    """A language model on recurrent layers, with an output layer spelt out: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with (T, B, V), or (T, B, E), and a state; it has `num_hiddens`.
        vocab_size: V.
        lr: the learning rate of `configure_optimizers`.
        embedding_size: E, the size of the embedding vectors, the rows of ``W_e`` (V, E); None takes one-hot
            vectors.
        tied: whether the output layer's weight is ``W_e``, transposed (Press and Wolf 2017); E is then h.
        input_dropout: the rate at the embedding while training.
        output_dropout: the rate between the layers and the output layer while training.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 28])
        >>> tied = RNNLMScratch(RNNScratch(32, 32), vocab_size=28, embedding_size=32, tied=True)
        >>> tied(torch.zeros(2, 5, dtype=torch.long)).shape, sorted(dict(tied.named_parameters()))[:2]
        (torch.Size([2, 5, 28]), ['W_e', 'b_q'])
    """

    def __init__(
        self,
        rnn: nn.Module,
        vocab_size: int,
        lr: float = 0.01,
        *,
        embedding_size: int | None = None,
        tied: bool = False,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's parameters, N(0, σ²) with the layers' σ and zeros, and the embedding."""
        sigma = getattr(self.rnn, "sigma", 0.01)
        if self.embedding_size is not None:
            # Variance 1, as in `nn.Embedding`; a tied one starts as the weight of an output layer.
            deviation = self.rnn.num_hiddens**-0.5 if self.tied else 1.0
            self.W_e = nn.Parameter(torch.randn(self.vocab_size, self.embedding_size) * deviation)
        if not self.tied:
            self.W_hq = nn.Parameter(torch.randn(self.rnn.num_hiddens, self.vocab_size) * sigma)
        self.b_q = nn.Parameter(torch.zeros(self.vocab_size))

    def forward(self, tokens: Tensor, state: Any = None) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(
        self, tokens: Tensor, state: Any = None, masks: DropoutMasks | None = None
    ) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the final state.

        Args:
            tokens: (B, T).
            state: what the recurrent layers take; None is zeros.
            masks: dropout masks as tensors; those between layers need layers that take them, as this
                library's do. None leaves dropout to PyTorch: at the model's rates while training, else none.
        """
        outputs, state = self._outputs(tokens, state, masks)
        return self.output_layer(outputs), state

    def summed_loss(
        self, tokens: Tensor, targets: Tensor, state: Any = None, masks: DropoutMasks | None = None
    ) -> tuple[Tensor, Any]:
        """The sum of the cross-entropies, in nats, and the final state.

        Args:
            tokens: (B, T).
            targets: (B, T), int64; those that are `d2lrnn.contract.values.PADDING` count nothing.
            state: see `unroll`.
            masks: see `unroll`.
        """
        if not (self._is_unchanged("unroll", "output_layer") and self.has_own_layers()):
            logits, state = self.unroll(tokens, state, masks)
            rows, y = logits.flatten(0, 1), targets.flatten()
            return functional.cross_entropy(rows, y, ignore_index=PADDING, reduction="sum"), state
        outputs, state = self._outputs(tokens, state, masks)
        w, b = self._head()
        return summed_loss(_stacked(outputs).flatten(0, 1), w, b, targets.t().flatten()), state

    def _head(self) -> tuple[Tensor, Tensor]:
        """The output layer's weight (h, V) and bias (V,)."""
        return self.W_e.t() if self.tied else self.W_hq, self.b_q

    def _outputs(self, tokens: Tensor, state: Any, masks: DropoutMasks | None) -> tuple[Any, Any]:
        """The last layer's outputs (T, B, h) with dropout, and the final state."""
        check_tensor(tokens)
        of_inputs, between, of_outputs = masks or DropoutMasks()
        if self.embedding_size is not None:
            inputs = self.embed(tokens.t())
            inputs = dropped(inputs, of_inputs, self.input_dropout, training=self.training)
        else:
            # The library's layers look tokens up; a subclass with its own `one_hot` gets its vectors.
            as_they_are = can_take_tokens(self.rnn) and type(self).one_hot is _ONE_HOT
            inputs = tokens.t() if as_they_are else self.one_hot(tokens)
        outputs, state = self.rnn(inputs, state) if between is None else self.rnn(inputs, state, between)
        return dropped(outputs, of_outputs, self.output_dropout, training=self.training), state

    # benchmarks/tricks: torch, a single step of a model
    def next_logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) after one token each (B,), and the next state; without dropout.

        What `unroll` gives for a single step, with fewer Python calls, which take most of its time.

        Args:
            tokens: (B,), of int64.
            state: what the recurrent layers take and return.
        """
        if self.embedding_size is None:
            H, state = self.rnn.next_state(tokens, state)
        else:
            H, state = self.rnn.next_state(torch.embedding(self.W_e, tokens), state)
        return torch.addmm(self.b_q, H, self.W_e.t() if self.tied else self.W_hq), state

    def embed(self, tokens: Tensor) -> Tensor:
        """The rows (T, B, E) of the embedding that stand for tokens (T, B)."""
        return look_up(tokens, self.W_e)

    def one_hot(self, tokens: Tensor) -> Tensor:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return functional.one_hot(tokens.t().long(), self.vocab_size).to(next(self.parameters()).dtype)

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        return affine(_stacked(hiddens), *self._head()).swapaxes(0, 1)

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        """The loss of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", loss.detach().exp(), train=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """As `training_step`, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", loss.exp(), train=False)
        return loss

    def predict(
        self,
        prefix: str | Sequence[str],
        num_preds: int,
        vocab: Vocab,
        device: torch.device | str | None = None,
    ) -> Any:
        """Continues `prefix` by the likeliest tokens: no graph, dropout off.

        Args:
            prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
                `vocab` is of was. Of a list of texts each is continued, and a list comes back.
            num_preds: how many tokens to add.
            vocab: what the model was trained with.
            device: where to compute; the model is moved there. None is where it is.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        if device is not None:
            self.to(device)
        with predicting(self):
            return continue_prefix(self.stepper(), vocab, prefix, num_preds)

    def stepper(self) -> Stepper:
        """Single steps of the model: by `next_logits` where a subclass has not changed the computation."""
        device = next(self.parameters()).device
        unchanged = self._is_unchanged("unroll", "one_hot", "embed", "output_layer", "next_logits")
        if unchanged and self.has_own_layers() and can_take_tokens(self.rnn):
            return Stepper(self.next_logits, self.rnn.begin_state, device, makes_parameters=False)

        def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
            logits, state = self.unroll(tokens.unsqueeze(1), state)
            return logits[:, 0], state

        return Stepper(step, lambda batch_size: None, device)

    def _is_unchanged(self, *methods: str) -> bool:
        """Whether no subclass has put something of its own in the place of these methods."""
        kind, owner = type(self), RNNLM if isinstance(self, RNNLM) else RNNLMScratch
        return all(getattr(kind, name) is getattr(owner, name) for name in methods)

    def has_own_layers(self) -> bool:
        """Whether the embedding and the output layer are those that `next_logits` and `_head` read."""
        return all(hasattr(self, name) for name in ("W_e" if self.tied else "W_hq", "b_q"))


_ONE_HOT = RNNLMScratch.one_hot


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with `torch.nn.Embedding` at the inputs and `torch.nn.Linear` as output layer.

    Example:
        >>> RNNLM(GRU(28, 32, num_layers=2), vocab_size=28)(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 28])
    """

    def init_params(self) -> None:
        """Makes the layers, with PyTorch's initial values; a tied weight starts as the output layer's."""
        if self.embedding_size is not None:
            self.embedding = nn.Embedding(self.vocab_size, self.embedding_size)
        self.linear = nn.Linear(self.rnn.num_hiddens, self.vocab_size)
        if self.tied:
            self.embedding.weight = self.linear.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """See `RNNLMScratch.embed`."""
        return look_up(tokens, self.embedding.weight) if _is_table(self.embedding) else self.embedding(tokens)

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        H = _stacked(hiddens)
        if len(H) > 1 and _is_affine(self.linear):
            return affine(H, *self._head()).swapaxes(0, 1)
        return self.linear(H).swapaxes(0, 1)  # a single step, or a subclass's own layer

    def _head(self) -> tuple[Tensor, Tensor]:
        return self.linear.weight.t(), self.linear.bias

    def next_logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See `RNNLMScratch.next_logits`."""
        if self.embedding_size is None:
            H, state = self.rnn.next_state(tokens, state)
        else:
            H, state = self.rnn.next_state(torch.embedding(self.embedding.weight, tokens), state)
        linear = self.linear
        return functional.linear(H, linear.weight, linear.bias), state

    def _is_unchanged(self, *methods: str) -> bool:
        """Whether no subclass has put something of its own in the place of these methods."""
        kind, owner = type(self), RNNLM if isinstance(self, RNNLM) else RNNLMScratch
        return all(getattr(kind, name) is getattr(owner, name) for name in methods)

    def has_own_layers(self) -> bool:
        """See `RNNLMScratch.has_own_layers`."""
        return _is_affine(self.linear) and (self.embedding_size is None or _is_table(self.embedding))


def _is_affine(layer: nn.Module) -> bool:
    """Whether it is a linear layer that does nothing else: a subclass may have put anything there."""
    return type(layer) is nn.Linear and layer.bias is not None


def _is_table(layer: nn.Module) -> bool:
    """Whether it is an embedding that looks rows up and does nothing else."""
    return type(layer) is nn.Embedding and layer.padding_idx is None and layer.max_norm is None


@contextmanager
def predicting(model: nn.Module) -> Iterator[None]:
    """A context without dropout and without a graph; the model's mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _stacked(hiddens: Tensor | Sequence[Tensor]) -> Tensor:
    """The states of all steps as one tensor; a chapter's layers return a list of them."""
    return hiddens if isinstance(hiddens, Tensor) else torch.stack(tuple(hiddens))
