"""The language-model head: tokens to recurrent layers to logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import generate
from d2lrnn_torch.devices import full_precision
from d2lrnn_torch.module import Classifier
from d2lrnn_torch.products import affine
from d2lrnn_torch.tokens import can_take_tokens


class RNNLMScratch(Classifier):
    """A language model on recurrent layers, with an output layer spelt out: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with (T, B, `vocab_size`) and a state; it has `num_hiddens`.
        vocab_size: V.
        lr: the learning rate that a trainer may read.

    Example:
        >>> model = RNNLMScratch(RNNScratch(28, 32), vocab_size=28)
        >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 28])
    """

    def __init__(self, rnn: nn.Module, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's parameters: N(0, σ²) with the layers' σ, and zeros."""
        sigma = getattr(self.rnn, "sigma", 0.01)
        self.W_hq = nn.Parameter(torch.randn(self.rnn.num_hiddens, self.vocab_size) * sigma)
        self.b_q = nn.Parameter(torch.zeros(self.vocab_size))

    def forward(self, tokens: Tensor, state: Any = None) -> Tensor:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(self, tokens: Tensor, state: Any = None, masks: Tensor | None = None) -> tuple[Tensor, Any]:
        """Logits (B, T, V) for tokens (B, T), and the final state.

        Args:
            tokens: (B, T).
            state: what the recurrent layers take; None is zeros.
            masks: dropout masks, for layers that take them (`d2lrnn_torch.RNN.forward`).
        """
        # Layers look tokens up by themselves, unless a subclass has vectors of its own for them.
        as_they_are = can_take_tokens(self.rnn) and type(self).one_hot is _ONE_HOT
        inputs = tokens.t() if as_they_are else self.one_hot(tokens)
        outputs, state = self.rnn(inputs, state) if masks is None else self.rnn(inputs, state, masks)
        return self.output_layer(outputs), state

    def next_logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) after one token each (B,), and the next state.

        What `unroll` gives for a single step, with fewer calls: they take most of its time.

        Args:
            tokens: (B,), of int64.
            state: what the recurrent layers take and return.
        """
        H, state = self.rnn.next_state(tokens, state)
        return torch.addmm(self.b_q, H, self.W_hq), state

    def one_hot(self, tokens: Tensor) -> Tensor:
        """One-hot vectors (T, B, V) of tokens (B, T)."""
        return functional.one_hot(tokens.t().long(), self.vocab_size).to(next(self.parameters()).dtype)

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        return affine(_stacked(hiddens), self.W_hq, self.b_q).swapaxes(0, 1)

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        """The loss of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", loss.detach().exp(), train=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor]) -> Tensor:
        """Likewise, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", loss.exp(), train=False)
        return loss

    def predict(
        self, prefix: str, num_preds: int, vocab: Vocab, device: torch.device | str | None = None
    ) -> str:
        """Continues `prefix` by the likeliest characters: no graph, dropout off.

        Args:
            prefix: the beginning; it is turned to lower case, as the novel is.
            num_preds: how many characters to add.
            vocab: what the model was trained with.
            device: where to compute; the model is moved there. None is where it is.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        if device is not None:
            self.to(device)
        with predicting(self):
            return generate(_Predictor(self), vocab, prefix, num_preds)


_ONE_HOT = RNNLMScratch.one_hot


class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with `torch.nn.Linear` for the output layer."""

    def init_params(self) -> None:
        """Makes the linear layer, with PyTorch's initial values."""
        self.linear = nn.Linear(self.rnn.num_hiddens, self.vocab_size)

    def output_layer(self, hiddens: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        H = _stacked(hiddens)
        linear = self.linear
        if len(H) > 1 and type(linear) is nn.Linear and linear.bias is not None:
            return affine(H, linear.weight.t(), linear.bias).swapaxes(0, 1)
        return linear(H).swapaxes(0, 1)  # a single step, or what a subclass put there

    def next_logits(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """See `RNNLMScratch.next_logits`."""
        H, state = self.rnn.next_state(tokens, state)
        linear = self.linear
        return functional.linear(H, linear.weight, linear.bias), state


@contextmanager
def predicting(model: nn.Module) -> Iterator[None]:
    """Within it the model has no dropout and builds no graph; afterwards it is as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


class _Predictor:
    """A language model as what `d2lrnn.generation.generate` asks."""

    def __init__(self, model: RNNLMScratch) -> None:
        self._model = model
        self._device = next(model.parameters()).device

    def initial_state(self, batch_size: int) -> Any:
        return None

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        with full_precision(self._device):
            logits, state = self._model.unroll(torch.tensor(tokens[:, None], device=self._device), state)
        return logits[:, 0].numpy(force=True), state


def _stacked(hiddens: Tensor | Sequence[Tensor]) -> Tensor:
    """The states of all steps as one tensor; a chapter's layers return a list of them."""
    return hiddens if isinstance(hiddens, Tensor) else torch.stack(tuple(hiddens))
