"""The book's package on PyTorch; see `book`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from d2l import torch as book
from d2lrnn_torch.native import to_native
from torch import nn

from d2lrnn.adapter import Batch, FloatArray, ModelSpec, Parameters, StepResult, TrainingSpec
from d2lrnn.vocab import Vocab

#: What the book trains an epoch of; it decides how often a value goes into its figure.
BATCHES = 10


class LSTM(book.RNN):
    """The package has the GRU alone; its LSTM stands in a chapter."""

    def __init__(self, num_inputs: int, num_hiddens: int, num_layers: int) -> None:
        book.Module.__init__(self)
        self.num_hiddens = num_hiddens
        self.rnn = nn.LSTM(num_inputs, num_hiddens, num_layers)


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec) -> None:
        self.spec = spec
        V, h, L = spec.vocab_size, spec.num_hiddens, spec.num_layers
        if spec.implementation == "scratch":
            self.model = book.RNNLMScratch(book.RNNScratch(V, h), V, training.learning_rate)
        else:
            rnn = {
                "rnn": lambda: book.RNN(V, h),
                "gru": lambda: book.GRU(V, h, L),
                "lstm": lambda: LSTM(V, h, L),
            }
            self.model = book.RNNLM(rnn[spec.cell](), V, training.learning_rate)
        self.model.board.display = False
        self.model(torch.zeros((1, 1), dtype=torch.long))  # its output layer takes its size from an input
        self.trainer = book.Trainer(max_epochs=1, gradient_clip_val=training.clip or 0)
        self.trainer.val_dataloader, self.trainer.num_val_batches = None, 0
        self.trainer.num_train_batches = BATCHES
        self.trainer.prepare_model(self.model)
        self.trainer.optim = self.model.configure_optimizers()
        self.trainer.epoch = self.trainer.train_batch_idx = 0
        self._last = float("nan")
        step = self.model.training_step

        def remembered(batch: Any) -> Any:
            loss = step(batch)
            self._last = loss.detach()
            return loss

        self.model.training_step = remembered

    def initial_state(self, batch_size: int) -> None:
        """The model's own."""
        return

    def train_step(self, batch: Batch, state: None) -> tuple[StepResult, None]:
        """The package's loop over one batch."""
        self.trainer.train_dataloader = [_tensors(batch)]
        self.trainer.fit_epoch()
        return StepResult(self._last, float("nan")), None

    @torch.no_grad()
    def eval_step(self, batch: Batch, state: None) -> tuple[torch.Tensor, None]:
        """The loss alone."""
        inputs, targets = _tensors(batch)
        return self.model.loss(self.model(inputs), targets), None

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        self.model.zero_grad()
        inputs, targets = _tensors(batch)
        loss = self.model.loss(self.model(inputs), targets)
        loss.backward()
        values = {name: parameter.grad for name, parameter in self._parameters().items()}
        return float(loss.detach()), {
            name: np.array(_canonical(name, v, self.spec)) for name, v in values.items()
        }

    def import_parameters(self, parameters: Parameters) -> None:
        """In place; through `to_native` where the package uses PyTorch's layers."""
        if self.spec.implementation == "concise":
            weights = to_native(self.spec, parameters)
            self.model.rnn.rnn.load_state_dict(weights.rnn)
            self.model.linear.load_state_dict(weights.head)
            return
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(torch.as_tensor(parameters[name]))

    def write(self, vocab: Vocab, prefix: str, number: int) -> str:
        """The package's `predict`."""
        text: str = self.model.predict(prefix, number, vocab)
        return text

    def synchronize(self) -> None:
        """On a CPU it is done."""

    def _parameters(self) -> dict[str, nn.Parameter]:
        """By canonical name."""
        model, spec = self.model, self.spec
        if spec.implementation == "scratch":
            names = ("rnn.0.w_x", "rnn.0.w_h", "rnn.0.b", "head.w", "head.b")
            rnn = model.rnn
            return dict(zip(names, (rnn.W_xh, rnn.W_hh, rnn.b_h, model.W_hq, model.b_q), strict=True))
        own = dict(model.rnn.rnn.named_parameters())
        found = {}
        for l in range(spec.num_layers):
            found[f"rnn.{l}.w_x"] = own[f"weight_ih_l{l}"]
            found[f"rnn.{l}.w_h"] = own[f"weight_hh_l{l}"]
            found[f"rnn.{l}.b"] = own[f"bias_ih_l{l}"]
            if spec.cell == "gru":
                found[f"rnn.{l}.b_hn"] = own[f"bias_hh_l{l}"]
        return found | {"head.w": model.linear.weight, "head.b": model.linear.bias}


def _canonical(name: str, value: Any, spec: ModelSpec) -> Any:
    if spec.implementation == "scratch":
        return value
    if name.endswith("b_hn"):
        return value[2 * spec.num_hiddens :]
    return value.t() if value.ndim == 2 else value


def _tensors(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.as_tensor(array.astype(np.int64)) for array in batch)  # type: ignore[return-value]
