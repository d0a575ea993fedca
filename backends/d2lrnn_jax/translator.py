"""The translator for JAX: pure functions of the parameters, which JAX differentiates and compiles.

`d2lrnn.translation.spec` has the model in words. B = batch size, S = source steps, T = target steps, h =
hidden units, E = embedding size, L = layers. Arrays of all steps lie step by step: (S, B, …) and (T, B, …).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import optax
from jax import lax
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
from d2lrnn_jax.recurrence import project, run_recurrence
from d2lrnn_jax.scratch import GRUScratch

#: The parameters by canonical name.
Params: TypeAlias = dict[str, jax.Array]

#: Of the encoder and of the decoder, (L - 1, steps, B, h); None where nothing is dropped.
Masks: TypeAlias = tuple[Any, Any]


class Memory(NamedTuple):
    """What attention looks at.

    Attributes:
        outputs: M, the states of the encoder's last layer (S, B, h).
        keys: M w_k (S, B, h).
        known: (S, B), whether a position is no padding.
    """

    outputs: jax.Array
    keys: jax.Array
    known: jax.Array


class Writing(NamedTuple):
    """A decoder between two steps.

    Attributes:
        memory: what attention looks at; without attention the context itself, M_n (B, h).
        states: those of the decoder's layers, each (B, h).
    """

    memory: Memory | jax.Array
    states: tuple[jax.Array, ...]


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


# The model. What is static is compiled anew for every value, as it is for every shape of a batch.


def read(
    params: Params, source: jax.Array, lengths: jax.Array, mask: Any = None, *, spec: TranslatorSpec
) -> Writing:
    """The encoder.

    What comes behind a row's last token cannot reach the states before it, and nothing looks at those behind
    it: instead of holding the states from there on, the final ones are taken at the last token.

    Args:
        params: the parameters.
        source: tokens (B, S).
        lengths: (B,), at least 1.
        mask: (L - 1, S, B, h).
        spec: the translator.

    Returns:
        What the decoder begins with.
    """
    (B, S), h = source.shape, spec.num_hiddens
    X = project(_embed(params["encoder.embedding"], source), *_projection(params, "encoder", 0))
    zeros = jnp.zeros((B, h), X.dtype)
    layers = _run_layers(params, "encoder", X, [zeros] * spec.num_layers, mask)
    final = tuple(outputs[lengths - 1, jnp.arange(B)] for outputs in layers)
    if not spec.attention:
        return Writing(final[-1], final)
    M = layers[-1]
    known = jnp.arange(S)[:, None] < lengths
    return Writing(Memory(M, M @ params["attention.w_k"], known), final)


def decode(
    params: Params, tokens: jax.Array, state: Writing, mask: Any = None, *, spec: TranslatorSpec
) -> list[jax.Array]:
    """The decoder over all steps.

    Args:
        params: the parameters.
        tokens: its inputs (B, T).
        state: before the first step.
        mask: (L - 1, T, B, h).
        spec: the translator.

    Returns:
        The states of every layer after every step, L times (T, B, h).
    """
    w_x, b = _projection(params, "decoder", 0)
    of_token, of_context = w_x[: spec.embedding_size], w_x[spec.embedding_size :]
    X = project(_embed(params["decoder.embedding"], tokens), of_token, b)
    memory, states = state
    if not isinstance(memory, Memory):
        return _run_layers(params, "decoder", X + memory @ of_context, states, mask)

    def step(states: Sequence[jax.Array], inputs: Any) -> tuple[list[jax.Array], list[jax.Array]]:
        X, mask = inputs
        X = X + attend(params, memory, states[-1]) @ of_context
        mask = None if mask is None else mask[:, None]
        following = [outputs[0] for outputs in _run_layers(params, "decoder", X[None], states, mask)]
        return following, following

    by_step = None if mask is None else jnp.swapaxes(mask, 0, 1)
    _, layers = lax.scan(step, list(states), (X, by_step))
    return layers


def attend(params: Params, memory: Memory, H: jax.Array) -> jax.Array:
    """The context of additive attention (B, h), asked for by a state H (B, h)."""
    features = jnp.tanh(memory.keys + H @ params["attention.w_q"])
    scores = jnp.where(memory.known, features @ params["attention.w_v"], -jnp.inf)
    weights = jax.nn.softmax(scores, axis=0)
    return jnp.sum(weights[..., None] * memory.outputs, axis=0)


def mean_loss(
    params: Params, batch: PairBatch, masks: Masks = (None, None), *, spec: TranslatorSpec
) -> jax.Array:
    """The sum of the losses at all targets that are no padding, divided by their number."""
    of_encoder, of_decoder = masks
    state = read(params, batch.source, batch.lengths, of_encoder, spec=spec)
    H = decode(params, batch.inputs, state, of_decoder, spec=spec)[-1]
    targets = batch.targets.T
    valid = targets >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(_head(params, H), jnp.maximum(targets, 0))
    return jnp.sum(losses, where=valid) / jnp.maximum(1, jnp.count_nonzero(valid))


def _embed(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """The rows of the table for tokens (B, steps), step by step: (steps, B, E)."""
    return jnp.take(table, tokens.T, axis=0, mode="clip")


def _projection(params: Params, side: str, l: int) -> tuple[jax.Array, jax.Array]:
    """What projects the inputs of a layer: w_x and b."""
    return params[f"{side}.{l}.w_x"], params[f"{side}.{l}.b"]


def _run_layers(
    params: Params, side: str, X: jax.Array, states: Sequence[jax.Array], mask: Any
) -> list[jax.Array]:
    """The outputs (T, B, h) of every layer of one side, over all steps of projected inputs (T, B, 3h)."""
    layers: list[jax.Array] = []
    for l, H in enumerate(states):
        if l:
            inputs = layers[-1] if mask is None else layers[-1] * mask[l - 1]
            X = project(inputs, *_projection(params, side, l))
        weights = {name: params[f"{side}.{l}.{name}"] for name in ("w_h", "b_hn")}
        outputs, _ = run_recurrence(GRUScratch.step, weights, (H,), X)
        layers.append(outputs)
    return layers


def _head(params: Params, H: jax.Array) -> jax.Array:
    return H @ params["head.w"] + params["head.b"]


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
    return _head(params, following[-1]), Writing(state.memory, following)


@jax.jit
def _compiled_rows(state: Writing, rows: jax.Array) -> Writing:
    memory, states = state
    chosen = Memory(*(part[:, rows] for part in memory)) if isinstance(memory, Memory) else memory[rows]
    return Writing(chosen, tuple(H[rows] for H in states))
