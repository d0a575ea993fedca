"""torch.nn.RNN, GRU and LSTM in the loop that PyTorch's documentation shows; words by its `nn.Embedding`.

Both biases of a gate are trained, as anyone gets them who writes this: under SGD their sum moves at twice the
rate. For the check the second one is set as `to_native` gives it, and the gradients are those of the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from d2lrnn import torch as d2l
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, IntArray, Parameters, StepResult


class Model(nn.Module):
    """One-hot tokens or an embedding, the layers, an output layer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        layers = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[spec.cell]
        self.vocab_size = spec.vocab_size
        self.embedding = nn.Embedding(spec.vocab_size, spec.embedding_size) if spec.embedding_size else None
        self.rnn = layers(spec.num_inputs, spec.num_hiddens, spec.num_layers)
        self.linear = nn.Linear(spec.num_hiddens, spec.vocab_size)

    def forward(self, tokens: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """Tokens (T, B) to logits (T, B, V)."""
        if self.embedding is None:
            inputs = nn.functional.one_hot(tokens, self.vocab_size).float()
        else:
            inputs = self.embedding(tokens)
        outputs, state = self.rnn(inputs, state)
        return self.linear(outputs), state


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec, device: str) -> None:
        self.spec, self.training = spec, training
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        self.model = Model(spec).to(self.device)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=training.learning_rate)

    def initial_state(self, batch_size: int) -> None:
        """The layers' own."""
        return

    def _loss(self, batch: Batch) -> torch.Tensor:
        tokens = torch.as_tensor(batch.inputs.T, dtype=torch.long, device=self.device)
        targets = torch.as_tensor(batch.targets.T, dtype=torch.long, device=self.device)
        logits, _ = self.model(tokens)
        return self.loss(logits.flatten(0, 1), targets.flatten())

    def train_step(self, batch: Batch, state: None) -> tuple[StepResult, None]:
        """The documentation's loop."""
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._loss(batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip or float("inf"))
        self.optimizer.step()
        return StepResult(loss.detach(), norm), None

    @torch.no_grad()
    def eval_step(self, batch: Batch, state: None) -> tuple[torch.Tensor, None]:
        """The loss alone."""
        self.model.eval()
        return self._loss(batch), None

    @torch.no_grad()
    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """One step."""
        self.model.eval()
        inputs = torch.as_tensor(tokens[None], dtype=torch.long, device=self.device)
        logits, state = self.model(inputs, state)
        return logits[0].cpu().numpy(), state

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._loss(batch)
        loss.backward()
        rnn = {name: parameter.grad for name, parameter in self.model.rnn.named_parameters()}
        values: dict[str, Any] = {}
        for l in range(self.spec.num_layers):
            values[f"rnn.{l}.w_x"] = rnn[f"weight_ih_l{l}"].t()
            values[f"rnn.{l}.w_h"] = rnn[f"weight_hh_l{l}"].t()
            values[f"rnn.{l}.b"] = rnn[f"bias_ih_l{l}"]
            if self.spec.cell == "gru":
                values[f"rnn.{l}.b_hn"] = rnn[f"bias_hh_l{l}"][2 * self.spec.num_hiddens :]
        values["head.w"] = self.model.linear.weight.grad.t()
        values["head.b"] = self.model.linear.bias.grad
        if self.model.embedding is not None:
            values["embedding.w"] = self.model.embedding.weight.grad
        return float(loss.detach()), {
            name: np.ascontiguousarray(value.cpu().numpy()) for name, value in values.items()
        }

    def import_parameters(self, parameters: Parameters) -> None:
        """Through the tab's `to_native`."""
        weights = d2l.to_native(self.spec, parameters)
        self.model.rnn.load_state_dict(weights.rnn)
        self.model.linear.load_state_dict(weights.head)
        if self.model.embedding is not None:
            self.model.embedding.load_state_dict(weights.embedding)

    def synchronize(self) -> None:
        """Waits for a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Layers:
    """See `d2lrnn.benchmark.subject.Subject`."""

    same_update = False  # two biases a gate
    generates = True

    def versions(self) -> dict[str, str]:
        """PyTorch's."""
        return {"torch": str(torch.__version__)}

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Contestant:
        """With these parameters."""
        contestant = Contestant(spec, training, device)
        contestant.import_parameters(parameters)
        return contestant

    def floor(self, spec: ModelSpec, batch_size: int, num_steps: int, *, device: str) -> None:
        """That of the backend is enough."""
        return


def subject() -> Layers:
    """What the worker measures."""
    return Layers()
