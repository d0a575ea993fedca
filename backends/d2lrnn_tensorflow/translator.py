"""The translator on TensorFlow: compiled functions of variables, gradients by tape.

`d2lrnn.translation.spec` has the model in words, `d2lrnn_tensorflow.translator_parts` encoder and decoder.
B = batch size, S = source steps, T = target steps, h = hidden units, L = layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from d2lrnn.contract.optimizers import slot_name, slot_shapes
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.dropout import translator_masks
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes
from d2lrnn.translation.values import PairBatch
from d2lrnn_tensorflow.gradients import dense
from d2lrnn_tensorflow.optimizers import clipped_update
from d2lrnn_tensorflow.recurrence import Tensor
from d2lrnn_tensorflow.translator_parts import Memory, Weights, decode, encode, logits

#: The dropout masks of a training step: (L - 1, S, B, h) and (L - 1, T, B, h), or None.
Masks: TypeAlias = tuple[Tensor | None, Tensor | None]


class TensorFlowTranslator:
    """See `d2lrnn.translation.values.Translator`.

    Every method runs a compiled function. It is traced for the first shape of a batch, and for a second one
    with the sizes that changed left open: further shapes need no trace of their own.

    Args:
        spec: the translator.
        parameters: canonical ones.
        training: how it is trained.
        device: TensorFlow's name of it.

    Raises:
        ParameterError: the parameters do not fit `spec`.

    Example:
        >>> from d2lrnn.translation.spec import initial_translator
        >>> spec = TranslatorSpec(source_size=20, target_size=30)
        >>> translator = TensorFlowTranslator(spec, initial_translator(spec), TrainingSpec(), "/CPU:0")
        >>> source, lengths = np.array([[5, 6, 2], [7, 2, 0]], np.int32), np.array([3, 2], np.int32)
        >>> logits, state = translator.write(np.array([1, 1], np.int32), translator.read(source, lengths))
        >>> logits.shape, [H.shape.as_list() for H in state.states]
        ((2, 30), [[2, 64], [2, 64]])
    """

    def __init__(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, device: str
    ) -> None:
        self.spec, self.training = spec, training
        self.step = 0
        self.learning_rate = training.learning_rate
        self._device = device
        checked = check_arrays("parameter", translator_shapes(spec), parameters, spec.dtype)
        shapes = slot_shapes(training.optimizer, translator_shapes(spec))
        with tf.device(device):
            self._variables = {name: tf.Variable(value) for name, value in checked.items()}
            self._slots = {name: tf.Variable(tf.zeros(shape, spec.dtype)) for name, shape in shapes.items()}
        self._train = _compiled(self._training_step)
        self._evaluate = _compiled(self._mean_loss)
        self._differentiate = _compiled(self._loss_and_gradients)
        self._read = _compiled(lambda *arrays: encode(self.spec, self._weights(), *arrays))
        self._write = _compiled(self._writing_step)

    # What is compiled.

    def _weights(self) -> Weights:
        # Tensors, not variables: a custom gradient covers its arguments only.
        return {name: tf.convert_to_tensor(variable) for name, variable in self._variables.items()}

    def _mean_loss(self, batch: PairBatch, masks: Masks = (None, None)) -> Tensor:
        """The sum of the losses, taken in float64, divided by the number of targets that are no padding."""
        p, (of_encoder, of_decoder) = self._weights(), masks
        memory = encode(self.spec, p, batch.source, batch.lengths, of_encoder)
        outputs, _ = decode(self.spec, p, tf.transpose(batch.inputs), memory, of_decoder)
        targets = tf.transpose(batch.targets)
        valid = targets >= 0
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), logits(p, outputs))
        total = tf.reduce_sum(tf.where(valid, tf.cast(losses, tf.float64), 0.0))
        return total / tf.cast(tf.maximum(tf.math.count_nonzero(valid), 1), tf.float64)

    def _loss_and_gradients(
        self, batch: PairBatch, masks: Masks = (None, None)
    ) -> tuple[Tensor, list[Tensor]]:
        with tf.GradientTape() as tape:
            loss = self._mean_loss(batch, masks)
        return loss, dense(tape.gradient(loss, list(self._variables.values())))

    def _training_step(self, batch: PairBatch, masks: Masks, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the norm of the gradients; `numbers` are the rate and the step from 1, float64."""
        loss, gradients = self._loss_and_gradients(batch, masks)
        variables, slots = list(self._variables.values()), self.training.optimizer.slots
        own = [{slot: self._slots[slot_name(slot, name)] for slot in slots} for name in self._variables]
        return loss, clipped_update(self.training, variables, gradients, own, rate=numbers[0], t=numbers[1])

    def _writing_step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        p = self._weights()
        outputs, states = decode(self.spec, p, tokens[tf.newaxis], memory)
        return logits(p, outputs[0]), memory._replace(states=states)

    # The contract.

    def train_step(self, batch: PairBatch) -> StepResult:
        """Loss, gradient, clip, update."""
        masks = translator_masks(self.spec, self.training.seed, self.step, batch)
        with tf.device(self._device):
            # Inputs of the compiled step: constants would make TensorFlow trace it anew at every change.
            numbers = tf.constant((self.learning_rate, self.step + 1), tf.float64)
            of_encoder, of_decoder = (None if mask is None else tf.constant(mask) for mask in masks)
            loss, norm = self._train(_tensors(batch), (of_encoder, of_decoder), numbers)
        self.step += 1
        return StepResult(loss, norm)

    def eval_step(self, batch: PairBatch) -> Tensor:
        """The loss, without gradients."""
        with tf.device(self._device):
            return self._evaluate(_tensors(batch))

    def gradients(self, batch: PairBatch) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with tf.device(self._device):
            loss, gradients = self._differentiate(_tensors(batch))
        return float(loss), _arrays(dict(zip(self._variables, gradients, strict=True)))

    def read(self, source: IntArray, lengths: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        with tf.device(self._device):
            return self._read(tf.constant(source), tf.constant(lengths))

    def write(self, tokens: IntArray, state: Memory) -> tuple[FloatArray, Memory]:
        """See `d2lrnn.translation.values.Translator`."""
        with tf.device(self._device):
            scores, state = self._write(tf.constant(tokens), state)
        return scores.numpy(), state

    def rows(self, state: Memory, rows: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        with tf.device(self._device):
            return tf.nest.map_structure(lambda part: tf.gather(part, rows), state)

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return _arrays(self._variables)

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the translator's variables."""
        checked = check_arrays("parameter", translator_shapes(self.spec), parameters, self.spec.dtype)
        for name, value in checked.items():
            self._variables[name].assign(value)

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return _arrays(self._slots)

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the translator's variables."""
        shapes = slot_shapes(self.training.optimizer, translator_shapes(self.spec))
        for name, value in check_arrays("optimizer state", shapes, arrays, self.spec.dtype).items():
            self._slots[name].assign(value)

    def synchronize(self) -> None:
        """Waits for the GPUs; on the CPU TensorFlow computes synchronously."""
        tf.test.experimental.sync_devices()


def _compiled(function: Callable[..., Any]) -> Any:
    return tf.function(function, autograph=False, reduce_retracing=True)


def _tensors(batch: PairBatch) -> PairBatch:
    return PairBatch(*map(tf.constant, batch))


def _arrays(values: Mapping[str, Any]) -> dict[str, FloatArray]:
    return {name: np.array(value.numpy()) for name, value in values.items()}
