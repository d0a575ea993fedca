"""The translator by hand: the reference that every other backend's is compared with.

`d2lrnn.translation.spec` has the model in words. B = batch size, S = source steps, T = target steps, h =
hidden units; a list over time has an array (B, …) a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2lrnn.contract.clipping import clip_scale, global_norm
from d2lrnn.contract.optimizers import slot_name, slot_shapes
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.dropout import translator_masks
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes
from d2lrnn.translation.values import PairBatch
from d2lrnn_numpy.formulas import GRU, Weights
from d2lrnn_numpy.optimizers import STEPS

_GRU = GRU()

#: Steps of an array (B, …).
Steps = list[FloatArray]


@dataclass
class Memory:
    """What the encoder made of a batch: a decoder begins with it.

    Attributes:
        outputs: M, the last layer's states (B, S, h).
        known: (B, S), whether a position is no padding.
        keys: M w_k (B, S, h); None without attention.
        states: those of the decoder's layers, each (B, h).
    """

    outputs: FloatArray
    known: FloatArray
    keys: FloatArray | None
    states: list[FloatArray]


class NumpyTranslator:
    """See `d2lrnn.translation.values.Translator`."""

    def __init__(self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec) -> None:
        self.spec, self.training = spec, training
        checked = check_arrays("parameter", translator_shapes(spec), parameters, spec.dtype)
        self._p = {name: value.copy() for name, value in checked.items()}
        self.step = 0
        self.learning_rate = training.learning_rate
        shapes = slot_shapes(training.optimizer, translator_shapes(spec))
        self._slots = {name: np.zeros(shape, spec.dtype) for name, shape in shapes.items()}

    def train_step(self, batch: PairBatch) -> StepResult:
        """Loss, gradient, clip, update."""
        masks = translator_masks(self.spec, self.training.seed, self.step, batch)
        loss, gradients = self._differentiate(batch, masks)
        norm = global_norm(gradients.values())
        scale = clip_scale(norm, self.training.clip)
        self.step += 1
        optimizer = self.training.optimizer
        for name, parameter in self._p.items():
            slots = {slot: self._slots[slot_name(slot, name)] for slot in optimizer.slots}
            STEPS[optimizer.name](
                optimizer, parameter, gradients[name] * scale, slots, self.learning_rate, self.step
            )
        return StepResult(loss, norm)

    def eval_step(self, batch: PairBatch) -> float:
        """The loss, without gradients."""
        return self._forward(batch, (None, None))[0]

    def gradients(self, batch: PairBatch) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        return self._differentiate(batch, (None, None))

    def read(self, source: IntArray, lengths: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        return self._read(source, lengths, None)[0]

    def write(self, tokens: IntArray, state: Memory) -> tuple[FloatArray, Memory]:
        """See `d2lrnn.translation.values.Translator`."""
        states, _ = self._decoder_step(tokens, state, state.states, None)
        logits = states[-1] @ self._p["head.w"] + self._p["head.b"]
        return logits, Memory(state.outputs, state.known, state.keys, states)

    def rows(self, state: Memory, rows: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        keys = None if state.keys is None else state.keys[rows]
        return Memory(state.outputs[rows], state.known[rows], keys, [H[rows] for H in state.states])

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: value.copy() for name, value in self._p.items()}

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the translator's arrays."""
        checked = check_arrays("parameter", translator_shapes(self.spec), parameters, self.spec.dtype)
        for name, value in checked.items():
            self._p[name][:] = value

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: value.copy() for name, value in self._slots.items()}

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the translator's arrays."""
        shapes = slot_shapes(self.training.optimizer, translator_shapes(self.spec))
        for name, value in check_arrays("optimizer state", shapes, arrays, self.spec.dtype).items():
            self._slots[name][:] = value

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy computes synchronously."""

    # The forward pass.

    def _weights(self, side: str, l: int) -> Weights:
        prefix = f"{side}.{l}."
        return {name[len(prefix) :]: value for name, value in self._p.items() if name.startswith(prefix)}

    def _read(
        self, source: IntArray, lengths: IntArray, masks: FloatArray | None
    ) -> tuple[Memory, list[Any]]:
        """The memory, and what `_read_backward` needs: a list a layer with the inputs and what steps kept."""
        known = (np.arange(source.shape[1]) < lengths[:, None]).astype(self.spec.dtype)
        inputs: Steps = [self._p["encoder.embedding"][column] for column in source.T]
        finals, kept = [], []
        for l in range(self.spec.num_layers):
            if l and masks is not None:
                inputs = [X * mask for X, mask in zip(inputs, masks[l - 1], strict=True)]
            weights = self._weights("encoder", l)
            H = np.zeros((len(source), self.spec.num_hiddens), self.spec.dtype)
            outputs, of_steps = [], []
            for X, here in zip(inputs, known.T[..., None], strict=True):
                (H_next,), step = _GRU.step(X @ weights["w_x"] + weights["b"], (H,), weights)
                H = here * H_next + (1 - here) * H
                outputs.append(H)
                of_steps.append(step)
            kept.append((inputs, of_steps))
            finals.append(H)
            inputs = outputs
        M = np.stack(outputs, axis=1)
        keys = M @ self._p["attention.w_k"] if self.spec.attention else None
        return Memory(M, known, keys, finals), kept

    def _decoder_step(
        self, tokens: IntArray, memory: Memory, states: Sequence[FloatArray], masks: FloatArray | None
    ) -> tuple[list[FloatArray], list[Any]]:
        """The layers' next states, and what `_decoder_step_backward` needs."""
        context, attended = self._context(memory, states[-1])
        X = np.concatenate([self._p["decoder.embedding"][tokens], context], axis=1)
        following, kept = [], []
        for l, H in enumerate(states):
            if l and masks is not None:
                X = X * masks[l - 1]
            weights = self._weights("decoder", l)
            (H_next,), step = _GRU.step(X @ weights["w_x"] + weights["b"], (H,), weights)
            kept.append((X, step))
            following.append(H_next)
            X = H_next
        return following, [attended, kept]

    def _context(self, memory: Memory, query: FloatArray) -> tuple[FloatArray, Any]:
        """Additive attention, or the encoder's last state."""
        if memory.keys is None:
            # After the last token the states stay: those of the last step are M_n.
            return memory.outputs[:, -1], None
        features = np.tanh(memory.keys + (query @ self._p["attention.w_q"])[:, None])
        scores = np.where(memory.known > 0, features @ self._p["attention.w_v"], -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        return np.einsum("bs,bsh->bh", weights, memory.outputs), (query, features, weights)

    def _forward(
        self, batch: PairBatch, masks: tuple[FloatArray | None, FloatArray | None]
    ) -> tuple[float, Any]:
        """The mean loss, and what the backward pass needs."""
        of_encoder, of_decoder = masks
        memory, read = self._read(batch.source, batch.lengths, of_encoder)
        states: Sequence[FloatArray] = memory.states
        outputs, written = [], []
        for t, tokens in enumerate(batch.inputs.T):
            step_masks = None if of_decoder is None else of_decoder[:, t]
            states, kept = self._decoder_step(tokens, memory, states, step_masks)
            outputs.append(states[-1])
            written.append(kept)
        H = np.stack(outputs, axis=1)
        logits = H @ self._p["head.w"] + self._p["head.b"]
        logits -= logits.max(axis=-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        counted = batch.targets >= 0
        chosen = np.take_along_axis(log_p, np.maximum(batch.targets, 0)[..., None], axis=-1)[..., 0]
        num_tokens = max(1, batch.num_tokens)
        loss = -float(chosen[counted].sum()) / num_tokens
        d_logits = np.exp(log_p)
        np.put_along_axis(
            d_logits, np.maximum(batch.targets, 0)[..., None], np.exp(chosen)[..., None] - 1, axis=-1
        )
        d_logits *= counted[..., None] / num_tokens
        return loss, (memory, read, written, H, d_logits)

    # The backward pass.

    def _differentiate(
        self, batch: PairBatch, masks: tuple[FloatArray | None, FloatArray | None]
    ) -> tuple[float, dict[str, FloatArray]]:
        """The mean loss and its gradients."""
        loss, (memory, read, written, H, d_logits) = self._forward(batch, masks)
        of_encoder, of_decoder = masks
        g = {name: np.zeros_like(value) for name, value in self._p.items()}
        g["head.w"] += np.einsum("bth,btv->hv", H, d_logits)
        g["head.b"] += d_logits.sum(axis=(0, 1))
        d_outputs = d_logits @ self._p["head.w"].T
        d_memory = np.zeros_like(memory.outputs)
        d_keys = np.zeros_like(memory.outputs)
        d_states = [np.zeros_like(state) for state in memory.states]
        for t in reversed(range(len(written))):
            d_states[-1] = d_states[-1] + d_outputs[:, t]
            step_masks = None if of_decoder is None else of_decoder[:, t]
            self._decoder_step_backward(
                batch.inputs[:, t], memory, written[t], step_masks, d_states, d_memory, d_keys, g
            )
        if self.spec.attention:
            g["attention.w_k"] += np.einsum("bsh,bsk->hk", memory.outputs, d_keys)
            d_memory += d_keys @ self._p["attention.w_k"].T
        self._read_backward(batch.source, memory.known, read, of_encoder, d_states, d_memory, g)
        return loss, g

    def _decoder_step_backward(
        self,
        tokens: IntArray,
        memory: Memory,
        kept: Any,
        masks: FloatArray | None,
        d_states: list[FloatArray],
        d_memory: FloatArray,
        d_keys: FloatArray,
        g: dict[str, FloatArray],
    ) -> None:
        """Turns the gradients at the next states into those at the states before, and adds the others."""
        attended, layers = kept
        d_above: FloatArray | float = 0.0
        for l in reversed(range(len(layers))):
            (X, step), weights = layers[l], self._weights("decoder", l)
            d_X, (d_states[l],) = self._gru_backward(
                f"decoder.{l}", X, step, d_states[l] + d_above, weights, g
            )
            d_above = d_X * masks[l - 1] if l and masks is not None else d_X
        E = self.spec.embedding_size
        np.add.at(g["decoder.embedding"], tokens, d_X[:, :E])
        d_context = d_X[:, E:]
        if attended is None:
            d_memory[:, -1] += d_context
            return
        query, features, weights_of_keys = attended
        d_memory += weights_of_keys[..., None] * d_context[:, None]
        d_weights = np.einsum("bh,bsh->bs", d_context, memory.outputs)
        mean = (d_weights * weights_of_keys).sum(axis=1, keepdims=True)
        d_scores = weights_of_keys * (d_weights - mean)
        g["attention.w_v"] += np.einsum("bs,bsh->h", d_scores, features)
        d_features = d_scores[..., None] * self._p["attention.w_v"] * (1 - features**2)
        d_keys += d_features
        d_projected = d_features.sum(axis=1)
        g["attention.w_q"] += query.T @ d_projected
        d_states[-1] = d_states[-1] + d_projected @ self._p["attention.w_q"].T

    def _read_backward(
        self,
        source: IntArray,
        known: FloatArray,
        kept: list[Any],
        masks: FloatArray | None,
        d_finals: list[FloatArray],
        d_memory: FloatArray,
        g: dict[str, FloatArray],
    ) -> None:
        """Back through the layers of the encoder, the last one first."""
        d_outputs: Steps = list(d_memory.swapaxes(0, 1))
        for l in reversed(range(self.spec.num_layers)):
            (inputs, of_steps), weights = kept[l], self._weights("encoder", l)
            dH, d_inputs = d_finals[l], []
            for t in reversed(range(len(inputs))):
                here = known[:, t, None]
                dH = dH + d_outputs[t]
                d_X, (d_before,) = self._gru_backward(
                    f"encoder.{l}", inputs[t], of_steps[t], here * dH, weights, g
                )
                dH = d_before + (1 - here) * dH
                d_inputs.append(d_X)
            d_outputs = d_inputs[::-1]
            if l and masks is not None:
                d_outputs = [d * mask for d, mask in zip(d_outputs, masks[l - 1], strict=True)]
        for column, d_X in zip(source.T, d_outputs, strict=True):
            np.add.at(g["encoder.embedding"], column, d_X)

    def _gru_backward(
        self,
        prefix: str,
        X: FloatArray,
        step: Any,
        dH: FloatArray,
        weights: Weights,
        g: dict[str, FloatArray],
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """The gradients at the input and at the state before; those of the weights are added to `g`."""
        d, d_before, of_weights = _GRU.backward(step, (dH,), weights)
        for name, value in {**of_weights, "w_x": X.T @ d, "b": d.sum(axis=0)}.items():
            g[f"{prefix}.{name}"] += value
        return d @ weights["w_x"].T, d_before
