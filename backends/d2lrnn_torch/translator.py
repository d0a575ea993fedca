"""The translator in PyTorch: a module, and what trains it and writes with it.

`d2lrnn.translation.spec` has the model in words. B = batch size, S = source steps, T = target steps, h =
hidden units, E = embedding size, L = layers. Steps come first, as in the scratch models, whose GRUs these
are. Dropout comes from masks that are handed in: the modules are in evaluation mode all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from d2lrnn.contract.optimizers import slot_name, slot_shapes
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import PADDING, FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.dropout import translator_masks
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes
from d2lrnn.translation.values import PairBatch
from d2lrnn_torch.devices import full_precision, full_precision_inference
from d2lrnn_torch.gradients import clip_scale, global_norm
from d2lrnn_torch.optimizers import update
from d2lrnn_torch.products import affine
from d2lrnn_torch.recurrence import GRURecurrence
from d2lrnn_torch.scratch import GRUScratch
from d2lrnn_torch.tokens import look_up

#: The dropout masks between the layers of the encoder (L - 1, S, B, h) and of the decoder (L - 1, T, B, h).
Masks = tuple[Tensor | None, Tensor | None]


class Memory(NamedTuple):
    """What the encoder made of a batch, and how far the decoder is: it goes on from here.

    Attributes:
        outputs: M, the encoder's last layer (S, B, h). Behind a row's end there is something else than in the
            contract's words, which nothing looks at.
        padded: (S, B), whether a position is behind the row's end.
        keys: M w_k (S, B, h); None without attention.
        last: M_n, the encoder's last state (B, h).
        states: those of the decoder's layers, each (B, h).
    """

    outputs: Tensor
    padded: Tensor
    keys: Tensor | None
    last: Tensor
    states: Sequence[Tensor]


class EmbeddedGRUs(nn.ModuleList):
    """An embedding and the layers of GRUs above it: one side of the translator.

    Args:
        vocab_size: V.
        num_inputs: of the lowest layer, E or more.
        spec: the translator.
    """

    def __init__(self, vocab_size: int, num_inputs: int, spec: TranslatorSpec) -> None:
        h = spec.num_hiddens
        sizes = [num_inputs] + [h] * (spec.num_layers - 1)
        super().__init__(GRUScratch(size, h, reset_after=True) for size in sizes)
        self.embedding = nn.Parameter(torch.empty(vocab_size, spec.embedding_size))

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens (T, B) to what the lowest layer makes of their embeddings and its bias (T, B, 3·h)."""
        lowest: Any = self[0]
        return affine(look_up(tokens, self.embedding), lowest.W_x[: self.embedding.shape[1]], lowest.b)

    def forward(self, projected: Tensor, states: Sequence[Tensor], masks: Tensor | None) -> list[Tensor]:
        """Runs all layers over all steps.

        Args:
            projected: the inputs of the lowest layer, ``X w_x + b`` (T, B, 3·h).
            states: those before the first step, each (B, h).
            masks: (L - 1, T, B, h), which multiply the outputs of all layers but the last.

        Returns:
            The states of each layer at all steps (T, B, h), the lowest first.
        """
        outputs: list[Tensor] = []
        layer: Any
        for l, (layer, H) in enumerate(zip(self, states, strict=True)):
            if l > 0:
                below = outputs[-1] if masks is None else outputs[-1] * masks[l - 1]
                projected = affine(below, layer.W_x, layer.b)
            outputs.append(GRURecurrence.apply(projected, H, layer.W_h, layer.b_hn))
        return outputs


class AdditiveAttention(nn.Module):
    """The mean of M_1 … M_n by the weights softmax(w_v · tanh(M w_k + H w_q)).

    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate".
    """

    def __init__(self, num_hiddens: int) -> None:
        super().__init__()
        self.w_k = nn.Parameter(torch.empty(num_hiddens, num_hiddens))
        self.w_q = nn.Parameter(torch.empty(num_hiddens, num_hiddens))
        self.w_v = nn.Parameter(torch.empty(num_hiddens))

    def forward(self, query: Tensor, memory: Memory) -> Tensor:
        """The context (B, h) of a decoder's state (B, h)."""
        features = torch.tanh(memory.keys + query @ self.w_q)
        scores = (features @ self.w_v).masked_fill(memory.padded, -torch.inf)
        return torch.einsum("sb,sbh->bh", scores.softmax(dim=0), memory.outputs)


class Head(nn.Module):
    """The logits ``H w + b``."""

    def __init__(self, num_hiddens: int, vocab_size: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(num_hiddens, vocab_size))
        self.b = nn.Parameter(torch.empty(vocab_size))

    def forward(self, H: Tensor) -> Tensor:
        """(T, B, h) to (T, B, V)."""
        return affine(H, self.w, self.b)


class TranslatorModule(nn.Module):
    """Encoder, attention, decoder and output layer.

    The names of `named_parameters` are the canonical ones, but for the capital W of the GRUs.

    Example:
        >>> spec = TranslatorSpec(source_size=20, target_size=30)
        >>> model = TranslatorModule(spec)
        >>> sorted(model.canonical()) == sorted(translator_shapes(spec))
        True
    """

    def __init__(self, spec: TranslatorSpec) -> None:
        super().__init__()
        E, h = spec.embedding_size, spec.num_hiddens
        self.encoder = EmbeddedGRUs(spec.source_size, E, spec)
        self.attention = AdditiveAttention(h) if spec.attention else None
        self.decoder = EmbeddedGRUs(spec.target_size, E + h, spec)
        self.head = Head(h, spec.target_size)

    def canonical(self) -> dict[str, nn.Parameter]:
        """The parameters by canonical name."""
        return {name.replace("W_", "w_"): p for name, p in self.named_parameters()}

    def read(self, source: Tensor, lengths: Tensor, masks: Tensor | None = None) -> Memory:
        """What the decoder begins with.

        Args:
            source: tokens (S, B).
            lengths: of the rows (B,), int64.
            masks: (L - 1, S, B, h).
        """
        num_steps, size = source.shape
        projected = self.encoder.project(source)
        zeros = projected.new_zeros(size, self.head.w.shape[0])
        outputs = self.encoder(projected, [zeros] * len(self.encoder), masks)
        # The layers run on behind a row's end, which makes one recurrence of all steps. No earlier step sees
        # what comes there, and no later one uses it: the states are taken at the end, and attention masks.
        rows = torch.arange(size, device=source.device)
        states = [H[lengths - 1, rows] for H in outputs]
        padded = torch.arange(num_steps, device=source.device).unsqueeze(1) >= lengths
        keys = None if self.attention is None else outputs[-1] @ self.attention.w_k
        return Memory(outputs[-1], padded, keys, states[-1], states)

    def write(self, tokens: Tensor, memory: Memory, masks: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Logits (T, B, V) after each of the tokens (T, B), and the memory after the last.

        Args:
            tokens: (T, B).
            memory: what the encoder or the step before left.
            masks: (L - 1, T, B, h).
        """
        projected = self.decoder.project(tokens)
        lowest: Any = self.decoder[0]
        w_context = lowest.W_x[self.decoder.embedding.shape[1] :]
        if self.attention is None:
            outputs = self.decoder(projected + memory.last @ w_context, memory.states, masks)
            return self.head(outputs[-1]), memory._replace(states=[H[-1] for H in outputs])
        states, written = memory.states, []
        for t, X in enumerate(projected.split(1)):
            context = self.attention(states[-1], memory)
            of_step = None if masks is None else masks[:, t : t + 1]
            outputs = self.decoder(X + context @ w_context, states, of_step)
            states = [H[-1] for H in outputs]
            written.append(outputs[-1])
        return self.head(torch.cat(written)), memory._replace(states=states)


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
        # On this device nothing is drawn: the initial values are overwritten, and drawing them would advance
        # the caller's generator.
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
        norm = global_norm(gradients)
        self.step += 1
        update(
            self.training.optimizer,
            list(self._trained.values()),
            gradients,
            self._slots,
            scale=clip_scale(norm, self.training.clip),
            rate=self.learning_rate,
            t=self.step,
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
