"""The contract for TensorFlow and Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.parameters import check_parameters
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, Device, FloatArray, IntArray, Parameters, StateArrays, StepResult
from d2lrnn_tensorflow import concise, scratch
from d2lrnn_tensorflow.devices import devices, move_variables, native_name
from d2lrnn_tensorflow.language_model import RNNLM, RNNLMScratch
from d2lrnn_tensorflow.parameters import (
    state_from_arrays,
    state_to_arrays,
    to_canonical,
    to_native,
    trainable_variables,
)
from d2lrnn_tensorflow.recurrence import Tensor

_CONCISE = {"rnn": concise.RNN, "gru": concise.GRU, "lstm": concise.LSTM}
_SCRATCH = {"rnn": scratch.RNNScratch, "gru": scratch.GRUScratch, "lstm": scratch.LSTMScratch}


class TensorFlowBackend:
    """Keras models on TensorFlow: a compiled step, gradients by tape."""

    name = "tensorflow"

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}

    def devices(self) -> Sequence[Device]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return devices()

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """See `d2lrnn.contract.protocols.Backend`."""
        values = to_native(spec, check_parameters(spec, parameters))
        if spec.implementation == "concise":
            rnn = _CONCISE[spec.cell](spec.num_hiddens, spec.num_layers, spec.dropout, dtype=spec.dtype)
            model: RNNLMScratch = RNNLM(rnn, spec.vocab_size)
        else:
            model = RNNLMScratch(_scratch_layers(spec), spec.vocab_size)
        for variable, value in zip(trainable_variables(model), values, strict=True):
            variable.assign(value)
        model.spec = spec
        return model

    def export_model(self, model: RNNLMScratch) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """See `d2lrnn.contract.protocols.Backend`."""
        values = [variable.numpy() for variable in trainable_variables(model)]
        return model.spec, to_canonical(model.spec, values)

    def run_layers(
        self, model: RNNLMScratch, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """See `d2lrnn.contract.protocols.Backend`."""
        native = None if state is None else state_from_arrays(model.spec, state)
        outputs, native = model.rnn(tf.constant(inputs, model.spec.dtype), native)
        return outputs.numpy(), state_to_arrays(model.spec, native)

    def learner(
        self, model: RNNLMScratch, training: TrainingSpec, *, device: str = "auto"
    ) -> TensorFlowLearner:
        """See `d2lrnn.contract.protocols.Backend`."""
        return TensorFlowLearner(model, training, native_name(choose_device(device, self.devices())))


def _scratch_layers(spec: ModelSpec) -> keras.layers.Layer:
    layer: Any = _SCRATCH[spec.cell]
    if spec.cell == "gru":
        layer = partial(layer, reset_after=spec.reset_after)
    if spec.num_layers == 1:
        return layer(spec.vocab_size, spec.num_hiddens, dtype=spec.dtype)
    return scratch.StackedRNNScratch(
        spec.vocab_size, spec.num_hiddens, spec.num_layers, layer=layer, dtype=spec.dtype
    )


class TensorFlowLearner:
    """Trains a model of `TensorFlowBackend.build` in place; the methods are `Learner`'s.

    Every method runs a compiled function, traced once for every shape of a batch. Only prediction goes
    through XLA, which halves the cost of a call there. A training step on a CPU takes 0.6 to 1.4 × the time
    with XLA, from model to model, and two to four seconds to compile instead of a half.
    """

    def __init__(self, model: RNNLMScratch, training: TrainingSpec, device: str) -> None:
        self.model = model
        self.training = training
        self.step = 0
        self._device = device
        move_variables(model.variables, device)
        self._variables = [variable.value for variable in trainable_variables(model)]
        self._train = tf.function(self._training_step)
        self._evaluate = tf.function(self._mean_loss)
        self._differentiate = tf.function(self._loss_and_gradients)
        self._predict = tf.function(self._prediction_step, jit_compile=True)
        self._predictors: dict[int, Any] = {}

    # What is compiled.

    def _mean_loss(
        self, inputs: Tensor, targets: Tensor, state: Any, masks: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Sum of losses / number of tokens. The sum is taken in float64: a batch has tens of thousands."""
        logits, state = self.model.unroll(inputs, state, masks)
        valid = targets >= 0
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), logits)
        total = tf.reduce_sum(tf.where(valid, tf.cast(losses, tf.float64), 0.0))
        num_tokens = tf.math.count_nonzero(valid, dtype=tf.int32)
        return total / tf.cast(tf.maximum(num_tokens, 1), tf.float64), state

    def _loss_and_gradients(
        self, inputs: Tensor, targets: Tensor, state: Any, masks: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor], Any]:
        with tf.GradientTape() as tape:
            loss, state = self._mean_loss(inputs, targets, state, masks)
        gradients = tape.gradient(loss, self._variables)
        # The gradient of a gather is sparse.
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients], state

    def _training_step(
        self, inputs: Tensor, targets: Tensor, state: Any, masks: Tensor | None
    ) -> tuple[Tensor, Tensor, Any]:
        loss, gradients, state = self._loss_and_gradients(inputs, targets, state, masks)
        norm = tf.linalg.global_norm(gradients)
        theta = self.training.clip
        scale = 1.0 if theta is None else theta / tf.maximum(norm, theta)
        rate = self.training.learning_rate * scale
        for variable, gradient in zip(self._variables, gradients, strict=True):
            variable.assign_sub(rate * gradient)
        return loss, norm, state

    def _prediction_step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self.model.unroll(tokens[:, tf.newaxis], state)
        return logits[:, 0], state

    # The contract.

    def initial_state(self, batch_size: int) -> Any:
        """Zeros."""
        spec = self.model.spec
        zeros = np.zeros((spec.num_layers, batch_size, spec.num_hiddens), spec.dtype)
        return self.import_state((zeros, zeros) if spec.cell == "lstm" else (zeros,))

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """Loss, gradient, clip, update."""
        batch_size, num_steps = batch.inputs.shape
        masks = dropout_masks(
            self.model.spec,
            seed=self.training.seed,
            step=self.step,
            num_steps=num_steps,
            batch_size=batch_size,
        )
        with tf.device(self._device):
            masks = None if masks is None else tf.constant(masks)
            loss, norm, state = self._train(*_tensors(batch), state, masks)
        self.step += 1
        return StepResult(loss, norm), state

    def eval_step(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """The loss alone."""
        with tf.device(self._device):
            return self._evaluate(*_tensors(batch), state)

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) for one step."""
        with tf.device(self._device):
            inputs = tf.constant(tokens, tf.int32)
            predict = self._predictors.get(len(tokens))
            if predict is None:
                # A concrete function skips the look-up by argument types, which costs as much as the step.
                predict = self._predict.get_concrete_function(inputs, state)
                self._predictors[len(tokens)] = predict
            logits, state = predict(inputs, state)
        return logits.numpy(), state

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with tf.device(self._device):
            loss, gradients, _ = self._differentiate(*_tensors(batch), state)
        return float(loss), self._canonical(gradients)

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return self._canonical(self._variables)

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's variables."""
        spec = self.model.spec
        values = to_native(spec, check_parameters(spec, parameters))
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def export_state(self, state: Any) -> StateArrays:
        """A copy."""
        return state_to_arrays(self.model.spec, state)

    def import_state(self, arrays: StateArrays) -> Any:
        """A copy, in the model's precision, on the learner's device."""
        with tf.device(self._device):
            return state_from_arrays(self.model.spec, arrays)

    def synchronize(self) -> None:
        """Waits for the GPUs; on the CPU a call is done when it returns."""
        tf.test.experimental.sync_devices()

    def _canonical(self, values: Sequence[Tensor]) -> dict[str, FloatArray]:
        return to_canonical(self.model.spec, [value.numpy() for value in values])


def _tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    return tf.constant(batch.inputs), tf.constant(batch.targets)
