"""The book's package on MXNet; see `book`."""

from __future__ import annotations

from typing import Any

from mxnet import autograd, gluon, np, npx

npx.set_np()

from book_trainer import Trained  # noqa: E402
from d2l import mxnet as book  # noqa: E402
from d2lrnn_mxnet.native import from_native, to_native  # noqa: E402

from d2lrnn.benchmark.subject import UnsupportedError  # noqa: E402
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.contract.values import Batch, FloatArray, Parameters  # noqa: E402

#: The canonical names of the scratch model's parameters.
SCRATCH = ("rnn.0.w_x", "rnn.0.w_h", "rnn.0.b", "head.w", "head.b")


class Contestant(Trained):
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
        self.model(np.zeros((1, 1), dtype="int32"))  # its layers take their sizes from an input
        self.prepare(book, training)

    def arrays(self, batch: Batch) -> tuple[Any, Any]:
        """On the CPU."""
        return np.array(batch.inputs, dtype="int32"), np.array(batch.targets, dtype="int32")

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """Those of the first biases; a GRU's second one for what is inside the reset."""
        with autograd.record():
            loss = self.loss(batch)
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

    def synchronize(self) -> None:
        """Waits for MXNet's engine."""
        npx.waitall()

    def _scratch(self) -> tuple[Any, ...]:
        model = self.model
        return model.rnn.W_xh, model.rnn.W_hh, model.rnn.b_h, model.W_hq, model.b_q
