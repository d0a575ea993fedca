"""The translator for JAX: it owns the parameters; `d2lrnn_jax.translator_model` has the functions of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.optimizers import Optimizer, slot_name, slot_shapes
from d2lrnn.contract.parameters import check_arrays
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.dropout import translator_masks
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes
from d2lrnn.translation.values import PairBatch
from d2lrnn_jax.gradients import clip, global_norm
from d2lrnn_jax.optimizers import initial_state, slots, updated, with_slots
from d2lrnn_jax.precision import precision
from d2lrnn_jax.translator_model import Masks, Memory, Params, Writing, decode, head, mean_loss, read


class JaxTranslator:
    """Trains and runs a translator; see `d2lrnn.translation.values.Translator` for the methods.

    Args:
        spec: which function it computes.
        parameters: by canonical name; copied.
        training: optimiser, first rate, clipping, seed.
        device: where it computes.

    Raises:
        ParameterError: the parameters do not fit `spec`.

    Example:
        >>> from d2lrnn.translation.spec import initial_translator
        >>> spec = TranslatorSpec(source_size=20, target_size=30)
        >>> translator = JaxTranslator(spec, initial_translator(spec), TrainingSpec(), jax.devices("cpu")[0])
        >>> state = translator.read(np.array([[3, 4, 2]], np.int32), np.array([3], np.int32))
        >>> logits, state = translator.write(np.array([1], np.int32), state)
        >>> logits.shape, [H.shape for H in state.states]
        ((1, 30), [(1, 64), (1, 64)])
    """

    def __init__(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, device: jax.Device
    ) -> None:
        self.spec, self.training = spec, training
        self.step = 0
        self.learning_rate = training.learning_rate
        self._device = device
        # Held while the parameters are in use: a training step takes their memory away from other threads.
        self._lock = RLock()
        self._params = self._taken(parameters)
        with self._computing():
            self._remembered: Any = self._placed(initial_state(training.optimizer, self._params))

    def train_step(self, batch: PairBatch) -> StepResult:
        """Loss, gradient, clip, update: one compiled function."""
        masks = translator_masks(self.spec, self.training.seed, self.step, batch)
        with self._computing():
            self._params, self._remembered, result = _train(
                self._params, self._remembered, float(self.learning_rate), self.step, _own(batch), masks,
                spec=self.spec, optimizer=self.training.optimizer, theta=self.training.clip,
            )  # fmt: skip
            self.step += 1
        return result

    def eval_step(self, batch: PairBatch) -> jax.Array:
        """The loss, without gradients."""
        with self._computing():
            return _compiled_loss(self._params, _own(batch), spec=self.spec)

    def gradients(self, batch: PairBatch) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with self._computing():
            loss, gradient = _compiled_gradient(self._params, _own(batch), spec=self.spec)
            return float(loss), self._exported(gradient)

    def read(self, source: IntArray, lengths: IntArray) -> Writing:
        """See `d2lrnn.translation.values.Translator`."""
        with self._computing():
            return _compiled_read(self._params, _indices(source), _indices(lengths), spec=self.spec)

    def write(self, tokens: IntArray, state: Writing) -> tuple[FloatArray, Writing]:
        """See `d2lrnn.translation.values.Translator`."""
        with self._computing():
            logits, state = _compiled_write(self._params, _indices(tokens), state, spec=self.spec)
            return np.array(logits), state

    def rows(self, state: Writing, rows: IntArray) -> Writing:
        """See `d2lrnn.translation.values.Translator`."""
        with self._computing():
            return _compiled_rows(state, _indices(rows))

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        with self._computing():
            return self._exported(self._params)

    def import_parameters(self, parameters: Parameters) -> None:
        """Takes copies."""
        taken = self._taken(parameters)
        with self._lock:
            self._params = taken

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        with self._computing():
            return {
                slot_name(slot, name): value
                for slot, tree in slots(self.training.optimizer, self._remembered).items()
                for name, value in self._exported(tree).items()
            }

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Takes copies."""
        optimizer, shapes = self.training.optimizer, translator_shapes(self.spec)
        checked = check_arrays("optimizer state", slot_shapes(optimizer, shapes), arrays, self.spec.dtype)
        with self._computing():
            trees = {
                slot: self._owned({name: checked[slot_name(slot, name)] for name in shapes})
                for slot in optimizer.slots
            }
            self._remembered = with_slots(optimizer, self._remembered, trees)

    def synchronize(self) -> None:
        """Waits for the last update."""
        jax.block_until_ready(self._params)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """The translator's precision, and full products: by default a GPU multiplies float32 as TF32."""
        with self._lock, precision(self.spec.dtype), jax.default_matmul_precision("highest"):
            yield

    def _taken(self, parameters: Parameters) -> Params:
        checked = check_arrays("parameter", translator_shapes(self.spec), parameters, self.spec.dtype)
        with self._computing():
            return self._owned(checked)

    def _exported(self, tree: Params) -> dict[str, FloatArray]:
        """NumPy copies in canonical order: JAX sorts the names of a dictionary."""
        return {name: np.array(tree[name]) for name in translator_shapes(self.spec)}

    def _owned(self, arrays: dict[str, FloatArray]) -> Params:
        """Copies on the device: a training step donates the memory of the parameters."""
        copies: Params = self._placed(jax.tree.map(jnp.array, arrays))
        return copies

    def _placed(self, tree: Any) -> Any:
        return jax.device_put(tree, self._device)


def _indices(values: IntArray) -> IntArray:
    """A copy, int32: on a CPU JAX may read its arguments after the call has returned."""
    return np.array(values, np.int32)


def _own(batch: PairBatch) -> PairBatch:
    return PairBatch(*map(_indices, batch))


# What is static is compiled anew for every value, as it is for every shape of a batch.

_compiled_loss = jax.jit(mean_loss, static_argnames="spec")
_compiled_gradient = jax.jit(jax.value_and_grad(mean_loss), static_argnames="spec")
_compiled_read = jax.jit(read, static_argnames="spec")


@partial(jax.jit, static_argnames=("spec", "optimizer", "theta"), donate_argnums=(0, 1))
def _train(
    params: Params, remembered: Any, rate: Any, step: Any, batch: PairBatch, masks: Masks,
    *, spec: TranslatorSpec, optimizer: Optimizer, theta: float | None,
) -> tuple[Params, Any, StepResult]:  # fmt: skip
    """New parameters and a new optimiser state, in the memory of the old ones."""
    loss, gradient = jax.value_and_grad(mean_loss)(params, batch, masks, spec=spec)
    norm, gradient = global_norm(gradient), clip(gradient, theta)
    params, remembered = updated(optimizer, params, gradient, remembered, rate, step)
    return params, remembered, StepResult(loss, norm)


@partial(jax.jit, static_argnames="spec")
def _compiled_write(
    params: Params, tokens: jax.Array, state: Writing, *, spec: TranslatorSpec
) -> tuple[jax.Array, Writing]:
    following = tuple(outputs[0] for outputs in decode(params, tokens[:, None], state, spec=spec))
    return head(params, following[-1]), Writing(state.memory, following)


@jax.jit
def _compiled_rows(state: Writing, rows: jax.Array) -> Writing:
    memory, states = state
    chosen = Memory(*(part[:, rows] for part in memory)) if isinstance(memory, Memory) else memory[rows]
    return Writing(chosen, tuple(H[rows] for H in states))
