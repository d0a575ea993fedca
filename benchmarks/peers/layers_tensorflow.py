"""keras.layers in a compiled model, as Keras' documentation shows, by `train_on_batch`.

`fit` runs the same compiled step on batches of a data set; a batch at a time can be timed and checked. A GRU
trains both rows of its bias, under SGD at twice the rate.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn import tensorflow as d2l
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, IntArray, Parameters, StepResult


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec) -> None:
        self.spec = spec
        layer = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[spec.cell]
        self.rnns = [layer(spec.num_hiddens, return_sequences=True) for _ in range(spec.num_layers)]
        self.dense = keras.layers.Dense(spec.vocab_size)
        self.embedding = (
            keras.layers.Embedding(spec.vocab_size, spec.embedding_size) if spec.embedding_size else None
        )
        tokens = keras.Input((None,), dtype="int32")
        outputs = self._embed(tokens)
        for rnn in self.rnns:
            outputs = rnn(outputs)
        self.model = keras.Model(tokens, self.dense(outputs))
        optimizer = keras.optimizers.SGD(training.learning_rate, global_clipnorm=training.clip)
        self.model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self._cells = [rnn.cell for rnn in self.rnns]
        self._step = tf.function(self._one_step)

    def initial_state(self, batch_size: int) -> Any:
        """Zeros of every cell, for `predict_step`."""
        return [cell.get_initial_state(batch_size) for cell in self._cells]

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """`train_on_batch`; its return value is a mean since the last reset, so that comes first."""
        self.model.reset_metrics()
        loss = self.model.train_on_batch(batch.inputs, batch.targets)
        return StepResult(float(np.ravel(loss)[0]), float("nan")), state

    def eval_step(self, batch: Batch, state: Any) -> tuple[float, Any]:
        """`test_on_batch`."""
        self.model.reset_metrics()
        return float(np.ravel(self.model.test_on_batch(batch.inputs, batch.targets))[0]), state

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """The cells, compiled; `model.predict` keeps no state from character to character."""
        logits, state = self._step(tf.constant(tokens), state)
        return logits.numpy(), state

    def _one_step(self, tokens: Any, states: Any) -> tuple[Any, Any]:
        outputs, after = self._embed(tokens), []
        for cell, state in zip(self._cells, states, strict=True):
            outputs, state = cell(outputs, state)
            after.append(state)
        return self.dense(outputs), after

    def _embed(self, tokens: Any) -> Any:
        one_hot = self.embedding is None
        return keras.ops.one_hot(tokens, self.spec.vocab_size) if one_hot else self.embedding(tokens)

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """By tape, brought into the canonical layout as weights are; a bias that is split has half each."""
        variables = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self.model(batch.inputs, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.targets, logits)
            loss = tf.reduce_mean(losses)
        # That of an embedding is a tensor of rows.
        arrays = [np.array(tf.convert_to_tensor(gradient)) for gradient in tape.gradient(loss, variables)]
        embedding = [] if self.embedding is None else [arrays.pop(0)]
        layers = [arrays[3 * l : 3 * l + 3] for l in range(self.spec.num_layers)]
        if self.spec.cell == "gru":
            for layer in layers:
                # The two biases of a gate have equal gradients, and `from_native` adds them up.
                layer[2] = layer[2].copy()
                layer[2][1, : 2 * self.spec.num_hiddens] = 0
        return float(loss), d2l.from_native(self.spec, layers, arrays[-2:], embedding)

    def import_parameters(self, parameters: Parameters) -> None:
        """Through the tab's `to_native`."""
        weights = d2l.to_native(self.spec, parameters)
        for rnn, values in zip(self.rnns, weights.rnn, strict=True):
            rnn.set_weights(values)
        self.dense.set_weights(weights.head)
        if self.embedding is not None:
            self.embedding.set_weights(weights.embedding)

    def synchronize(self) -> None:
        """The loss was read."""
        tf.test.experimental.sync_devices()


class Layers:
    """See `d2lrnn.benchmark.subject.Subject`."""

    same_update = False  # a GRU's two biases; another formula for clipping
    generates = True

    def versions(self) -> dict[str, str]:
        """TensorFlow's and Keras'."""
        return {"tensorflow": tf.__version__, "keras": keras.__version__}

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
