"""The translator (`d2lrnn.translation.spec`): Gluon blocks, each compiled for one shape of batch.

B = batch size, S = source steps, h = hidden units, V = vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mxnet as mx
from mxnet import autograd, gluon, np, npx

from d2lrnn.contract.optimizers import slot_name, slot_shapes
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.dropout import translator_masks
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes
from d2lrnn.translation.values import PairBatch
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.engine import COMPUTING
from d2lrnn_mxnet.gradients import clip_scale, global_norm
from d2lrnn_mxnet.loss import CrossEntropy, CrossEntropyGradient
from d2lrnn_mxnet.optimizers import STEPS
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.states import detached
from d2lrnn_mxnet.translator_parts import Part, Read, Teach, Write

#: Dropout masks (steps, B, h), one between two layers; an empty list drops nothing.
Masks = list[Array]


class Memory(NamedTuple):
    """What the encoder made of a batch, and the decoder's states: batch first, so that rows can be taken.

    Attributes:
        source: with attention M (B, S, h), M w_k (B, S, h) and the lengths (B,); without only M_n (B, h).
        states: those of the decoder's layers, each (B, h).
    """

    source: list[Array]
    states: list[Array]


@mx.util.use_np
class MXNetTranslator:
    """See `d2lrnn.translation.values.Translator`.

    Args:
        spec: the translator.
        parameters: by canonical name.
        training: how it is trained.
        context: MXNet's device.

    Example:
        >>> from numpy import array
        >>> from d2lrnn.translation.spec import initial_translator
        >>> spec = TranslatorSpec(source_size=20, target_size=30)
        >>> translator = MXNetTranslator(spec, initial_translator(spec), TrainingSpec(), mx.cpu())
        >>> memory = translator.read(array([[4, 5, 2]]), array([3]))
        >>> translator.write(array([1]), memory)[0].shape
        (1, 30)
    """

    def __init__(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, context: Any
    ) -> None:
        self.spec, self.training, self.context = spec, training, context
        self.step = 0
        self.learning_rate = training.learning_rate
        checked = check_arrays("parameter", translator_shapes(spec), parameters, spec.dtype)
        self._parameters = gluon.ParameterDict()
        for name, value in checked.items():
            self._parameters.get(name, shape=value.shape, dtype=spec.dtype, init="zeros")
        self._parameters.initialize(ctx=context)
        self.import_parameters(checked)
        self._slots = {
            name: {slot: np.zeros_like(parameter.data()) for slot in training.optimizer.slots}
            for name, parameter in self._parameters.items()
        }
        self._blocks: dict[tuple[Any, ...], Part] = {}
        self._loss = CrossEntropy(spec.dtype)
        self._loss_gradient = CrossEntropyGradient(spec.target_size, spec.dtype)
        for block in (self._loss, self._loss_gradient):
            block.hybridize()

    def train_step(self, batch: PairBatch) -> StepResult:
        """Loss, gradient, clip, update."""
        masks = translator_masks(self.spec, self.training.seed, self.step, batch)
        with COMPUTING:
            loss = self._backward(batch, *map(self._masks_on_device, masks))
            gradients = {name: parameter.grad() for name, parameter in self._parameters.items()}
            norm, theta = global_norm(gradients.values()), self.training.clip
            scale = 1.0 if theta is None else clip_scale(norm, theta)
            self.step += 1
            optimizer = self.training.optimizer
            for name, parameter in self._parameters.items():
                STEPS[optimizer.name](
                    optimizer,
                    parameter.data(),
                    gradients[name],
                    self._slots[name],
                    self.learning_rate,
                    self.step,
                    scale,
                )
        return StepResult(loss, norm)

    def eval_step(self, batch: PairBatch) -> Array:
        """The loss, without gradients."""
        with COMPUTING:
            logits = self._run(Teach, *self._arrays(batch), [], [])
            return self._loss(logits, self._tokens(batch.targets))

    def gradients(self, batch: PairBatch) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with COMPUTING:
            loss = float(self._backward(batch, [], []))
            return loss, {name: parameter.grad().asnumpy() for name, parameter in self._parameters.items()}

    def read(self, source: IntArray, lengths: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        with COMPUTING:
            memory, states = self._run(Read, self._tokens(source), self._tokens(lengths))
            return Memory(memory, states)

    def write(self, tokens: IntArray, state: Memory) -> tuple[FloatArray, Memory]:
        """See `d2lrnn.translation.values.Translator`."""
        with COMPUTING:
            logits, states = self._run(Write, self._tokens(tokens), state.source, state.states)
            return logits.asnumpy(), Memory(state.source, states)

    def rows(self, state: Memory, rows: IntArray) -> Memory:
        """See `d2lrnn.translation.values.Translator`."""
        with COMPUTING:
            chosen = self._tokens(rows)
            return Memory(*([np.take(part, chosen, axis=0) for part in parts] for parts in state))

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {name: parameter.data().asnumpy() for name, parameter in self._parameters.items()}

    def import_parameters(self, parameters: Parameters) -> None:
        """Writes into the translator's arrays."""
        checked = check_arrays("parameter", translator_shapes(self.spec), parameters, self.spec.dtype)
        for name, value in checked.items():
            self._parameters[name].set_data(np.array(value, dtype=value.dtype))

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        return {
            slot_name(slot, name): self._slots[name][slot].asnumpy()
            for slot in self.training.optimizer.slots
            for name in self._parameters
        }

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Writes into the translator's arrays."""
        shapes = slot_shapes(self.training.optimizer, translator_shapes(self.spec))
        checked = check_arrays("optimizer state", shapes, arrays, self.spec.dtype)
        for name, slots in self._slots.items():
            for slot, array in slots.items():
                array[:] = np.array(checked[slot_name(slot, name)], dtype=array.dtype)

    def synchronize(self) -> None:
        """Waits for MXNet's engine."""
        npx.waitall()

    def _backward(self, batch: PairBatch, of_encoder: Masks, of_decoder: Masks) -> Array:
        """The mean loss; the gradients are in the parameters afterwards."""
        targets = self._tokens(batch.targets)
        arguments = [*self._arrays(batch), of_encoder, of_decoder]
        block = self._block(Teach, arguments, training=True)
        with autograd.record():
            logits = block(*arguments)
        logits.backward(self._loss_gradient(logits.detach(), targets))
        return self._loss(logits.detach(), targets)

    def _run(self, kind: type[Part], *arguments: Any) -> Any:
        """The outputs of a part of the model, without gradients."""
        block = self._block(kind, arguments, training=False)
        # In training mode: in inference mode the result of the fused recurrence depends on where the memory
        # of its graph lies, and two equal calls could differ in the last bit. All dropout is by given masks.
        with autograd.pause(train_mode=True):
            return detached(block(*arguments))

    def _block(self, kind: type[Part], arguments: Sequence[Any], *, training: bool) -> Any:
        """One block for each shape of its arguments and each purpose, as its memory is planned for these."""
        shapes = _shapes(arguments)
        key = kind, training, shapes
        if key not in self._blocks:
            block = kind(self.spec, self._parameters, shapes)
            block.hybridize(static_alloc=True, static_shape=True)
            self._blocks[key] = block
        return self._blocks[key]

    def _arrays(self, batch: PairBatch) -> list[Array]:
        return [self._tokens(part) for part in (batch.source, batch.lengths, batch.inputs)]

    def _tokens(self, tokens: IntArray) -> Array:
        return on_device(tokens, "int32", self.context)

    def _masks_on_device(self, masks: FloatArray | None) -> Masks:
        return [] if masks is None else [on_device(mask, self.spec.dtype, self.context) for mask in masks]


def _shapes(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """The shapes of arrays, and of arrays in lists."""
    return tuple(_shapes(each) if isinstance(each, list | tuple) else each.shape for each in arguments)
