"""flax.linen.RNN with optax and jit, as flax's documentation shows."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn import jax as d2l
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, IntArray, Parameters, StepResult

CELLS = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}


class Model(nn.Module):
    """One-hot tokens or an embedding, the layers, an output layer."""

    spec: ModelSpec

    def setup(self) -> None:
        """The cells have names of their own."""
        if self.spec.embedding_size:
            self.embedding = nn.Embed(self.spec.vocab_size, self.spec.embedding_size)
        cell = CELLS[self.spec.cell]
        self.cells = [cell(self.spec.num_hiddens) for _ in range(self.spec.num_layers)]
        self.rnns = [nn.RNN(cell, time_major=True) for cell in self.cells]
        self.dense = nn.Dense(self.spec.vocab_size)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Tokens (T, B) to logits (T, B, V)."""
        outputs = self.embed(tokens)
        for rnn in self.rnns:
            outputs = rnn(outputs)
        return self.dense(outputs)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """The vectors of tokens."""
        one_hot = self.spec.embedding_size is None
        return jax.nn.one_hot(tokens, self.spec.vocab_size) if one_hot else self.embedding(tokens)

    def step(self, tokens: jax.Array, carries: Any) -> tuple[jax.Array, Any]:
        """One step: tokens (B,) to logits (B, V)."""
        outputs, after = self.embed(tokens), []
        for cell, carry in zip(self.cells, carries, strict=True):
            carry, outputs = cell(carry, outputs)
            after.append(carry)
        return self.dense(outputs), after


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec) -> None:
        self.spec, self.model = spec, Model(spec)
        clip = optax.clip_by_global_norm(training.clip) if training.clip else optax.identity()
        self.optimizer = optax.chain(clip, optax.sgd(training.learning_rate))
        self.import_parameters(parameters)

        def loss_of(params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
            logits = self.model.apply({"params": params}, inputs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        @jax.jit
        def train(params: Any, state: Any, inputs: jax.Array, targets: jax.Array) -> Any:
            loss, gradient = jax.value_and_grad(loss_of)(params, inputs, targets)
            updates, state = self.optimizer.update(gradient, state)
            return optax.apply_updates(params, updates), state, loss

        self._train, self._loss = train, jax.jit(loss_of)
        self._gradient = jax.jit(jax.value_and_grad(loss_of))
        self._predict = jax.jit(lambda params, tokens, carries: self.model.apply(
            {"params": params}, tokens, carries, method="step"))  # fmt: skip

    def initial_state(self, batch_size: int) -> Any:
        """Zeros of every cell, for `predict_step`."""
        zeros = jnp.zeros((batch_size, self.spec.num_hiddens))
        return [(zeros, zeros) if self.spec.cell == "lstm" else zeros] * self.spec.num_layers

    def train_step(self, batch: Batch, state: Any) -> tuple[StepResult, Any]:
        """One compiled function."""
        arrays = batch.inputs.T.copy(), batch.targets.T.copy()
        self.params, self.state, loss = self._train(self.params, self.state, *arrays)
        return StepResult(loss, float("nan")), state

    def eval_step(self, batch: Batch, state: Any) -> tuple[jax.Array, Any]:
        """The loss alone."""
        return self._loss(self.params, batch.inputs.T.copy(), batch.targets.T.copy()), state

    def predict_step(self, tokens: IntArray, state: Any) -> tuple[FloatArray, Any]:
        """One step."""
        logits, state = self._predict(self.params, tokens, state)
        return np.asarray(logits), state

    def gradients(self, batch: Batch, state: Any) -> tuple[float, dict[str, FloatArray]]:
        """In the canonical layout, as weights are brought into it."""
        loss, gradient = self._gradient(self.params, batch.inputs.T.copy(), batch.targets.T.copy())
        cells = [gradient[f"cells_{l}"] for l in range(self.spec.num_layers)]
        return float(loss), d2l.from_native(self.spec, cells, gradient["dense"], gradient.get("embedding"))

    def import_parameters(self, parameters: Parameters) -> None:
        """Through the tab's `to_native`."""
        weights = d2l.to_native(self.spec, parameters)
        cells = {f"cells_{l}": cell for l, cell in enumerate(weights.cells)}
        embedding = {} if weights.embedding is None else {"embedding": weights.embedding}
        self.params: Any = {**embedding, **cells, "dense": weights.head}
        self.state = self.optimizer.init(self.params)

    def synchronize(self) -> None:
        """Waits for the last update."""
        jax.block_until_ready(self.params)


class Layers:
    """See `d2lrnn.benchmark.subject.Subject`."""

    same_update = True
    generates = True

    def versions(self) -> dict[str, str]:
        """JAX's, flax's and optax'."""
        return {package: version(package) for package in ("jax", "flax", "optax")}

    def contestant(
        self, spec: ModelSpec, parameters: Parameters, training: TrainingSpec, *, device: str
    ) -> Contestant:
        """With these parameters."""
        return Contestant(spec, parameters, training)

    def floor(self, spec: ModelSpec, batch_size: int, num_steps: int, *, device: str) -> None:
        """That of the backend is enough."""
        return


def subject() -> Layers:
    """What the worker measures."""
    return Layers()
