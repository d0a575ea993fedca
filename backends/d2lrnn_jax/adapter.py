"""The contract for JAX: a learner owns its parameters and calls the functions of `d2lrnn_jax.compiled`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.cells import cells_with_formula
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import DropoutMasks, dropout_masks
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
    State,
    StateArrays,
    StepResult,
    row_slices,
)
from d2lrnn.copies import restored_learner
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.parts import Part, part_masks
from d2lrnn.workers.protocols import PartResult
from d2lrnn_jax.compiled import (
    compiled_gradient,
    compiled_layers,
    compiled_loss,
    compiled_parts,
    compiled_prediction,
    compiled_training_step,
)
from d2lrnn_jax.concise import MODELS
from d2lrnn_jax.devices import devices, native_device
from d2lrnn_jax.dispatch import disable_async_dispatch
from d2lrnn_jax.export import write_stablehlo
from d2lrnn_jax.language_model import RNNLM, RNNLMScratch
from d2lrnn_jax.optimizers import initial_state as initial_slots
from d2lrnn_jax.optimizers import slots, with_slots
from d2lrnn_jax.parameters import from_canonical, to_canonical
from d2lrnn_jax.port_files import FlaxFiles
from d2lrnn_jax.porter import FlaxPorter
from d2lrnn_jax.precision import precision
from d2lrnn_jax.scratch import LAYERS, StackedRNNScratch
from d2lrnn_jax.shared import (
    flattened,
    joined,
    local,
    shared_gradient,
    shared_loss,
    shared_training_step,
    shared_update,
)
from d2lrnn_jax.specification import module_of, spec_of
from d2lrnn_jax.states import from_arrays, initial_state, to_arrays
from d2lrnn_jax.translator import JaxTranslator

if TYPE_CHECKING:
    from d2lrnn_jax.workers import JaxWorkers


class JaxBackend:
    """JAX with flax.linen modules: float32, and float64 inside a scope of its own."""

    name = "jax"

    def __init__(self) -> None:
        """Disables JAX's asynchronous dispatch, if JAX is not initialised yet; see `d2lrnn_jax.dispatch`."""
        disable_async_dispatch()

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {package: version(package) for package in ("jax", "jaxlib", "flax", "optax", "numpy")}

    def devices(self) -> Sequence[Device]:
        """GPUs first, then the CPU."""
        return devices()

    def cells(self, implementation: Implementation) -> Sequence[str]:
        """All as scratch models; as concise models those of which flax has a cell."""
        if implementation == "concise":
            return list(MODELS)
        return [*LAYERS, *cells_with_formula(self.name)]

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """See `d2lrnn.contract.protocols.Backend`. The model is a module bound to its parameters.

        Example:
            >>> spec = ModelSpec(vocab_size=28)
            >>> model = JaxBackend().build(spec, initial_parameters(spec))
            >>> model(jnp.zeros((2, 35), int)).shape, sorted(model.variables["params"])
            ((2, 35, 28), ['W_hq', 'b_q', 'rnn'])
        """
        return _bind(module_of(spec), spec, check_parameters(spec, parameters))

    def export_model(self, model: RNNLMScratch) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """See `d2lrnn.contract.protocols.Backend`. The model is bound to its parameters."""
        spec = spec_of(model)
        with precision(spec.dtype):
            return spec, to_canonical(spec, model.variables["params"])

    def run_layers(
        self, model: RNNLMScratch, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """See `d2lrnn.contract.protocols.Backend`."""
        spec, (module, variables) = spec_of(model), model.unbind()
        with precision(spec.dtype):
            if state is None:
                before = initial_state(module, variables["params"], inputs.shape[1])
            else:
                before = from_arrays(module, state, spec.dtype)
            outputs, after = compiled_layers(module)(
                variables["params"], np.asarray(inputs, spec.dtype), before
            )
            return np.array(outputs), to_arrays(module, after)

    def learner(
        self,
        model: RNNLMScratch,
        training: TrainingSpec,
        *,
        device: str = "auto",
        workers: JaxWorkers | None = None,
    ) -> Learner:
        """The learner trains a copy: the parameters that `model` is bound to stay as they are.

        With `workers` it computes on the device that they joined with; see
        `d2lrnn.workers.protocols.SharingBackend`.
        """
        if workers is None:
            return JaxLearner(model, training, native_device(choose_device(device, self.devices()).name))
        return WorkerLearner(JaxPartLearner(model, training, workers), workers)

    def join_workers(self, device: str = "auto") -> JaxWorkers:
        """See `d2lrnn.workers.protocols.SharingBackend`. It comes before all else that asks for devices."""
        # Imported late: it needs parts of JAX that have no public name.
        from d2lrnn_jax.workers import JaxWorkers, enter

        enter()
        return JaxWorkers(native_device(choose_device(device, self.devices()).name))

    def translator(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, *, device: str = "auto"
    ) -> JaxTranslator:
        """See `d2lrnn.translation.backends.TranslatorMaker`."""
        native = native_device(choose_device(device, self.devices()).name)
        return JaxTranslator(spec, parameters, training, native)

    def write_export(self, model: RNNLMScratch, path: Path) -> None:
        """See `d2lrnn.saving.exporting.Exporter`."""
        write_stablehlo(*self.export_model(model), path)

    def porter(self) -> FlaxPorter:
        """See `d2lrnn.ports.porter.PortingBackend`."""
        return FlaxPorter()

    def port_files(self) -> FlaxFiles:
        """See `d2lrnn.ports.formats.protocol.FilesBackend`."""
        return FlaxFiles()


class JaxLearner:
    """Trains the parameters of a model; see `d2lrnn.contract.protocols.Learner` for the methods.

    Attributes:
        step: training steps so far.
        learning_rate: of the next step.
        training: optimiser, first rate, clipping, seed.
    """

    def __init__(self, model: RNNLMScratch, training: TrainingSpec, device: jax.Device) -> None:
        self.spec = spec_of(model)
        self.training = training
        self.step = 0
        self.learning_rate = training.learning_rate
        self._device = device
        # Held while the parameters are in use: a training step takes their memory away from other threads.
        self._lock = RLock()
        self._module, variables = model.unbind()
        module, optimizer, theta = self._module, training.optimizer, training.clip
        # Looked up once: comparing modules at every call takes as long as a small model's single step.
        self._train = compiled_training_step(module, optimizer, theta)
        self._parts = compiled_parts(module, optimizer, theta)
        self._loss, self._gradient = compiled_loss(module), compiled_gradient(module)
        self._predict = compiled_prediction(module)
        self._zeros: dict[int, State] = {}
        self._params: Any = self._owned(variables["params"])
        with precision(self.spec.dtype):
            self._remembered: Any = self._placed(initial_slots(training.optimizer, self._params))

    @property
    def model(self) -> RNNLMScratch:
        """The model as trained so far, bound to a copy of the parameters: further steps do not change it."""
        with self._lock, precision(self.spec.dtype):
            return self._module.bind({"params": jax.tree.map(jnp.array, self._params)})

    def initial_state(self, batch_size: int) -> State:
        """Zeros, as the model returns states; shared by all callers, as JAX's arrays are immutable."""
        if batch_size not in self._zeros:
            with self._lock, precision(self.spec.dtype):
                zeros = initial_state(self._module, self._params, batch_size)
                self._zeros[batch_size] = self._placed(zeros)
        return self._zeros[batch_size]

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """Loss, gradient, clip, update: one compiled function, or two with parts: sums and update."""
        batch_size, num_steps = batch.inputs.shape
        masks = dropout_masks(
            self.spec, seed=self.training.seed, step=self.step, num_steps=num_steps, batch_size=batch_size
        )
        train = self._train_at_once if self.training.accumulate == 1 else self._train_by_parts
        with self._lock, precision(self.spec.dtype):
            self._params, self._remembered, result, state = train(_own(batch), state, masks)
            self.step += 1
        return result, state

    def _train_at_once(self, batch: Batch, state: State, masks: DropoutMasks | None) -> Any:
        rate = float(self.learning_rate)
        return self._train(self._params, self._remembered, rate, self.step, batch, state, masks)

    def _train_by_parts(self, batch: Batch, state: State, masks: DropoutMasks | None) -> Any:
        sums, states = self._sums(batch, state, masks, batch.num_tokens)
        rate = float(self.learning_rate)
        return self._parts.update(self._params, self._remembered, rate, self.step, sums, states)

    def _sums(
        self, batch: Batch, state: State, masks: DropoutMasks | None, num_tokens: int
    ) -> tuple[tuple[jax.Array, Any], list[State]]:
        """Loss and gradient, summed over the parts of a batch, and the states after them."""
        params, loss = self._params, jnp.zeros((), self.spec.dtype)
        sums = self._placed((loss, jax.tree.map(jnp.zeros_like, params)))
        states = []
        for rows in row_slices(len(batch.inputs), self.training.accumulate):
            part = batch.rows(rows), state, masks and masks.rows(rows)
            sums, after = self._parts.add(sums, params, rows.start, *part, num_tokens)
            states.append(after)
        return sums, states

    def eval_step(self, batch: Batch, state: State) -> tuple[jax.Array, State]:
        """The loss, without gradients."""
        with self._lock, precision(self.spec.dtype):
            return self._loss(self._params, _own(batch), state)

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """Logits (B, V) for one step."""
        with self._lock, precision(self.spec.dtype):
            logits, state = self._predict(self._params, tokens, state)
            return np.array(logits), state

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with self._lock, precision(self.spec.dtype):
            (loss, _), gradient = self._gradient(self._params, batch, state)
            return float(loss), to_canonical(self.spec, gradient)

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        with self._lock, precision(self.spec.dtype):
            return to_canonical(self.spec, self._params)

    def import_parameters(self, parameters: Parameters) -> None:
        """Takes copies."""
        model = _bind(self._module, self.spec, check_parameters(self.spec, parameters))
        self._params = self._owned(model.variables["params"])

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        with precision(self.spec.dtype):
            return {
                slot_name(slot, name): value
                for slot, tree in slots(self.training.optimizer, self._remembered).items()
                for name, value in to_canonical(self.spec, tree).items()
            }

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Takes copies."""
        optimizer, names = self.training.optimizer, parameter_shapes(self.spec)
        checked = check_optimizer_state(self.spec, optimizer, arrays)
        with precision(self.spec.dtype):
            trees = {
                slot: _tree(self._module, self.spec, {name: checked[slot_name(slot, name)] for name in names})
                for slot in optimizer.slots
            }
            self._remembered = self._placed(with_slots(optimizer, self._remembered, trees))

    def export_state(self, state: State) -> StateArrays:
        """A copy."""
        return to_arrays(self._module, state)

    def import_state(self, arrays: StateArrays) -> State:
        """A copy, on the learner's device."""
        with precision(self.spec.dtype):
            return self._placed(from_arrays(self._module, arrays, self.spec.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a pickle have all but the compiled functions."""
        device = "cpu" if self._device.platform == "cpu" else f"gpu:{self._device.id}"
        state = self.step, self.learning_rate, self.export_optimizer_state()
        return restored_learner, (JaxBackend, self.model, self.training, device, *state)

    def synchronize(self) -> None:
        """Waits for the last update."""
        jax.block_until_ready(self._params)

    def _owned(self, params: Any) -> Any:
        """A copy, because a training step donates the memory of the parameters."""
        with precision(self.spec.dtype):
            return self._placed(jax.tree.map(jnp.array, params))

    def _placed(self, tree: Any) -> Any:
        return jax.device_put(tree, self._device)


class JaxPartLearner(JaxLearner):
    """A learner of one worker; see `d2lrnn.workers.protocols.PartLearner` for its methods.

    Parameters and optimiser state are arrays of all workers, each of which has a copy. Whatever computes on
    this worker alone reads its copy; the states that it takes and returns are its own rows in any case.

    Args:
        model: what is trained.
        training: how.
        workers: over which it sums.
    """

    def __init__(self, model: RNNLMScratch, training: TrainingSpec, workers: JaxWorkers) -> None:
        self._workers = workers
        super().__init__(model, training, workers.device)
        module, mesh = self._module, workers.mesh
        self._train_together = shared_training_step(module, training.optimizer, training.clip, mesh)
        self._update_together = shared_update(training.optimizer, training.clip, mesh)
        self._loss_together = shared_loss(module, mesh)
        self._gradient_together = shared_gradient(module, mesh)
        self._stop_flags = [workers.rows(np.full((1, 1), stop, np.int32)) for stop in (False, True)]

    @property
    def _params(self) -> Any:
        return local(self._shared_params)

    @_params.setter
    def _params(self, params: Any) -> None:
        self._shared_params = self._workers.same(params)

    @property
    def _remembered(self) -> Any:
        return local(self._shared_slots)

    @_remembered.setter
    def _remembered(self, remembered: Any) -> None:
        self._shared_slots = self._workers.same(remembered)

    def train_part(self, part: Part, state: State, *, stop: bool) -> tuple[PartResult, State]:
        """`train_step` with a sum over the workers between gradient and norm."""
        masks = part_masks(self.spec, part, seed=self.training.seed, step=self.step)
        train = self._part_at_once if self.training.accumulate == 1 else self._part_by_parts
        with self._lock, precision(self.spec.dtype), self._workers.summing():
            self._shared_params, self._shared_slots, result, state = train(part, state, masks, stop)
            self.step += 1
            return local(result), local(state)

    def _part_at_once(self, part: Part, state: State, masks: DropoutMasks | None, stop: bool) -> Any:
        rows = self._workers.rows((part.batch, state, masks))
        rate, flag = float(self.learning_rate), self._stop_flags[stop]
        before = self._shared_params, self._shared_slots, rate, self.step
        return self._train_together(*before, part.num_tokens, *rows, flag)

    def _part_by_parts(self, part: Part, state: State, masks: DropoutMasks | None, stop: bool) -> Any:
        sums, states = self._sums(part.batch, state, masks, part.num_tokens)
        flat, rate = self._workers.rows(flattened(sums, float(stop))), float(self.learning_rate)
        before = self._shared_params, self._shared_slots, rate, self.step
        return *self._update_together(*before, flat), joined(states)

    def eval_part(self, part: Part, state: State) -> tuple[jax.Array, State]:
        """The loss of the whole batch."""
        with self._lock, precision(self.spec.dtype), self._workers.summing():
            rows = self._workers.rows((part.batch, state))
            return local(self._loss_together(self._shared_params, part.num_tokens, *rows))

    def part_gradients(self, part: Part, state: State) -> tuple[float, dict[str, FloatArray]]:
        """Those of the whole batch."""
        with self._lock, precision(self.spec.dtype), self._workers.summing():
            rows = self._workers.rows((part.batch, state))
            loss, gradient = local(self._gradient_together(self._shared_params, part.num_tokens, *rows))
            return float(loss), to_canonical(self.spec, gradient)


def _own(batch: Batch) -> Batch:
    """A copy: on a CPU JAX may read its arguments after the call has returned."""
    return Batch(batch.inputs.copy(), batch.targets.copy())


def _bind(module: RNNLMScratch, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
    """`module` with canonical parameters that were checked."""
    with precision(spec.dtype):
        return module.bind({"params": _tree(module, spec, parameters)})


def _tree(module: RNNLMScratch, spec: ModelSpec, arrays: Parameters) -> Any:
    """Arrays by canonical name as a tree like the parameters of `module`."""
    stacked = isinstance(module.rnn, StackedRNNScratch)
    return from_canonical(spec, arrays, flax_head=isinstance(module, RNNLM), stacked=stacked)
