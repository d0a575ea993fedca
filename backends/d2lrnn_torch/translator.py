"""What trains a translator and writes with it; its modules are in `d2lrnn_torch.translator_model`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from d2lrnn.contract.optimizers import slot_name, slot_shapes
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import PADDING, FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.dropout import translator_masks
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes
from d2lrnn.translation.values import PairBatch
from d2lrnn_torch.devices import full_precision, full_precision_inference
from d2lrnn_torch.optimizers import clipped_update
from d2lrnn_torch.translator_model import Memory, TranslatorModule

#: The dropout masks between the layers of the encoder (L - 1, S, B, h) and of the decoder (L - 1, T, B, h).
Masks = tuple[Tensor | None, Tensor | None]


class TorchTranslator:
    """A translator on a device; the methods are those of `d2lrnn.translation.values.Translator`.

    Args:
        spec: the translator.
        parameters: canonical ones.
        training: how it is trained.
        device: where it computes.

    Attributes:
        model: the module.

    Raises:
        ParameterError: the parameters do not fit `spec`.

    Example:
        >>> from d2lrnn.translation.spec import initial_translator
        >>> spec = TranslatorSpec(source_size=20, target_size=30)
        >>> translator = TorchTranslator(spec, initial_translator(spec), TrainingSpec(), torch.device("cpu"))
        >>> memory = translator.read(np.array([[4, 5, 3], [6, 3, 0]], np.int32), np.array([3, 2], np.int32))
        >>> logits, memory = translator.write(np.array([1, 1], np.int32), memory)
        >>> logits.shape
        (2, 30)
    """

    def __init__(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, device: torch.device
    ) -> None:
        values = check_arrays("parameter", translator_shapes(spec), parameters, spec.dtype)
        # Drawn values are overwritten below, and would advance the caller's generator: none are drawn here.
        with torch.device("meta"):
            model = TranslatorModule(spec)
        self.model = model.to_empty(device=device).to(getattr(torch, spec.dtype)).eval()
        self.spec, self.training, self.device = spec, training, device
        self.step = 0
        self.learning_rate = training.learning_rate
        named = self.model.canonical()
        self._trained = {name: named[name] for name in values}
        _write(self._trained, values)
        slots = training.optimizer.slots
        self._slots = [{slot: torch.zeros_like(p) for slot in slots} for p in self._trained.values()]

    def train_step(self, batch: PairBatch) -> StepResult:
        """Loss, gradient, clip, update."""
        encoder, decoder = translator_masks(self.spec, self.training.seed, self.step, batch)
        loss, gradients = self._differentiate(batch, (self._optional(encoder), self._optional(decoder)))
        self.step += 1
        parameters = list(self._trained.values())
        norm = clipped_update(
            self.training, parameters, gradients, self._slots, rate=self.learning_rate, t=self.step
        )
        return StepResult(loss, norm)

    def eval_step(self, batch: PairBatch) -> Tensor:
        """The loss, without gradients."""
        with full_precision_inference(self.device):
            return self._loss(batch, (None, None))

    def gradients(self, batch: PairBatch) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        loss, gradients = self._differentiate(batch, (None, None))
        return float(loss), {n: _copied(g) for n, g in zip(self._trained, gradients, strict=True)}

    def read(self, source: IntArray, lengths: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        with full_precision_inference(self.device):
            return self.model.read(self._tensor(source.T), self._tensor(lengths.astype(np.int64)))

    def write(self, tokens: IntArray, state: Memory) -> tuple[FloatArray, Memory]:
        """See `d2lrnn.translation.values.Translator`."""
        with full_precision_inference(self.device):
            logits, state = self.model.write(self._tensor(tokens[None]), state)
            return logits[0].numpy(force=True), state

    def rows(self, state: Memory, rows: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        with full_precision_inference(self.device):
            own = self._tensor(rows.astype(np.int64))
            return Memory(
                state.outputs.index_select(1, own),
                state.padded.index_select(1, own),
                None if state.keys is None else state.keys.index_select(1, own),
                state.last.index_select(0, own),
                [H.index_select(0, own) for H in state.states],
            )

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: _copied(p) for name, p in self._trained.items()}

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's parameters."""
        checked = check_arrays("parameter", translator_shapes(self.spec), parameters, self.spec.dtype)
        _write(self._trained, checked)

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: _copied(slot) for name, slot in self._named_slots().items()}

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the translator's tensors."""
        shapes = slot_shapes(self.training.optimizer, translator_shapes(self.spec))
        _write(self._named_slots(), check_arrays("optimizer state", shapes, arrays, self.spec.dtype))

    def synchronize(self) -> None:
        """Waits for the GPU; on a CPU PyTorch computes synchronously."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _differentiate(self, batch: PairBatch, masks: Masks) -> tuple[Tensor, Sequence[Tensor]]:
        """The mean loss, and its gradient by trained parameter."""
        with torch.enable_grad(), full_precision(self.device):
            loss = self._loss(batch, masks)
            gradients = torch.autograd.grad(loss, list(self._trained.values()))
        return loss.detach(), gradients

    def _loss(self, batch: PairBatch, masks: Masks) -> Tensor:
        """The mean loss, a tensor of shape ()."""
        of_encoder, of_decoder = masks
        lengths, targets = (self._tensor(x.astype(np.int64)) for x in (batch.lengths, batch.targets.T))
        memory = self.model.read(self._tensor(batch.source.T), lengths, of_encoder)
        logits, _ = self.model.write(self._tensor(batch.inputs.T), memory, of_decoder)
        rows = logits.flatten(0, 1)
        total = cross_entropy(rows, targets.flatten(), ignore_index=PADDING, reduction="sum")
        return total / max(1, batch.num_tokens)

    def _named_slots(self) -> dict[str, Tensor]:
        """What the optimiser remembers, by canonical name."""
        return {
            slot_name(slot, name): own[slot]
            for slot in self.training.optimizer.slots
            for name, own in zip(self._trained, self._slots, strict=True)
        }

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.tensor(array)
        if self.device.type == "cuda":
            # A copy from pinned memory is asynchronous; one from pageable memory would wait for the GPU.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def _optional(self, array: FloatArray | None) -> Tensor | None:
        return None if array is None else self._tensor(array)


def _copied(tensor: Tensor) -> FloatArray:
    """A copy as NumPy, C-contiguous."""
    copy: FloatArray = tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True).numpy()
    return copy


@torch.no_grad()
def _write(tensors: dict[str, Any], values: Parameters) -> None:
    """Replaces the values of `tensors` by those of the same names, which were checked."""
    for name, tensor in tensors.items():
        tensor.copy_(torch.tensor(values[name]))
