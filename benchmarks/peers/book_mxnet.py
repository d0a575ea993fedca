"""The book's package on MXNet; see `book`."""

from __future__ import annotations

from typing import Any

from mxnet import autograd, gluon, np, npx

npx.set_np()

from d2l import mxnet as book  # noqa: E402
from d2lrnn_mxnet.native import from_native, to_native  # noqa: E402

from d2lrnn.adapter import Batch, FloatArray, ModelSpec, Parameters, StepResult, TrainingSpec  # noqa: E402
from d2lrnn.benchmark.subject import UnsupportedError  # noqa: E402
from d2lrnn.vocab import Vocab  # noqa: E402

#: What the book trains an epoch of; it decides how often a value goes into its figure.
BATCHES = 10

#: The canonical names of the scratch model's parameters.
SCRATCH = ("rnn.0.w_x", "rnn.0.w_h", "rnn.0.b", "head.w", "head.b")


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec) -> None:
        self.spec = spec
        V, h = spec.vocab_size, spec.num_hiddens
        if spec.cell == "rnn" and spec.implementation == "concise":
            raise UnsupportedError("d2l 1.0.3 on mxnet: its RNN has relu, gluon's default, not tanh")
        if spec.cell == "lstm":
            raise UnsupportedError("d2l 1.0.3 has no LSTM: it stands in a chapter, not in the package")
        if spec.implementation == "scratch":
            self.model = book.RNNLMScratch(book.RNNScratch(V, h), V, training.learning_rate)
        else:
            self.model = book.RNNLM(book.GRU(h, spec.num_layers), V, training.learning_rate)
        self.model.board.display = False
        self.model(np.zeros((1, 1), dtype="int32"))  # its layers take their sizes from an input
        self.trainer = book.Trainer(max_epochs=1, gradient_clip_val=training.clip or 0)
        self.trainer.val_dataloader, self.trainer.num_val_batches = None, 0
        self.trainer.num_train_batches = BATCHES
        self.trainer.prepare_model(self.model)
        self.trainer.optim = self.model.configure_optimizers()
        self.trainer.epoch = self.trainer.train_batch_idx = 0
        self._last: Any = None
        step = self.model.training_step

        def remembered(batch: Any) -> Any:
            loss = step(batch)
            self._last = loss
            return loss

        self.model.training_step = remembered

    def initial_state(self, batch_size: int) -> None:
        """The model's own."""
        return

    def train_step(self, batch: Batch, state: None) -> tuple[StepResult, None]:
        """The package's loop over one batch."""
        self.trainer.train_dataloader = [_arrays(batch)]
        self.trainer.fit_epoch()
        return StepResult(self._last, float("nan")), None

    def _loss(self, batch: Batch) -> Any:
        inputs, targets = _arrays(batch)
        return self.model.loss(self.model(inputs), targets)

    def eval_step(self, batch: Batch, state: None) -> tuple[Any, None]:
        """The loss alone."""
        return self._loss(batch), None

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        with autograd.record():
            loss = self._loss(batch)
        loss.backward()
        if self.spec.implementation == "scratch":
            grads = zip(SCRATCH, self._scratch(), strict=True)
            return float(loss), {name: value.grad.asnumpy() for name, value in grads}
        rnn, head = (
            {name: value.grad().asnumpy() for name, value in layer.collect_params().items()}
            for layer in (self.model.rnn.rnn, self.model.linear)
        )
        for name, value in rnn.items():
            if name.endswith("h2h_bias"):
                # The two biases of a gate have equal gradients, and `from_native` adds them up.
                value[: 2 * self.spec.num_hiddens] = 0
        return float(loss), from_native(self.spec, rnn, head)

    def import_parameters(self, parameters: Parameters) -> None:
        """In place; through `to_native` where the package uses Gluon's layers."""
        if self.spec.implementation == "scratch":
            for name, value in zip(SCRATCH, self._scratch(), strict=True):
                value[:] = np.array(parameters[name])
            return
        weights = to_native(self.spec, parameters)
        for layer, values in ((self.model.rnn.rnn, weights.rnn), (self.model.linear, weights.head)):
            for name, value in values.items():
                own: gluon.Parameter = getattr(layer, name)
                own.set_data(value)

    def write(self, vocab: Vocab, prefix: str, number: int) -> str:
        """The package's `predict`."""
        text: str = self.model.predict(prefix, number, vocab)
        return text

    def synchronize(self) -> None:
        """Waits for MXNet's engine."""
        npx.waitall()

    def _scratch(self) -> tuple[Any, ...]:
        model = self.model
        return model.rnn.W_xh, model.rnn.W_hh, model.rnn.b_h, model.W_hq, model.b_q


def _arrays(batch: Batch) -> tuple[Any, Any]:
    return np.array(batch.inputs, dtype="int32"), np.array(batch.targets, dtype="int32")
