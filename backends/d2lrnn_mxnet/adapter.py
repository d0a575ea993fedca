"""The contract for MXNet: Gluon blocks, each compiled as a whole for every shape of batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import mxnet as mx
import numpy
from mxnet import autograd, np, npx

from d2lrnn.contract.cells import cells_with_formula
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import DropoutMasks
from d2lrnn.contract.optimizers import slot_name
from d2lrnn.contract.parameters import check_optimizer_state, check_parameters
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
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.parts import Part, part_masks
from d2lrnn.workers.protocols import PartResult
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.concise import CONCISE, RNN
from d2lrnn_mxnet.devices import available_devices, context_of
from d2lrnn_mxnet.dropout import Masks, masks_on_device
from d2lrnn_mxnet.engine import COMPUTING, compute_where_asked
from d2lrnn_mxnet.gradients import clip_scale, global_norm
from d2lrnn_mxnet.language_model import RNNLM, RNNLMScratch
from d2lrnn_mxnet.optimizers import STEPS
from d2lrnn_mxnet.parameters import parameter_places, set_parameters
from d2lrnn_mxnet.port_files import GluonFiles
from d2lrnn_mxnet.porter import GluonPorter
from d2lrnn_mxnet.prediction import GraphPredictor
from d2lrnn_mxnet.program import Program
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.scratch import SCRATCH, ScratchCell, StackedRNNScratch, find_scratch
from d2lrnn_mxnet.states import detached, export_state, import_state, join_rows, rows_of, whole, zero_state
from d2lrnn_mxnet.translator import MXNetTranslator
from d2lrnn_mxnet.workers import MXNetWorkers, join


@mx.util.use_np
class MXNetBackend:
    """MXNet 1.9 with Gluon and ``mxnet.np``."""

    name = "mxnet"

    def __init__(self) -> None:
        """Makes MXNet compute in the calling thread, if it has not started yet; see `d2lrnn_mxnet.engine`."""
        compute_where_asked()

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"mxnet": mx.__version__, "numpy": numpy.__version__}

    def devices(self) -> Sequence[Device]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return available_devices()

    def cells(self, implementation: Implementation) -> Sequence[str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return [*CONCISE] if implementation == "concise" else [*SCRATCH, *cells_with_formula(self.name)]

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """See `d2lrnn.contract.protocols.Backend`."""
        values = check_parameters(spec, parameters)
        concise = spec.implementation == "concise"
        layers = _concise_layers(spec) if concise else _scratch_layers(spec)
        model = (RNNLM if concise else RNNLMScratch)(
            layers,
            spec.vocab_size,
            embedding_size=spec.embedding_size,
            tied=spec.tied,
            input_dropout=spec.input_dropout,
            output_dropout=spec.output_dropout,
        )
        model.cast(spec.dtype)
        set_parameters(parameter_places(model, spec), values)
        model.spec = spec
        return model

    def export_model(self, model: RNNLMScratch) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return model.spec, {name: place.get() for name, place in parameter_places(model, model.spec).items()}

    def run_layers(
        self, model: RNNLMScratch, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """See `d2lrnn.contract.protocols.Backend`."""
        context = model.collect_params().list_ctx()[0]
        with COMPUTING:
            native = None if state is None else import_state(model.spec, state, context)
            outputs, final = model.rnn(on_device(inputs, model.spec.dtype, context), native)
            return outputs.asnumpy(), export_state(model.spec, final)

    def learner(
        self,
        model: RNNLMScratch,
        training: TrainingSpec,
        *,
        device: str = "auto",
        workers: MXNetWorkers | None = None,
    ) -> Learner:
        """See `d2lrnn.contract.protocols.Backend` and `d2lrnn.workers.protocols.SharingBackend`."""
        learner = MXNetLearner(model, training, context_of(choose_device(device, self.devices())), workers)
        return WorkerLearner(learner, workers) if workers else learner

    def join_workers(self, device: str = "auto") -> MXNetWorkers:
        """See `d2lrnn.workers.protocols.SharingBackend`."""
        return join(context_of(choose_device(device, self.devices())))

    def translator(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, *, device: str = "auto"
    ) -> MXNetTranslator:
        """See `d2lrnn.translation.backends.TranslatorMaker`."""
        return MXNetTranslator(spec, parameters, training, context_of(choose_device(device, self.devices())))

    def porter(self) -> GluonPorter:
        """See `d2lrnn.ports.porter.PortingBackend`."""
        return GluonPorter()

    def port_files(self) -> GluonFiles:
        """See `d2lrnn.ports.formats.protocol.FilesBackend`."""
        return GluonFiles()


def rebuilt_model(spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
    """The copy of a model: what its ``__reduce__`` names."""
    return MXNetBackend().build(spec, parameters)


@mx.util.use_np
class MXNetLearner:
    """Trains a model of `MXNetBackend.build`; the methods are those of `Learner` and `PartLearner`.

    Args:
        model: what is trained.
        training: how.
        context: MXNet's device.
        workers: those over which `train_part` and its like sum; None where this one is alone.
    """

    def __init__(
        self, model: RNNLMScratch, training: TrainingSpec, context: Any, workers: MXNetWorkers | None = None
    ) -> None:
        self.model, self.training, self.context = model, training, context
        self.step = 0
        self.learning_rate = training.learning_rate
        self._spec: ModelSpec = model.spec
        if model.collect_params().list_ctx() != [context]:
            model.collect_params().reset_ctx(context)
        self._places = parameter_places(model, self._spec)
        self._slots = {
            name: {slot: np.zeros_like(place.parameter.data()) for slot in training.optimizer.slots}
            for name, place in self._places.items()
        }
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._predictor = GraphPredictor(self._spec, self._places, context)
        # For every step without dropout: without masks Gluon would draw its own.
        self._no_masks = masks_on_device(None, self._spec.dtype, context)
        self._workers = workers

    def initial_state(self, batch_size: int) -> Any:
        """Zeros, as the model takes and returns states."""
        return zero_state(self._spec, batch_size, self.context)

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """Loss, gradient, clip, update."""
        with COMPUTING:
            loss, gradients, state = self._mean_gradient(Part.whole(batch), state)
            return StepResult(loss, self._update(gradients)), state

    def train_part(self, part: Part, state: Any, *, stop: bool) -> tuple[PartResult, Any]:
        """The same, with a sum over the workers between gradient and clip."""
        with COMPUTING:
            loss, gradients, state = self._mean_gradient(part, state)
            loss, stops, *sums = self._summed([loss, np.full_like(loss, stop), *gradients.values()])
            norm = self._update(dict(zip(gradients, sums, strict=True)))
            # Copies: what is summed lies in memory that the next step overwrites.
            return PartResult(loss.copy(), norm, stops.copy()), state

    def _mean_gradient(self, part: Part, state: Any) -> tuple[Array, dict[str, Array], Any]:
        """The mean loss, its gradients in Gluon's layout, and the final state, computed part by part."""
        batch, num_tokens = part.batch, part.num_tokens
        masks = part_masks(self._spec, part, seed=self.training.seed, step=self.step)
        slices = row_slices(len(batch.inputs), self.training.accumulate)
        if len(slices) == 1:
            loss, final = self._backward("train", batch, state, self._on_device(masks), num_tokens)
            return loss, self._gradients(), final
        losses, finals = [], []
        sums: dict[str, Array] = {}
        for rows in slices:
            own = self._on_device(masks and masks.rows(rows))
            before = rows_of(self._spec, state, rows)
            loss, final = self._backward("train", batch.rows(rows), before, own, num_tokens)
            gradients = self._gradients()
            sums = {name: sums[name] + g if sums else g.copy() for name, g in gradients.items()}
            losses.append(loss)
            finals.append(final)
        return sum(losses), sums, join_rows(self._spec, finals)

    def _update(self, gradients: dict[str, Array]) -> Array:
        """Clips, and makes the optimiser's step; the norm before clipping."""
        norm, theta = global_norm(gradients.values()), self.training.clip
        scale = 1.0 if theta is None else clip_scale(norm, theta)
        self.step += 1
        optimizer, step = self.training.optimizer, STEPS[self.training.optimizer.name]
        for name, place in self._places.items():
            value = place.parameter.data()
            step(optimizer, value, gradients[name], self._slots[name], self.learning_rate, self.step, scale)
        return norm

    def _summed(self, arrays: Sequence[Array]) -> list[Array]:
        assert self._workers is not None
        return self._workers.summed(arrays)

    def eval_step(self, batch: Batch, state: Any) -> tuple[Any, Any]:
        """The loss, without gradients."""
        with COMPUTING:
            return self._mean_loss(Part.whole(batch), state)

    def eval_part(self, part: Part, state: Any) -> tuple[Any, Any]:
        """The loss of the whole batch."""
        with COMPUTING:
            loss, state = self._mean_loss(part, state)
            return self._summed([loss])[0].copy(), state

    def _mean_loss(self, part: Part, state: Any) -> tuple[Any, Any]:
        batch = part.batch
        program = self._program("evaluate", batch.inputs.shape)
        # In training mode: in inference mode the result of the concise models' recurrent operator depends on
        # where the planned memory of its graph lies, and two equal calls could differ in the last bit.
        with autograd.pause(train_mode=True):
            logits, state = program.unroll(
                self._tokens(batch.inputs), whole(self._spec, state), self._no_masks
            )
        return _weighted(program.loss(logits, self._tokens(batch.targets)), batch, part.num_tokens), state

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) for one step."""
        return self._predictor.predict_step(tokens, state)

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with COMPUTING:
            loss, _ = self._backward("gradients", batch, state, self._no_masks, batch.num_tokens)
            return self._exported(loss, self._gradients())

    def part_gradients(self, part: Part, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Those of the whole batch."""
        with COMPUTING:
            loss, _ = self._backward("gradients", part.batch, state, self._no_masks, part.num_tokens)
            gradients = self._gradients()
            loss, *sums = self._summed([loss, *gradients.values()])
            return self._exported(loss, dict(zip(gradients, sums, strict=True)))

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: place.get() for name, place in self._places.items()}

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's arrays."""
        set_parameters(self._places, check_parameters(self._spec, parameters))

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {
            slot_name(slot, name): place.canonical(self._slots[name][slot])
            for slot in self.training.optimizer.slots
            for name, place in self._places.items()
        }

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the learner's arrays."""
        checked = check_optimizer_state(self._spec, self.training.optimizer, arrays)
        for name, place in self._places.items():
            for slot, array in self._slots[name].items():
                array[:] = np.array(place.to_native(checked[slot_name(slot, name)]), dtype=array.dtype)

    def export_state(self, state: Any) -> StateArrays:
        """See `d2lrnn_mxnet.states`."""
        return export_state(self._spec, state)

    def import_state(self, arrays: StateArrays) -> Any:
        """See `d2lrnn_mxnet.states`."""
        return import_state(self._spec, arrays, self.context)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a pickle have all but the compiled graphs."""
        device = "cpu" if self.context.device_type == "cpu" else f"gpu:{self.context.device_id}"
        state = self.step, self.learning_rate, self.export_optimizer_state()
        return restored_learner, (MXNetBackend, self.model, self.training, device, *state)

    def synchronize(self) -> None:
        """Waits for MXNet's engine."""
        npx.waitall()

    def _backward(
        self, purpose: str, batch: Batch, state: Any, masks: Masks, num_tokens: int
    ) -> tuple[Array, Any]:
        """The loss and the final state; the gradients are in the parameters afterwards.

        Args:
            purpose: see `_program`.
            batch: the rows to compute.
            state: theirs.
            masks: theirs.
            num_tokens: what the sum of the losses is divided by.
        """
        program = self._program(purpose, batch.inputs.shape)
        targets = self._tokens(batch.targets)
        state = whole(self._spec, state)
        # In training mode even for `gradients`: without it the recurrent operator has no backward pass.
        with autograd.record():
            logits, state = program.unroll(self._tokens(batch.inputs), state, masks)
        logits.backward(_weighted(program.loss_gradient(logits.detach(), targets), batch, num_tokens))
        return _weighted(program.loss(logits.detach(), targets), batch, num_tokens), detached(state)

    def _program(self, purpose: str, shape: tuple[int, int]) -> Program:
        """One program for each shape of batch and each purpose, as its memory is planned for these."""
        key = (purpose, *shape)
        if key not in self._programs:
            self._programs[key] = Program(self.model, *shape)
        return self._programs[key]

    def _tokens(self, tokens: IntArray) -> Array:
        return on_device(tokens, "int32", self.context)

    def _gradients(self) -> dict[str, Array]:
        return {name: place.parameter.grad() for name, place in self._places.items()}

    def _exported(self, loss: Array, gradients: dict[str, Array]) -> tuple[float, dict[str, FloatArray]]:
        return float(loss), {name: self._places[name].canonical(g) for name, g in gradients.items()}

    def _on_device(self, masks: DropoutMasks | None) -> Masks:
        return masks_on_device(masks, self._spec.dtype, self.context) if masks else self._no_masks


def _weighted(mean: Array, batch: Batch, num_tokens: int) -> Array:
    """A mean over the tokens of `batch`, or its gradient, as its share of a mean over `num_tokens`."""
    weight = batch.num_tokens / max(1, num_tokens)
    return mean if batch.num_tokens == num_tokens else weight * mean


def _concise_layers(spec: ModelSpec) -> RNN:
    return CONCISE[spec.cell](spec.num_hiddens, spec.num_layers, spec.dropout, num_inputs=spec.num_inputs)


def _scratch_layers(spec: ModelSpec) -> ScratchCell | StackedRNNScratch:
    layer: Any = find_scratch(spec.cell)
    if spec.reset_after is not None:
        layer = partial(layer, reset_after=spec.reset_after)
    if spec.num_layers == 1:
        return layer(spec.num_inputs, spec.num_hiddens)
    return StackedRNNScratch(
        spec.num_inputs, spec.num_hiddens, spec.num_layers, layer=layer, dropout=spec.dropout
    )
