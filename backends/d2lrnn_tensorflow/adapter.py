"""The contract for TensorFlow and Keras 3."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.contract.cells import cells_with_formula
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.contract.optimizers import slot_name
from d2lrnn.contract.parameters import check_optimizer_state, check_parameters, parameter_shapes
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import (
    Batch,
    Device,
    FloatArray,
    Implementation,
    IntArray,
    Parameters,
    StateArrays,
    StepResult,
    row_slices,
)
from d2lrnn.copies import restored_learner
from d2lrnn.errors import SpecError
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.workers.engine import worker_device
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.parts import Part, part_masks
from d2lrnn.workers.protocols import PartResult
from d2lrnn_tensorflow.concise import CONCISE
from d2lrnn_tensorflow.devices import devices, move_variables, native_name
from d2lrnn_tensorflow.export import write_saved_model
from d2lrnn_tensorflow.gradients import dense
from d2lrnn_tensorflow.language_model import RNNLM, RNNLMScratch
from d2lrnn_tensorflow.optimizers import clipped_update
from d2lrnn_tensorflow.parameters import (
    state_from_arrays,
    state_to_arrays,
    to_canonical,
    to_native,
    trainable_variables,
)
from d2lrnn_tensorflow.port_files import KerasFiles
from d2lrnn_tensorflow.porter import KerasPorter
from d2lrnn_tensorflow.prediction import SingleStep
from d2lrnn_tensorflow.recurrence import Tensor
from d2lrnn_tensorflow.scratch import SCRATCH, StackedRNNScratch, find_scratch
from d2lrnn_tensorflow.translator import TensorFlowTranslator
from d2lrnn_tensorflow.workers import Place, TensorFlowWorkers, join


class TensorFlowBackend:
    """Keras models on TensorFlow: a compiled step, gradients by tape."""

    name = "tensorflow"

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}

    def devices(self) -> Sequence[Device]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return devices()

    def cells(self, implementation: Implementation) -> Sequence[str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        if implementation == "concise":
            return list(CONCISE)
        return [*SCRATCH, *cells_with_formula(self.name)]

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """See `d2lrnn.contract.protocols.Backend`."""
        values = to_native(spec, check_parameters(spec, parameters))
        concise = spec.implementation == "concise"
        head = RNNLM if concise else RNNLMScratch
        model = head(
            _concise_layers(spec) if concise else _scratch_layers(spec),
            spec.vocab_size,
            embedding_size=spec.embedding_size,
            tied=spec.tied,
            input_dropout=spec.input_dropout,
            output_dropout=spec.output_dropout,
        )
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
        self,
        model: RNNLMScratch,
        training: TrainingSpec,
        *,
        device: str = "auto",
        workers: TensorFlowWorkers | None = None,
    ) -> Learner:
        """See `d2lrnn.contract.protocols.Backend` and `d2lrnn.workers.protocols.SharingBackend`."""
        if workers:  # they have the device that was chosen when they were joined
            return WorkerLearner(TensorFlowLearner(model, training, workers.device, workers), workers)
        return TensorFlowLearner(model, training, native_name(choose_device(device, self.devices())))

    def join_workers(self, device: str = "auto") -> TensorFlowWorkers:
        """See `d2lrnn.workers.protocols.SharingBackend`."""
        place = Place.read(os.environ)
        return join(place, worker_device(device, self.devices(), place.local_rank))

    def translator(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, *, device: str = "auto"
    ) -> TensorFlowTranslator:
        """See `d2lrnn.translation.backends.TranslatorMaker`."""
        place = native_name(choose_device(device, self.devices()))
        return TensorFlowTranslator(spec, parameters, training, place)

    def write_export(self, model: RNNLMScratch, path: Path) -> None:
        """See `d2lrnn.saving.exporting.Exporter`."""
        write_saved_model(model, path)

    def porter(self) -> KerasPorter:
        """See `d2lrnn.ports.porter.PortingBackend`."""
        return KerasPorter()

    def port_files(self) -> KerasFiles:
        """See `d2lrnn.ports.formats.protocol.FilesBackend`."""
        return KerasFiles()


def _concise_layers(spec: ModelSpec) -> keras.layers.Layer:
    if spec.cell not in CONCISE:
        raise SpecError(f"Keras has no layer of the cell {spec.cell}: take the scratch implementation")
    return CONCISE[spec.cell](spec.num_hiddens, spec.num_layers, spec.dropout, dtype=spec.dtype)


def _scratch_layers(spec: ModelSpec) -> keras.layers.Layer:
    layer: Any = find_scratch(spec.cell)
    if spec.reset_after is not None:
        layer = partial(layer, reset_after=spec.reset_after)
    if spec.num_layers == 1:
        return layer(spec.num_inputs, spec.num_hiddens, dtype=spec.dtype)
    return StackedRNNScratch(
        spec.num_inputs,
        spec.num_hiddens,
        spec.num_layers,
        layer=layer,
        dropout=spec.dropout,
        dtype=spec.dtype,
    )


def rebuilt_model(spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
    """The copy of a model: what its ``__reduce__`` names."""
    return TensorFlowBackend().build(spec, parameters)


class TensorFlowLearner:
    """Trains a model of `TensorFlowBackend.build` in place; its methods are `Learner`'s and `PartLearner`'s.

    Every method runs a compiled function, traced once for every shape of a batch. Only prediction goes
    through XLA, which makes a call there cheaper. A training step on a CPU is faster with XLA for some models
    and slower for others, and takes longer to compile for all.

    Args:
        model: what is trained.
        training: how.
        device: where, as TensorFlow calls it.
        workers: those over which `train_part` and its like sum; None where this one is alone.
    """

    def __init__(
        self,
        model: RNNLMScratch,
        training: TrainingSpec,
        device: str,
        workers: TensorFlowWorkers | None = None,
    ) -> None:
        self.model = model
        self.training = training
        self.step = 0
        self.learning_rate = training.learning_rate
        self._device = device
        self._workers = workers
        move_variables(model.variables, device)
        self._variables = [variable.value for variable in trainable_variables(model)]
        with tf.device(device):
            self._slots = [
                {slot: tf.Variable(tf.zeros_like(variable)) for slot in training.optimizer.slots}
                for variable in self._variables
            ]
        self._train = tf.function(self._training_step, autograph=False)
        self._evaluate = tf.function(self._mean_loss, autograph=False)
        self._differentiate = tf.function(self._loss_and_gradients, autograph=False)
        self._update = tf.function(self._updated, autograph=False)
        self._train_part = tf.function(self._part_step, autograph=False)
        self._evaluate_part = tf.function(self._summed_loss, autograph=False)
        self._differentiate_part = tf.function(self._summed_loss_and_gradients, autograph=False)
        self._update_part = tf.function(self._summed_and_updated, autograph=False)
        self._predict = SingleStep(self._prediction_step, plain_steps=0)

    # What is compiled.

    def _mean_loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: Any,
        masks: DropoutMasks | None = None,
        num_tokens: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """The sum of the losses divided by `num_tokens`, by default the batch's own; and the final state.

        The sum is taken in float64: a batch has tens of thousands of terms.
        """
        logits, state = self.model.unroll(inputs, state, masks)
        valid = targets >= 0
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), logits)
        total = tf.reduce_sum(tf.where(valid, tf.cast(losses, tf.float64), 0.0))
        if num_tokens is None:
            num_tokens = tf.math.count_nonzero(valid, dtype=tf.int32)
        return total / tf.cast(tf.maximum(num_tokens, 1), tf.float64), state

    def _loss_and_gradients(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: Any,
        masks: DropoutMasks | None = None,
        num_tokens: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], Any]:
        with tf.GradientTape() as tape:
            loss, state = self._mean_loss(inputs, targets, state, masks, num_tokens)
        return loss, dense(tape.gradient(loss, self._variables)), state

    def _training_step(
        self, inputs: Tensor, targets: Tensor, state: Any, masks: DropoutMasks | None, numbers: Tensor
    ) -> tuple[tuple[Tensor, ...], Any]:
        loss, gradients, state = self._loss_and_gradients(inputs, targets, state, masks)
        return self._updated(loss, gradients, numbers), state

    def _updated(self, loss: Tensor, gradients: list[Tensor], numbers: Tensor) -> tuple[Tensor, ...]:
        """Clips, makes the optimiser's step, and returns the loss and the norm of the gradients.

        Args:
            loss: is passed on.
            gradients: of `_variables`.
            numbers: the rate and the number of the step from 1, float64.
        """
        rate, t = numbers[0], numbers[1]
        return loss, clipped_update(self.training, self._variables, gradients, self._slots, rate=rate, t=t)

    # What is compiled where there are workers.

    def _part_step(
        self, inputs: Tensor, targets: Tensor, state: Any, masks: DropoutMasks | None, numbers: Tensor
    ) -> tuple[tuple[Tensor, ...], Any]:
        """`_training_step` of all workers; `numbers` are further the tokens of all, and whether to stop."""
        loss, gradients, state = self._loss_and_gradients(inputs, targets, state, masks, numbers[2])
        return self._summed_and_updated(loss, gradients, numbers), state

    def _summed_and_updated(
        self, loss: Tensor, gradients: list[Tensor], numbers: Tensor
    ) -> tuple[Tensor, ...]:
        """The loss and the norm of all workers, and how many ask to stop."""
        stops, loss, *gradients = self._summed([numbers[3], loss, *gradients])
        return *self._updated(loss, gradients, numbers), stops

    def _summed_loss(
        self, inputs: Tensor, targets: Tensor, state: Any, num_tokens: Tensor
    ) -> tuple[Tensor, Any]:
        loss, state = self._mean_loss(inputs, targets, state, None, num_tokens)
        return self._summed([loss])[0], state

    def _summed_loss_and_gradients(
        self, inputs: Tensor, targets: Tensor, state: Any, num_tokens: Tensor
    ) -> list[Tensor]:
        loss, gradients, _ = self._loss_and_gradients(inputs, targets, state, None, num_tokens)
        return self._summed([loss, *gradients])

    def _summed(self, tensors: list[Tensor]) -> list[Tensor]:
        """Over the workers, in the precision of the last."""
        assert self._workers is not None
        return self._workers.summed([tf.cast(tensor, tensors[-1].dtype) for tensor in tensors])

    def _prediction_step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self.model.unroll(tokens, state)
        return logits[:, 0], state

    # The contract.

    def initial_state(self, batch_size: int) -> Any:
        """Zeros, as the model takes and returns states."""
        spec = self.model.spec
        zeros = np.zeros((spec.num_layers, batch_size, spec.num_hiddens), spec.dtype)
        return self.import_state((zeros,) * spec.num_states)

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """Loss, gradient, clip, update."""
        numbers = self.learning_rate, self.step + 1
        result, state = self._take_step(Part.whole(batch), state, self._train, self._update, numbers)
        return StepResult(*result), state

    def train_part(self, part: Part, state: Any, *, stop: bool) -> tuple[PartResult, Any]:
        """The same, with a sum over the workers between gradient and clip."""
        numbers = self.learning_rate, self.step + 1, part.num_tokens, stop
        with self._sums():
            result, state = self._take_step(part, state, self._train_part, self._update_part, numbers)
        return PartResult(*result), state

    def _take_step(
        self, part: Part, state: Any, train: Any, update: Any, numbers: tuple[float, ...]
    ) -> tuple[tuple[Tensor, ...], Any]:
        """A step in one call of `train`, or in parts and a call of `update`."""
        masks = part_masks(self.model.spec, part, seed=self.training.seed, step=self.step)
        with tf.device(self._device):
            # Inputs of the compiled step: constants would make TensorFlow trace it anew at every change.
            inputs = tf.constant(numbers, tf.float64)
            if self.training.accumulate == 1:
                result, state = train(*_tensors(part.batch), state, _mask_tensors(masks), inputs)
            else:
                loss, gradients, state = self._in_parts(part, state, masks)
                result = update(loss, gradients, inputs)
        self.step += 1
        return result, state

    def _in_parts(
        self, part: Part, state: Any, masks: DropoutMasks | None
    ) -> tuple[Tensor, list[Tensor], Any]:
        """The loss and the gradients of a batch, summed over its parts, and the joined state."""
        gradients: list[Tensor] = []
        losses, states = [], []
        batch, num_tokens = part.batch, tf.constant(part.num_tokens)
        for rows in row_slices(len(batch.inputs), self.training.accumulate):
            loss, own, final = self._differentiate(
                *_tensors(batch.rows(rows)),
                tf.nest.map_structure(lambda part, rows=rows: part[..., rows, :], state),
                _mask_tensors(masks and masks.rows(rows)),
                num_tokens,
            )
            losses.append(loss)
            gradients = own if not gradients else [a + b for a, b in zip(gradients, own, strict=True)]
            states.append(final)
        return sum(losses), gradients, tf.nest.map_structure(lambda *parts: tf.concat(parts, -2), *states)

    def eval_step(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """The loss, without gradients."""
        with tf.device(self._device):
            return self._evaluate(*_tensors(batch), state)

    def eval_part(self, part: Part, state: Any) -> tuple[Tensor, Any]:
        """The loss of the whole batch."""
        with self._sums(), tf.device(self._device):
            return self._evaluate_part(*_tensors(part.batch), state, tf.constant(part.num_tokens))

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) for one step."""
        with tf.device(self._device):
            return self._predict(tokens, state)

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with tf.device(self._device):
            loss, gradients, _ = self._differentiate(*_tensors(batch), state)
        return float(loss), self._canonical(gradients)

    def part_gradients(self, part: Part, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Those of the whole batch."""
        with self._sums(), tf.device(self._device):
            loss, *gradients = self._differentiate_part(
                *_tensors(part.batch), state, tf.constant(part.num_tokens)
            )
        return float(loss), self._canonical(gradients)

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return self._canonical(self._variables)

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's variables."""
        self._assign(self._variables, check_parameters(self.model.spec, parameters))

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {
            slot_name(slot, name): value
            for slot in self.training.optimizer.slots
            for name, value in self._canonical(self._slot(slot)).items()
        }

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the learner's variables."""
        spec = self.model.spec
        checked = check_optimizer_state(spec, self.training.optimizer, arrays)
        for slot in self.training.optimizer.slots:
            self._assign(
                self._slot(slot), {name: checked[slot_name(slot, name)] for name in parameter_shapes(spec)}
            )

    def export_state(self, state: Any) -> StateArrays:
        """A copy."""
        return state_to_arrays(self.model.spec, state)

    def import_state(self, arrays: StateArrays) -> Any:
        """A copy, in the model's precision, on the learner's device."""
        with tf.device(self._device):
            return state_from_arrays(self.model.spec, arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a pickle have all but the compiled functions."""
        device = self._device.strip("/").lower().replace("cpu:0", "cpu")
        state = self.step, self.learning_rate, self.export_optimizer_state()
        return restored_learner, (TensorFlowBackend, self.model, self.training, device, *state)

    def synchronize(self) -> None:
        """Waits for the GPUs; on the CPU TensorFlow computes synchronously."""
        tf.test.experimental.sync_devices()

    def _sums(self) -> AbstractContextManager[None]:
        """Around calls of what sums over the workers."""
        assert self._workers is not None
        return self._workers.named_if_lost()

    def _slot(self, slot: str) -> list[Any]:
        """One slot of the optimiser for all of `_variables`."""
        return [slots[slot] for slots in self._slots]

    def _canonical(self, values: Sequence[Tensor]) -> dict[str, FloatArray]:
        return to_canonical(self.model.spec, [value.numpy() for value in values])

    def _assign(self, variables: Sequence[Any], parameters: Parameters) -> None:
        for variable, value in zip(variables, to_native(self.model.spec, parameters), strict=True):
            variable.assign(value)


def _tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    return tf.constant(batch.inputs), tf.constant(batch.targets)


def _mask_tensors(masks: DropoutMasks | None) -> DropoutMasks | None:
    return masks and DropoutMasks(*(None if mask is None else tf.constant(mask) for mask in masks))
