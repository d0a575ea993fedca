"""The contract for NumPy: the reference that every other backend is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from d2lrnn.contract.cells import cells_with_formula, find_cell
from d2lrnn.contract.clipping import clip_scale, global_norm
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.optimizers import slot_name, slot_shapes
from d2lrnn.contract.parameters import check_optimizer_state, check_parameters, parameter_shapes
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
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn_numpy.devices import CPU
from d2lrnn_numpy.formulas import FORMULAS
from d2lrnn_numpy.language_model import RNNLMScratch
from d2lrnn_numpy.layer import Layer
from d2lrnn_numpy.optimizers import STEPS, Step
from d2lrnn_numpy.stack import RecurrentStack
from d2lrnn_numpy.translator import NumpyTranslator


class LanguageModel(RNNLMScratch):
    """A language model with its specification, `spec`, in the precision that it names."""

    def __init__(self, spec: ModelSpec, parameters: Parameters) -> None:
        values = {name: value.copy() for name, value in check_parameters(spec, parameters).items()}
        layers = []
        for l in range(spec.num_layers):
            prefix = f"rnn.{l}."
            weights = {name[len(prefix) :]: v for name, v in values.items() if name.startswith(prefix)}
            layers.append(Layer(find_cell(spec.cell), weights))
        super().__init__(RecurrentStack(layers, spec.dropout), spec.vocab_size)
        self.spec = spec
        self.embedding, self.tied = values.get("embedding.w"), spec.tied
        self.w, self.b = values["embedding.w"].T if spec.tied else values["head.w"], values["head.b"]


class NumpyBackend:
    """The NumPy reference: float32 and float64, gradients by hand."""

    name = "numpy"

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"numpy": np.__version__}

    def optimizer_steps(self) -> Mapping[str, Step]:
        """The formulas of the optimisers, by name: `d2lrnn.doctor` makes steps again with them."""
        return STEPS

    def devices(self) -> Sequence[Device]:
        """NumPy computes on the CPU."""
        return [CPU]

    def cells(self, implementation: Implementation) -> Sequence[str]:
        """All; the reference computes concise models by hand too."""
        names = [*FORMULAS, *cells_with_formula(self.name)]
        return [name for name in names if implementation == "scratch" or find_cell(name).has_layer]

    def build(self, spec: ModelSpec, parameters: Parameters) -> LanguageModel:
        """See `d2lrnn.contract.protocols.Backend`."""
        return LanguageModel(spec, parameters)

    def export_model(self, model: LanguageModel) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return model.spec, {name: value.copy() for name, value in model.parameters().items()}

    def run_layers(
        self, model: LanguageModel, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """See `d2lrnn.contract.protocols.Backend`."""
        with model.lock:
            outputs, state = model.rnn(np.asarray(inputs, model.spec.dtype), state)
            return outputs.copy(), state

    def learner(self, model: LanguageModel, training: TrainingSpec, *, device: str = "auto") -> NumpyLearner:
        """See `d2lrnn.contract.protocols.Backend`."""
        choose_device(device, self.devices())
        return NumpyLearner(model, training)

    def translator(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, *, device: str = "auto"
    ) -> NumpyTranslator:
        """See `d2lrnn.translation.backends.TranslatorMaker`."""
        choose_device(device, self.devices())
        return NumpyTranslator(spec, parameters, training)


class NumpyLearner:
    """Trains a `LanguageModel` in place; see `d2lrnn.contract.protocols.Learner` for the methods."""

    def __init__(self, model: LanguageModel, training: TrainingSpec) -> None:
        self.model = model
        self.training = training
        self.step = 0
        self.learning_rate = training.learning_rate
        shapes = slot_shapes(training.optimizer, parameter_shapes(model.spec))
        self._slots = {name: np.zeros(shape, model.spec.dtype) for name, shape in shapes.items()}

    def initial_state(self, batch_size: int) -> StateArrays:
        """Zeros (L, B, h)."""
        return self.model.rnn.initial_state(batch_size)

    def train_step(self, batch: Batch, state: StateArrays) -> tuple[StepResult, StateArrays]:
        """Loss, gradient, clip, update."""
        with self.model.lock:  # the model's buffers hold what its backward pass needs
            return self._train_step(batch, state)

    def _train_step(self, batch: Batch, state: StateArrays) -> tuple[StepResult, StateArrays]:
        batch_size, num_steps = batch.inputs.shape
        masks = dropout_masks(
            self.model.spec,
            seed=self.training.seed,
            step=self.step,
            num_steps=num_steps,
            batch_size=batch_size,
        )
        loss, finals = 0.0, []
        gradients: dict[str, FloatArray] = {}
        for rows in row_slices(batch_size, self.training.accumulate):
            part, before = batch.rows(rows), tuple(array[:, rows] for array in state)
            mean, final = self.model.loss(*part, before, masks and masks.rows(rows))
            # The mean over a part, weighted by its share of the batch's tokens.
            weight = part.num_tokens / max(1, batch.num_tokens)
            loss += weight * mean
            _add(gradients, self.model.backward(), weight)
            finals.append(final)
        norm = global_norm(gradients.values())
        self._update(gradients, clip_scale(norm, self.training.clip))
        self.step += 1
        return StepResult(loss, norm), tuple(np.concatenate(parts, 1) for parts in zip(*finals, strict=True))

    def _update(self, gradients: dict[str, FloatArray], scale: float) -> None:
        """One step of the optimiser, on the gradients times `scale`."""
        optimizer = self.training.optimizer
        step = STEPS[optimizer.name]
        for name, parameter in self.model.parameters().items():
            gradients[name] *= scale
            slots = {slot: self._slots[slot_name(slot, name)] for slot in optimizer.slots}
            step(optimizer, parameter, gradients[name], slots, self.learning_rate, self.step + 1)

    def eval_step(self, batch: Batch, state: StateArrays) -> tuple[float, StateArrays]:
        """The loss, without gradients."""
        return self.model.loss(batch.inputs, batch.targets, state)

    def predict_step(self, tokens: IntArray, state: StateArrays) -> tuple[FloatArray, StateArrays]:
        """Logits (B, V) for one step."""
        logits, state = self.model.unroll(tokens[:, None], state)
        return logits[:, 0], state

    def gradients(self, batch: Batch, state: StateArrays) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with self.model.lock:
            loss, _ = self.model.loss(batch.inputs, batch.targets, state)
            gradients = self.model.backward()
        return loss, {name: gradients[name] for name in self.model.parameters()}

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: value.copy() for name, value in self.model.parameters().items()}

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's arrays."""
        checked = check_parameters(self.model.spec, parameters)
        for name, value in self.model.parameters().items():
            value[:] = checked[name]

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: value.copy() for name, value in self._slots.items()}

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the learner's arrays."""
        for name, value in check_optimizer_state(self.model.spec, self.training.optimizer, arrays).items():
            self._slots[name][:] = value

    def export_state(self, state: StateArrays) -> StateArrays:
        """A copy."""
        return tuple(part.copy() for part in state)

    def import_state(self, arrays: StateArrays) -> StateArrays:
        """A copy, in the model's precision."""
        return tuple(np.array(part, dtype=self.model.spec.dtype) for part in arrays)

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy computes synchronously."""


def _add(sums: dict[str, FloatArray], gradients: dict[str, FloatArray], weight: float) -> None:
    """Adds `weight` times the gradients of a part to `sums`; may overwrite `gradients`."""
    for name, gradient in gradients.items():
        gradient *= weight
        if name in sums:
            sums[name] += gradient
        else:
            sums[name] = gradient
