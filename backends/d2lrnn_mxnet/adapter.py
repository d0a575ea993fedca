"""The contract for MXNet: Gluon blocks, compiled whole for every shape of batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mxnet as mx
import numpy
from mxnet import autograd, np, npx

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.parameters import check_parameters
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, Device, FloatArray, IntArray, Parameters, StateArrays, StepResult
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.concise import GRU, LSTM, RNN
from d2lrnn_mxnet.devices import available_devices, context_of
from d2lrnn_mxnet.engine import compute_where_asked
from d2lrnn_mxnet.gradients import square
from d2lrnn_mxnet.language_model import RNNLM, RNNLMScratch
from d2lrnn_mxnet.parameters import parameter_slots, set_parameters
from d2lrnn_mxnet.prediction import Prediction
from d2lrnn_mxnet.program import Program
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch
from d2lrnn_mxnet.states import detached, export_state, import_state, whole, zero_state


@mx.util.use_np
class MXNetBackend:
    """MXNet 1.9 with Gluon and ``mxnet.np``."""

    name = "mxnet"

    def __init__(self) -> None:
        """Has MXNet compute where it is asked to, if it has not begun yet; see `d2lrnn_mxnet.engine`."""
        compute_where_asked()

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"mxnet": mx.__version__, "numpy": numpy.__version__}

    def devices(self) -> Sequence[Device]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return available_devices()

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """See `d2lrnn.contract.protocols.Backend`."""
        values = check_parameters(spec, parameters)
        if spec.implementation == "concise":
            model = RNNLM(_concise_layers(spec), spec.vocab_size)
        else:
            model = RNNLMScratch(_scratch_layers(spec), spec.vocab_size)
        model.cast(spec.dtype)
        set_parameters(parameter_slots(model, spec), values)
        model.spec = spec
        return model

    def export_model(self, model: RNNLMScratch) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return model.spec, {name: slot.get() for name, slot in parameter_slots(model, model.spec).items()}

    def run_layers(
        self, model: RNNLMScratch, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """See `d2lrnn.contract.protocols.Backend`."""
        context = model.collect_params().list_ctx()[0]
        native = None if state is None else import_state(model.spec, state, context)
        outputs, final = model.rnn(on_device(inputs, model.spec.dtype, context), native)
        return outputs.asnumpy(), export_state(model.spec, final)

    def learner(self, model: RNNLMScratch, training: TrainingSpec, *, device: str = "auto") -> MXNetLearner:
        """See `d2lrnn.contract.protocols.Backend`."""
        return MXNetLearner(model, training, context_of(choose_device(device, self.devices())))


@mx.util.use_np
class MXNetLearner:
    """Trains a model that `MXNetBackend.build` made; the methods are `Learner`'s."""

    def __init__(self, model: RNNLMScratch, training: TrainingSpec, context: Any) -> None:
        self.model, self.training, self.context = model, training, context
        self.step = 0
        self._spec: ModelSpec = model.spec
        if model.collect_params().list_ctx() != [context]:
            model.collect_params().reset_ctx(context)
        self._slots = parameter_slots(model, self._spec)
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._predictions: dict[int, Prediction] = {}
        # Keeps Gluon's own dropout out of evaluation; a model without dropout takes no masks.
        self._no_masks: list[Array] | None = [] if self._spec.dropout else None

    def initial_state(self, batch_size: int) -> Any:
        """Zeros."""
        return zero_state(self._spec, batch_size, self.context)

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """Loss, gradient, clip, update."""
        loss, state = self._backward("train", batch, state, self._masks(batch))
        parameters = [slot.parameter for slot in self._slots.values()]
        norm = np.sqrt(sum(square(parameter.grad()) for parameter in parameters))
        rate = self.training.learning_rate * _clip_scale(norm, self.training.clip)
        for parameter in parameters:
            value = parameter.data()
            value -= rate * parameter.grad()
        self.step += 1
        return StepResult(loss, norm), state

    def eval_step(self, batch: Batch, state: Any) -> tuple[Any, Any]:
        """The loss alone."""
        program = self._program("evaluate", batch.inputs.shape)
        # In training mode all the same: what the fused operator does elsewhere depends, in a graph whose
        # memory is planned, on where that memory lies, and two equal calls could differ in the last bit.
        with autograd.pause(train_mode=True):
            logits, state = program.unroll(
                self._tokens(batch.inputs), whole(self._spec, state), self._no_masks
            )
        return program.loss(logits, self._tokens(batch.targets)), state

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """Logits (B, V) for one step."""
        size = len(tokens)
        if size not in self._predictions:
            self._predictions[size] = Prediction(self._spec, self._slots, size, self.context)
        return self._predictions[size](tokens, state)

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        loss, _ = self._backward("gradients", batch, state, self._no_masks)
        return float(loss), {name: slot.gradient() for name, slot in self._slots.items()}

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: slot.get() for name, slot in self._slots.items()}

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's arrays."""
        set_parameters(self._slots, check_parameters(self._spec, parameters))

    def export_state(self, state: Any) -> StateArrays:
        """See `d2lrnn_mxnet.states`."""
        return export_state(self._spec, state)

    def import_state(self, arrays: StateArrays) -> Any:
        """See `d2lrnn_mxnet.states`."""
        return import_state(self._spec, arrays, self.context)

    def synchronize(self) -> None:
        """Waits for MXNet's engine."""
        npx.waitall()

    def _backward(
        self, purpose: str, batch: Batch, state: Any, masks: list[Array] | None
    ) -> tuple[Array, Any]:
        """The mean loss and the final state; the gradients are left in the parameters."""
        program = self._program(purpose, batch.inputs.shape)
        targets = self._tokens(batch.targets)
        state = whole(self._spec, state)
        # In training mode even for `gradients`: without it the fused operator cannot go backwards.
        with autograd.record():
            logits, state = program.unroll(self._tokens(batch.inputs), state, masks)
        logits.backward(program.loss_gradient(logits.detach(), targets))
        return program.loss(logits.detach(), targets), detached(state)

    def _program(self, purpose: str, shape: tuple[int, int]) -> Program:
        """Made once for every shape of batch, and for every purpose: memory is planned for one of them."""
        key = (purpose, *shape)
        if key not in self._programs:
            self._programs[key] = Program(self.model, *shape)
        return self._programs[key]

    def _tokens(self, tokens: IntArray) -> Array:
        return on_device(tokens, "int32", self.context)

    def _masks(self, batch: Batch) -> list[Array] | None:
        batch_size, num_steps = batch.inputs.shape
        masks = dropout_masks(
            self._spec, seed=self.training.seed, step=self.step, num_steps=num_steps, batch_size=batch_size
        )
        return None if masks is None else [on_device(mask, self._spec.dtype, self.context) for mask in masks]


def _concise_layers(spec: ModelSpec) -> RNN:
    layers = {"rnn": RNN, "gru": GRU, "lstm": LSTM}[spec.cell]
    return layers(spec.num_hiddens, spec.num_layers, spec.dropout, num_inputs=spec.vocab_size)


def _scratch_layers(spec: ModelSpec) -> RNNScratch | StackedRNNScratch:
    layers: dict[str, Callable[..., RNNScratch]] = {
        "rnn": RNNScratch,
        "gru": partial(GRUScratch, reset_after=bool(spec.reset_after)),
        "lstm": LSTMScratch,
    }
    layer = layers[spec.cell]
    if spec.num_layers == 1:
        return layer(spec.vocab_size, spec.num_hiddens)
    return StackedRNNScratch(spec.vocab_size, spec.num_hiddens, spec.num_layers, layer=layer)


def _clip_scale(norm: Array, theta: float | None) -> Array | float:
    return 1.0 if theta is None else theta / np.maximum(norm, theta)
