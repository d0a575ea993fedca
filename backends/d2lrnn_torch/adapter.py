"""The contract for PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.parameters import check_parameters
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import (
    PADDING,
    Batch,
    Device,
    FloatArray,
    IntArray,
    Parameters,
    State,
    StateArrays,
    StepResult,
)
from d2lrnn_torch.concise import GRU, LSTM, RNN, LayerStates, stacked
from d2lrnn_torch.devices import devices, full_precision, full_precision_inference, native_device
from d2lrnn_torch.language_model import RNNLM, RNNLMScratch
from d2lrnn_torch.parameters import export_arrays, write_parameters
from d2lrnn_torch.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch


class TorchBackend:
    """PyTorch, on a CPU or an NVIDIA GPU."""

    name = "torch"

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {"torch": str(torch.__version__), "numpy": np.__version__}

    def devices(self) -> Sequence[Device]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return devices()

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """An `RNNLMScratch` or `RNNLM` in evaluation mode, with `spec` as an attribute."""
        values = check_parameters(spec, parameters)
        # The initial values are thrown away: the caller's random numbers go on as if none had been drawn.
        with torch.random.fork_rng(devices=[]):
            model = _model(spec)
        model.to(getattr(torch, spec.dtype)).eval()
        write_parameters(spec, model, values)
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
        own = None if state is None else _own_state(model.spec, state, device)
        with torch.no_grad(), full_precision(device):
            X = torch.tensor(inputs, dtype=getattr(torch, model.spec.dtype), device=device)
            outputs, final = model.rnn(X, own)
        return outputs.numpy(force=True), _state_arrays(model.spec, final)

    def learner(self, model: RNNLMScratch, training: TrainingSpec, *, device: str = "auto") -> TorchLearner:
        """See `d2lrnn.contract.protocols.Backend`."""
        return TorchLearner(model, training, native_device(choose_device(device, self.devices())))


class TorchLearner:
    """Trains a model of `TorchBackend.build` in place; the methods are `Learner`'s."""

    def __init__(self, model: RNNLMScratch, training: TrainingSpec, device: torch.device) -> None:
        self.model = model.to(device)
        self.spec: ModelSpec = model.spec
        self.training = training
        self.device = device
        self.step = 0
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def initial_state(self, batch_size: int) -> State:
        """The zero state, as the model's recurrent layers return states."""
        zeros = np.zeros((self.spec.num_layers, batch_size, self.spec.num_hiddens), self.spec.dtype)
        return self.import_state((zeros,) * (2 if self.spec.cell == "lstm" else 1))

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """Loss, gradient, clip, update."""
        batch_size, num_steps = batch.inputs.shape
        masks = dropout_masks(
            self.spec, seed=self.training.seed, step=self.step, num_steps=num_steps, batch_size=batch_size
        )
        loss, gradients, state = self._differentiate(batch, state, masks)
        # Gradients of several devices would be summed here.
        norm = _global_norm(gradients)
        rate = self.training.learning_rate * _clip_scale(norm, self.training.clip)
        with torch.no_grad():
            for parameter, gradient in zip(self._trained.values(), gradients, strict=True):
                parameter.addcmul_(gradient, rate, value=-1)
        self.step += 1
        return StepResult(loss, norm), state

    @torch.no_grad()
    def eval_step(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """The loss alone."""
        self._set_training(False)
        with full_precision(self.device):
            return self._loss(batch, state)

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """Logits (B, V) for one step."""
        self._set_training(False)
        with full_precision_inference(self.device):  # `_for_training` is the price
            # A copy by NumPy, which PyTorch takes over: cheaper than one by PyTorch.
            own = torch.from_numpy(tokens.astype(np.int64)).to(self.device)
            logits, state = self.model.next_logits(own, state)
            return logits.numpy(force=True), state

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        masks = None
        if self.spec.dropout and self.spec.num_layers > 1:
            # cuDNN has a backward pass in training mode alone, where masks of ones turn dropout off.
            layers, shape = self.spec.num_layers - 1, batch.inputs.shape[::-1]
            masks = np.ones((layers, *shape, self.spec.num_hiddens), self.spec.dtype)
        loss, gradients, _ = self._differentiate(batch, state, masks)
        return float(loss), export_arrays(self.spec, dict(zip(self._trained, gradients, strict=True)))

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return export_arrays(self.spec, self._trained)

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the model's parameters."""
        write_parameters(self.spec, self.model, check_parameters(self.spec, parameters))

    def export_state(self, state: State) -> StateArrays:
        """A copy."""
        return _state_arrays(self.spec, state)

    def import_state(self, arrays: StateArrays) -> State:
        """A copy, in the model's precision and on its device."""
        return _own_state(self.spec, arrays, self.device)

    def synchronize(self) -> None:
        """Waits for the GPU; on a CPU PyTorch is done when it returns."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _differentiate(
        self, batch: Batch, state: State, masks: FloatArray | None
    ) -> tuple[Tensor, Sequence[Tensor], State]:
        """The loss, its gradient by trained parameter, and the final state, cut off from the graph."""
        self._set_training(True)
        with torch.enable_grad(), full_precision(self.device):
            loss, state = self._loss(batch, _for_training(state), masks)
            gradients = torch.autograd.grad(loss, list(self._trained.values()))
        return loss.detach(), gradients, _detached(state)

    def _loss(self, batch: Batch, state: State, masks: FloatArray | None = None) -> tuple[Tensor, State]:
        tokens, targets = self._tensor(batch.inputs), self._tensor(batch.targets.T.astype(np.int64))
        logits, state = self.model.unroll(tokens, state, None if masks is None else self._tensor(masks))
        # The logits lie in memory step by step; taken in that order they need not be copied.
        logits = logits.swapaxes(0, 1).flatten(0, 1)
        total = cross_entropy(logits, targets.flatten(), ignore_index=PADDING, reduction="sum")
        return total / max(1, batch.num_tokens), state

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.tensor(array)
        if self.device.type == "cuda":
            # From pinned memory the copy is queued; from other memory Python would wait for the GPU.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def _set_training(self, training: bool) -> None:
        if self.model.training != training:
            self.model.train(training)


def _model(spec: ModelSpec) -> RNNLMScratch:
    V, h, L = spec.vocab_size, spec.num_hiddens, spec.num_layers
    if spec.implementation == "concise":
        return RNNLM({"rnn": RNN, "gru": GRU, "lstm": LSTM}[spec.cell](V, h, L, spec.dropout), V)
    layer: Any = {
        "rnn": RNNScratch,
        "gru": partial(GRUScratch, reset_after=bool(spec.reset_after)),
        "lstm": LSTMScratch,
    }[spec.cell]
    return RNNLMScratch(layer(V, h) if L == 1 else StackedRNNScratch(V, h, L, layer=layer), V)


def _global_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients taken as one vector."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))


def _clip_scale(norm: Tensor, theta: float | None) -> Tensor:
    """The formula of `d2lrnn.contract.clipping.clip_scale`, on the device."""
    return torch.ones_like(norm) if theta is None else theta / norm.clamp(min=theta)


def _for_training(state: State) -> State:
    """A state of `predict_step` as autograd takes it, a copy; any other as it is."""
    if isinstance(state, Tensor):
        return state.clone() if state.is_inference() else state
    return type(state)(_for_training(part) for part in state)


def _detached(state: State) -> State:
    return state.detach() if isinstance(state, Tensor) else tuple(_detached(part) for part in state)


def _state_arrays(spec: ModelSpec, state: State) -> StateArrays:
    """``(h,)`` or ``(h, c)``, each (L, B, h), from the state of the model's recurrent layers."""
    if spec.implementation == "concise":
        whole = stacked(state) if isinstance(state, LayerStates) else state
        parts = whole if spec.cell == "lstm" else (whole,)
    else:
        layers = (state,) if spec.num_layers == 1 else state
        by_part = zip(*layers, strict=True) if spec.cell == "lstm" else (layers,)
        parts = tuple(torch.stack(part) for part in by_part)
    return tuple(part.numpy(force=True).copy() for part in parts)


def _own_state(spec: ModelSpec, arrays: StateArrays, device: torch.device) -> State:
    """The inverse of `_state_arrays`."""
    parts = tuple(torch.tensor(part, dtype=getattr(torch, spec.dtype), device=device) for part in arrays)
    if spec.implementation == "concise":
        return parts if spec.cell == "lstm" else parts[0]
    layers = tuple(zip(*parts, strict=True)) if spec.cell == "lstm" else tuple(parts[0])
    return layers[0] if spec.num_layers == 1 else layers
