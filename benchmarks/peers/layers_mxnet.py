"""gluon.rnn with gluon.Trainer, hybridised, as MXNet's documentation shows.

Both biases of a gate are trained, under SGD at twice the rate. On a CPU without oneDNN the
gradients of more than one fused layer are wrong in MXNet 1.9.1; such a row fails the check and says so.
gluon's own clipping fails on ``mx.np`` arrays: it is written out here.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet import autograd, gluon, np, npx

from d2lrnn import mxnet as d2l
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, IntArray, Parameters, StepResult

npx.set_np()


class Model(gluon.nn.HybridBlock):
    """One-hot tokens or an embedding, the layers, an output layer."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        h, self.vocab_size = spec.num_hiddens, spec.vocab_size
        sizes = {"num_layers": spec.num_layers, "input_size": spec.num_inputs}
        embedded = spec.embedding_size is not None
        self.embedding = gluon.nn.Embedding(spec.vocab_size, spec.embedding_size) if embedded else None
        if spec.cell == "rnn":
            self.rnn = gluon.rnn.RNN(h, activation="tanh", **sizes)
        else:
            self.rnn = {"gru": gluon.rnn.GRU, "lstm": gluon.rnn.LSTM}[spec.cell](h, **sizes)
        self.dense = gluon.nn.Dense(spec.vocab_size, in_units=h, flatten=False)

    def hybrid_forward(self, F: Any, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Tokens (T, B) to logits (T, B, V)."""
        one_hot = self.embedding is None
        inputs = F.npx.one_hot(tokens, self.vocab_size) if one_hot else self.embedding(tokens)
        outputs, state = self.rnn(inputs, state)
        return self.dense(outputs), state


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec) -> None:
        self.spec, self.training = spec, training
        self.model = Model(spec)
        self.model.initialize()
        self.model.hybridize()
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        options = {"learning_rate": training.learning_rate}
        self.trainer = gluon.Trainer(self.model.collect_params(), "sgd", options)

    def initial_state(self, batch_size: int) -> Any:
        """Zeros."""
        return self.model.rnn.begin_state(batch_size)

    def _loss(self, batch: Batch, state: Any) -> Any:
        tokens = np.array(batch.inputs.T, dtype="int32")
        targets = np.array(batch.targets.T, dtype="int32")
        logits, _ = self.model(tokens, state)
        return self.loss(logits.reshape(-1, self.spec.vocab_size), targets.reshape(-1)).mean()

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """The documentation's loop, with clipping."""
        with autograd.record():
            loss = self._loss(batch, state)
        loss.backward()
        gradients = [parameter.grad() for parameter in self.model.collect_params().values()]
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        if self.training.clip and float(norm) > self.training.clip:
            for gradient in gradients:
                gradient[:] *= self.training.clip / norm
        self.trainer.step(1)
        return StepResult(loss, norm), state

    def eval_step(self, batch: Batch, state: Any) -> tuple[Any, Any]:
        """The loss alone."""
        return self._loss(batch, state), state

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """One step."""
        logits, state = self.model(np.array(tokens[None], dtype="int32"), state)
        return logits.asnumpy()[0], state

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        with autograd.record():
            loss = self._loss(batch, state)
        loss.backward()
        h = self.spec.num_hiddens
        rnn = {name: value.grad().asnumpy() for name, value in self.model.rnn.collect_params().items()}
        for name, value in rnn.items():
            if name.endswith("h2h_bias"):
                # The two biases of a gate have equal gradients, and `from_native` adds them up.
                value[: 2 * h if self.spec.cell == "gru" else None] = 0
        head = {name: value.grad() for name, value in self.model.dense.collect_params().items()}
        table = {} if self.model.embedding is None else {"weight": self.model.embedding.weight.grad()}
        return float(loss), d2l.from_native(self.spec, rnn, head, table)

    def import_parameters(self, parameters: Parameters) -> None:
        """Through the tab's `to_native`."""
        weights = d2l.to_native(self.spec, parameters)
        for name, value in weights.rnn.items():
            getattr(self.model.rnn, name).set_data(value)
        for name, value in weights.head.items():
            getattr(self.model.dense, name).set_data(value)
        for name, value in weights.embedding.items():
            getattr(self.model.embedding, name).set_data(value)

    def synchronize(self) -> None:
        """Waits for MXNet's engine."""
        npx.waitall()


class Layers:
    """See `d2lrnn.benchmark.subject.Subject`."""

    same_update = False  # two biases a gate
    generates = True

    def versions(self) -> dict[str, str]:
        """MXNet's."""
        return {"mxnet": mx.__version__}

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Contestant:
        """With these parameters."""
        contestant = Contestant(spec, training)
        contestant.import_parameters(parameters)
        return contestant

    def floor(self, spec: ModelSpec, batch_size: int, num_steps: int, *, device: str) -> None:
        """That of the backend is enough."""
        return


def subject() -> Layers:
    """What the worker measures."""
    return Layers()
