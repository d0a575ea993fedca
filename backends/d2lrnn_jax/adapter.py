"""The contract for JAX: a compiled step for every equal module, and a learner that owns its parameters.

Inside a compiled function everything is in order of what happens: loss, gradient, norm, clip, update. The
functions are pure; a learner keeps the parameters between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.parameters import check_parameters
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import (
    Batch,
    Device,
    FloatArray,
    IntArray,
    Parameters,
    State,
    StateArrays,
    StepResult,
)
from d2lrnn_jax.devices import devices, native_device
from d2lrnn_jax.dispatch import compute_where_asked
from d2lrnn_jax.gradients import clip_to_norm, global_norm
from d2lrnn_jax.language_model import RNNLM, RNNLMScratch
from d2lrnn_jax.parameters import from_canonical, to_canonical
from d2lrnn_jax.precision import precision
from d2lrnn_jax.scratch import StackedRNNScratch
from d2lrnn_jax.specification import module_of, spec_of
from d2lrnn_jax.states import from_arrays, initial_state, to_arrays


class JaxBackend:
    """JAX with flax.linen modules: float32, and float64 inside a scope of its own."""

    name = "jax"

    def __init__(self) -> None:
        """Has JAX compute where it is asked to, if it has not begun yet; see `d2lrnn_jax.dispatch`."""
        compute_where_asked()

    def versions(self) -> dict[str, str]:
        """See `d2lrnn.contract.protocols.Backend`."""
        return {package: version(package) for package in ("jax", "jaxlib", "flax", "optax", "numpy")}

    def devices(self) -> Sequence[Device]:
        """GPUs first, then the CPU."""
        return devices()

    def build(self, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
        """See `d2lrnn.contract.protocols.Backend`. The model is a module bound to its parameters.

        Example:
            >>> model = backend("jax").build(spec, initial_parameters(spec))
            >>> model(tokens).shape, model.variables["params"].keys()  # doctest: +SKIP
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

    def learner(self, model: RNNLMScratch, training: TrainingSpec, *, device: str = "auto") -> JaxLearner:
        """The learner trains a copy: what `model` is bound to stays."""
        return JaxLearner(model, training, native_device(choose_device(device, self.devices()).name))


class Compiled(NamedTuple):
    """The optimizer and the jitted functions of a model; each takes the parameters first."""

    optimizer: optax.GradientTransformation
    train: Callable[..., Any]
    evaluate: Callable[..., Any]
    predict: Callable[..., Any]
    gradients: Callable[..., Any]


# Kept for as many models as a process is likely to use at a time.
@lru_cache(maxsize=64)
def compiled(module: RNNLMScratch, learning_rate: float, clip: float | None) -> Compiled:
    """The functions for every learner whose module and training are equal to these: they compile once."""
    optimizer = optax.chain(clip_to_norm(clip), optax.sgd(learning_rate))

    def loss(params: Any, batch: Batch, state: State, masks: FloatArray | None = None) -> Any:
        # A GPU would multiply float32 in fewer bits (TF32) unless it is told not to.
        with jax.default_matmul_precision("highest"):
            logits, state = module.apply({"params": params}, batch.inputs, state, masks, method="unroll")
        # The logits lie in memory step by step: taken in that order they need not be copied.
        logits, targets = jnp.swapaxes(logits, 0, 1), jnp.swapaxes(batch.targets, 0, 1)
        valid = targets >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        num_tokens = jnp.maximum(1, jnp.count_nonzero(valid))
        return jnp.sum(losses, where=valid) / num_tokens, state

    def gradients(params: Any, batch: Batch, state: State, masks: FloatArray | None = None) -> Any:
        with jax.default_matmul_precision("highest"):
            return jax.value_and_grad(loss, has_aux=True)(params, batch, state, masks)

    def train(params: Any, optimizer_state: Any, batch: Batch, state: State, masks: FloatArray | None) -> Any:
        (mean_loss, state), gradient = gradients(params, batch, state, masks)
        norm = global_norm(gradient)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        params = optax.apply_updates(params, updates)
        return params, optimizer_state, StepResult(mean_loss, norm), state

    def predict(params: Any, tokens: IntArray, state: State) -> Any:
        with jax.default_matmul_precision("highest"):
            logits, state = module.apply({"params": params}, tokens[:, None], state, method="unroll")
        return logits[:, 0], state

    return Compiled(
        optimizer,
        train=jax.jit(train, donate_argnums=(0, 1)),
        evaluate=jax.jit(loss),
        predict=jax.jit(predict),
        gradients=jax.jit(gradients),
    )


@lru_cache(maxsize=64)
def compiled_layers(module: RNNLMScratch) -> Callable[..., Any]:
    """The jitted recurrent layers of a model: parameters, inputs and state to outputs and state."""

    @jax.jit
    def layers(params: Any, inputs: jax.Array, state: State) -> Any:
        with jax.default_matmul_precision("highest"):
            return module.apply({"params": params}, inputs, state, method=_run_layers)

    return layers


def _run_layers(model: RNNLMScratch, inputs: jax.Array, state: State) -> Any:
    return model.rnn(inputs, state)


class JaxLearner:
    """Trains the parameters of a model; see `d2lrnn.contract.protocols.Learner` for the methods.

    Attributes:
        step: training steps so far.
        training: rate, clipping, seed.
    """

    def __init__(self, model: RNNLMScratch, training: TrainingSpec, device: jax.Device) -> None:
        self.spec = spec_of(model)
        self.training = training
        self.step = 0
        self._device = device
        self._module, variables = model.unbind()
        self._compiled = compiled(self._module, training.learning_rate, training.clip)
        self._zeros: dict[int, State] = {}
        self._params: Any
        self._optimizer_state: Any
        self._set_parameters(variables["params"])

    @property
    def model(self) -> RNNLMScratch:
        """The model as trained so far, bound to a copy of the parameters: further steps leave it."""
        with precision(self.spec.dtype):
            return self._module.bind({"params": jax.tree.map(jnp.array, self._params)})

    def initial_state(self, batch_size: int) -> State:
        """Zeros, as the model returns states; one for all sequences, since nothing can change it."""
        if batch_size not in self._zeros:
            with precision(self.spec.dtype):
                zeros = initial_state(self._module, self._params, batch_size)
                self._zeros[batch_size] = jax.device_put(zeros, self._device)
        return self._zeros[batch_size]

    def train_step(self, batch: Batch, state: State) -> tuple[StepResult, State]:
        """Loss, gradient, clip, update: one compiled function."""
        batch_size, num_steps = batch.inputs.shape
        masks = dropout_masks(
            self.spec, seed=self.training.seed, step=self.step, num_steps=num_steps, batch_size=batch_size
        )
        with precision(self.spec.dtype):
            self._params, self._optimizer_state, result, state = self._compiled.train(
                self._params, self._optimizer_state, _own(batch), state, masks
            )
        self.step += 1
        return result, state

    def eval_step(self, batch: Batch, state: State) -> tuple[jax.Array, State]:
        """The loss alone."""
        with precision(self.spec.dtype):
            return self._compiled.evaluate(self._params, _own(batch), state)

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """Logits (B, V) for one step."""
        with precision(self.spec.dtype):
            logits, state = self._compiled.predict(self._params, tokens, state)
            return np.array(logits), state

    def gradients(self, batch: Batch, state: State) -> tuple[float, dict[str, FloatArray]]:
        """Loss and gradients; the parameters stay."""
        with precision(self.spec.dtype):
            (loss, _), gradient = self._compiled.gradients(self._params, batch, state)
            return float(loss), to_canonical(self.spec, gradient)

    def export_parameters(self) -> dict[str, FloatArray]:
        """Copies by canonical name."""
        with precision(self.spec.dtype):
            return to_canonical(self.spec, self._params)

    def import_parameters(self, parameters: Parameters) -> None:
        """Takes copies."""
        model = _bind(self._module, self.spec, check_parameters(self.spec, parameters))
        self._set_parameters(model.variables["params"])

    def export_state(self, state: State) -> StateArrays:
        """A copy."""
        return to_arrays(self._module, state)

    def import_state(self, arrays: StateArrays) -> State:
        """A copy, on the learner's device."""
        with precision(self.spec.dtype):
            return jax.device_put(from_arrays(self._module, arrays, self.spec.dtype), self._device)

    def synchronize(self) -> None:
        """Waits for the last update."""
        jax.block_until_ready(self._params)

    def _set_parameters(self, params: Any) -> None:
        with precision(self.spec.dtype):
            # A copy, because a training step gives the memory of the parameters to their successors.
            self._params = jax.device_put(jax.tree.map(jnp.array, params), self._device)
            self._optimizer_state = self._compiled.optimizer.init(self._params)


def _own(batch: Batch) -> Batch:
    """A copy: on a CPU JAX reads from the arrays it was given, after the call has returned."""
    return Batch(batch.inputs.copy(), batch.targets.copy())


def _bind(module: RNNLMScratch, spec: ModelSpec, parameters: Parameters) -> RNNLMScratch:
    """`module` with canonical parameters that were checked."""
    with precision(spec.dtype):
        params = from_canonical(
            spec,
            parameters,
            linear_head=isinstance(module, RNNLM),
            stacked=isinstance(module.rnn, StackedRNNScratch),
        )
    return module.bind({"params": params})
