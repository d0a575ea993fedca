"""The contract for PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
    State,
    StateArrays,
    StepResult,
    row_slices,
)
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.workers.engine import worker_device
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.parts import Part, part_masks
from d2lrnn.workers.protocols import PartResult
from d2lrnn_torch.concise import CONCISE_LAYERS, find_concise_layer
from d2lrnn_torch.devices import devices, full_precision, native_device
from d2lrnn_torch.export import write_onnx
from d2lrnn_torch.language_model import RNNLM, RNNLMScratch
from d2lrnn_torch.optimizers import clipped_update
from d2lrnn_torch.parameters import export_arrays, write_arrays
from d2lrnn_torch.port_files import TorchFiles
from d2lrnn_torch.porter import TorchPorter
from d2lrnn_torch.scratch import SCRATCH_LAYERS, StackedRNNScratch, find_scratch_layer
from d2lrnn_torch.states import detached, join_rows, own_state, rows_of, state_arrays, trainable
from d2lrnn_torch.translator import TorchTranslator
from d2lrnn_torch.workers import TorchWorkers, join


class TorchBackend:
    """PyTorch, on a CPU or an NVIDIA GPU."""

    name = "torch"

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"torch": str(torch.__version__), "numpy": np.__version__}

    def devices(self) -> Sequence[Device]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return devices()

    def cells(self, implementation: Implementation) -> Sequence[str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        if implementation == "concise":
            return list(CONCISE_LAYERS)
        return [*SCRATCH_LAYERS, *cells_with_formula(self.name)]

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """An `RNNLMScratch` or `RNNLM` in evaluation mode, with `spec` as an attribute."""
        values = check_parameters(spec, parameters)
        # The initial values are overwritten below: drawing them must not advance the caller's generator.
        with torch.random.fork_rng(devices=[]):
            model = _model(spec)
        model.to(getattr(torch, spec.dtype)).eval()
        write_arrays(spec, dict(model.named_parameters()), values)
        model.spec = spec
        return model

    def export_model(self, model: RNNLMScratch) -> tuple[ModelSpec, dict[str, FloatArray]]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return model.spec, export_arrays(model.spec, dict(model.named_parameters()))

    def run_layers(
        self, model: RNNLMScratch, inputs: FloatArray, state: StateArrays | None = None
    ) -> tuple[FloatArray, StateArrays]:
        """See `d2lrnn.contract.protocols.Backend`."""
        device = next(model.parameters()).device
        model.eval()
        own = None if state is None else own_state(model.spec, state, device)
        with torch.no_grad(), full_precision(device):
            X = torch.tensor(inputs, dtype=getattr(torch, model.spec.dtype), device=device)
            outputs, final = model.rnn(X, own)
        return outputs.numpy(force=True), state_arrays(model.spec, final)

    def learner(
        self,
        model: RNNLMScratch,
        training: TrainingSpec,
        *,
        device: str = "auto",
        workers: TorchWorkers | None = None,
    ) -> Learner:
        """See `d2lrnn.contract.protocols.Backend` and `d2lrnn.workers.protocols.SharingBackend`."""
        learner = TorchLearner(model, training, native_device(choose_device(device, self.devices())), workers)
        return WorkerLearner(learner, workers) if workers else learner

    def join_workers(self, device: str = "auto") -> TorchWorkers:
        """See `d2lrnn.workers.protocols.SharingBackend`."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        return join(native_device(worker_device(device, self.devices(), local_rank)))

    def translator(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, *, device: str = "auto"
    ) -> TorchTranslator:
        """See `d2lrnn.translation.backends.TranslatorMaker`."""
        own = native_device(choose_device(device, self.devices()))
        return TorchTranslator(spec, parameters, training, own)

    def write_export(self, model: RNNLMScratch, path: Path) -> None:
        """See `d2lrnn.saving.exporting.Exporter`."""
        spec, parameters = self.export_model(model)
        write_onnx(self.build(replace(spec, implementation="scratch"), parameters), path)

    def porter(self) -> TorchPorter:
        """See `d2lrnn.ports.porter.PortingBackend`."""
        return TorchPorter()

    def port_files(self) -> TorchFiles:
        """See `d2lrnn.ports.formats.protocol.FilesBackend`."""
        return TorchFiles()


class TorchLearner:
    """Trains a model of `TorchBackend.build` in place; the methods are those of `Learner` and `PartLearner`.

    Args:
        model: what is trained.
        training: how.
        device: where.
        workers: those over which `train_part` and its like sum; None where this one is alone.
    """

    def __init__(
        self,
        model: RNNLMScratch,
        training: TrainingSpec,
        device: torch.device,
        workers: TorchWorkers | None = None,
    ) -> None:
        self.model = model.to(device)
        self.spec: ModelSpec = model.spec
        self.training = training
        self.device = device
        self.step = 0
        self.learning_rate = training.learning_rate
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        slots = training.optimizer.slots
        self._slots = [{slot: torch.zeros_like(p) for slot in slots} for p in self._trained.values()]
        self._stepper = model.stepper()
        self._workers = workers

    def initial_state(self, batch_size: int) -> State:
        """The zero state, as the model's recurrent layers return states."""
        return self.model.rnn.begin_state(batch_size)

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """Loss, gradient, clip, update."""
        loss, gradients, state = self._mean_gradient(Part.whole(batch), state)
        return StepResult(loss, self._update(gradients)), state

    def train_part(self, part: Part, state: State, *, stop: bool) -> tuple[PartResult, State]:
        """The same, with a sum over the workers between gradient and clip."""
        loss, gradients, state = self._mean_gradient(part, state)
        loss, stops, *gradients = self._summed([loss, loss.new_tensor(stop), *gradients])
        # Copies: what is summed lies in a buffer that the next step overwrites.
        return PartResult(loss.clone(), self._update(gradients), stops.clone()), state

    def eval_step(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """The loss, without gradients."""
        return self._mean_loss(Part.whole(batch), state)

    def eval_part(self, part: Part, state: State) -> tuple[Tensor, State]:
        """The loss of the whole batch."""
        loss, state = self._mean_loss(part, state)
        return self._summed([loss])[0].clone(), state

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """Logits (B, V) for one step."""
        if self.model.training:
            self.model.eval()
        return self._stepper.predict_step(tokens, state)

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        return self._exported(*self._gradients_without_dropout(Part.whole(batch), state))

    def part_gradients(self, part: Part, state: State) -> tuple[float, dict[str, FloatArray]]:
        """Those of the whole batch."""
        loss, gradients = self._gradients_without_dropout(part, state)
        loss, *gradients = self._summed([loss, *gradients])
        return self._exported(loss, gradients)

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return export_arrays(self.spec, self._trained)

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's parameters."""
        write_arrays(self.spec, self._trained, check_parameters(self.spec, parameters))

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {
            slot_name(slot, name): array
            for slot in self.training.optimizer.slots
            for name, array in export_arrays(self.spec, self._slot(slot)).items()
        }

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the learner's tensors."""
        checked = check_optimizer_state(self.spec, self.training.optimizer, arrays)
        for slot in self.training.optimizer.slots:
            prefix = slot_name(slot, "")
            own = {name.removeprefix(prefix): v for name, v in checked.items() if name.startswith(prefix)}
            write_arrays(self.spec, self._slot(slot), own)

    def export_state(self, state: State) -> StateArrays:
        """A copy."""
        return state_arrays(self.spec, state)

    def import_state(self, arrays: StateArrays) -> State:
        """A copy, in the model's precision and on its device."""
        return own_state(self.spec, arrays, self.device)

    def synchronize(self) -> None:
        """Waits for the GPU; on a CPU PyTorch computes synchronously."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _mean_gradient(self, part: Part, state: State) -> tuple[Tensor, Sequence[Tensor], State]:
        """`_differentiate` in parts, if it is to: memory holds one part's graph at a time. Dropout is on."""
        masks = part_masks(self.spec, part, seed=self.training.seed, step=self.step)
        batch, num_tokens = part.batch, part.num_tokens
        if self.training.accumulate == 1:
            return self._differentiate(batch, state, masks, num_tokens)
        losses: list[Tensor] = []
        sums: list[Tensor] = []
        finals: list[State] = []
        for rows in row_slices(len(batch.inputs), self.training.accumulate):
            loss, gradients, final = self._differentiate(
                batch.rows(rows), rows_of(state, rows), masks and masks.rows(rows), num_tokens
            )
            sums = [a + b for a, b in zip(sums, gradients, strict=True)] if losses else list(gradients)
            losses.append(loss)
            finals.append(final)
        return torch.stack(losses).sum(), sums, join_rows(finals)

    def _update(self, gradients: Sequence[Tensor]) -> Tensor:
        """Clips, and makes the optimiser's step; the norm before clipping."""
        self.step += 1
        parameters = list(self._trained.values())
        return clipped_update(
            self.training, parameters, gradients, self._slots, rate=self.learning_rate, t=self.step
        )

    def _summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        assert self._workers is not None
        return self._workers.summed(tensors)

    @torch.no_grad()
    def _mean_loss(self, part: Part, state: State) -> tuple[Tensor, State]:
        self._set_training(False)
        with full_precision(self.device):
            return self._loss(part.batch, state, None, part.num_tokens)

    def _gradients_without_dropout(self, part: Part, state: State) -> tuple[Tensor, Sequence[Tensor]]:
        masks = part_masks(self.spec, part, seed=0, step=0)
        if masks is not None:
            # cuDNN has a backward pass in training mode only: there masks of ones turn dropout off.
            masks = DropoutMasks(*(None if mask is None else np.ones_like(mask) for mask in masks))
        loss, gradients, _ = self._differentiate(part.batch, state, masks, part.num_tokens)
        return loss, gradients

    def _exported(self, loss: Tensor, gradients: Sequence[Tensor]) -> tuple[float, dict[str, FloatArray]]:
        return float(loss), export_arrays(self.spec, dict(zip(self._trained, gradients, strict=True)))

    def _differentiate(
        self, batch: Batch, state: State, masks: DropoutMasks | None, num_tokens: int
    ) -> tuple[Tensor, Sequence[Tensor], State]:
        """The loss, its gradient by trained parameter, and the final state, detached."""
        self._set_training(True)
        with torch.enable_grad(), full_precision(self.device):
            loss, state = self._loss(batch, trainable(state), masks, num_tokens)
            gradients = torch.autograd.grad(loss, list(self._trained.values()))
        return loss.detach(), gradients, detached(state)

    def _loss(
        self, batch: Batch, state: State, masks: DropoutMasks | None, num_tokens: int
    ) -> tuple[Tensor, State]:
        """The sum of the losses divided by `num_tokens`, and the final state."""
        tokens, targets = self._tensor(batch.inputs), self._tensor(batch.targets.astype(np.int64))
        if masks is not None:
            masks = DropoutMasks(*(None if mask is None else self._tensor(mask) for mask in masks))
        total, state = self.model.summed_loss(tokens, targets, state, masks)
        return total / max(1, num_tokens), state

    def _slot(self, slot: str) -> dict[str, Tensor]:
        """One slot of the optimiser for all parameters, by the names of `named_parameters`."""
        return {name: slots[slot] for name, slots in zip(self._trained, self._slots, strict=True)}

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.tensor(array)
        if self.device.type == "cuda":
            # A copy from pinned memory is asynchronous; one from pageable memory would wait for the GPU.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def _set_training(self, training: bool) -> None:
        if self.model.training != training:
            self.model.train(training)


def _model(spec: ModelSpec) -> RNNLMScratch:
    V, E, h, L = spec.vocab_size, spec.num_inputs, spec.num_hiddens, spec.num_layers
    around: dict[str, Any] = {
        "embedding_size": spec.embedding_size,
        "tied": spec.tied,
        "input_dropout": spec.input_dropout,
        "output_dropout": spec.output_dropout,
    }
    if spec.implementation == "concise":
        return RNNLM(find_concise_layer(spec.cell)(E, h, L, spec.dropout), V, **around)
    layer: Any = find_scratch_layer(spec.cell)
    if spec.reset_after is not None:
        layer = partial(layer, reset_after=spec.reset_after)
    rnn = layer(E, h) if L == 1 else StackedRNNScratch(E, h, L, layer=layer, dropout=spec.dropout)
    return RNNLMScratch(rnn, V, **around)
