"""The book's package on PyTorch; see `book`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from book_trainer import Trained
from d2l import torch as book
from d2lrnn_torch.native import to_native
from torch import nn

from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, Parameters, StepResult


class LSTM(book.RNN):
    """The package has only the GRU; its LSTM is in a chapter."""

    def __init__(self, num_inputs: int, num_hiddens: int, num_layers: int) -> None:
        book.Module.__init__(self)
        self.num_hiddens = num_hiddens
        self.rnn = nn.LSTM(num_inputs, num_hiddens, num_layers)


class Contestant(Trained):
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
        self.model(torch.zeros((1, 1), dtype=torch.long))  # its output layer takes its size from an input
        self.prepare(book, training)

    def arrays(self, batch: Batch) -> tuple[Any, Any]:
        """Tensors."""
        inputs, targets = (torch.as_tensor(array.astype(np.int64)) for array in batch)
        return inputs, targets

    def train_step(self, batch: Batch, state: None) -> tuple[StepResult, None]:
        """The package's loop over one batch; the loss without its graph."""
        result, _ = super().train_step(batch, state)
        return result._replace(loss=result.loss.detach()), None

    @torch.no_grad()
    def eval_step(self, batch: Batch, state: None) -> tuple[torch.Tensor, None]:
        """The loss alone."""
        return super().eval_step(batch, state)

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        self.model.zero_grad()
        loss = self.loss(batch)
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
