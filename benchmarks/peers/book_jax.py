"""The book's package on JAX; see `book`.

Its trainer differentiates a compiled loss, and updates one array after another. It never clips: its
`clip_gradients` is defined and not called. So its step does less work than the others'.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from d2lrnn_jax.native import from_native, to_native
from flax import linen as nn
from jax import numpy as jnp

from d2lrnn.benchmark.subject import UnsupportedError
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray, Parameters, StepResult
from d2lrnn.data.vocabulary import Vocab

# The type of the keys in the trainer's state: an annotation, which nothing checks. Keys are arrays now.
jax.random.PRNGKeyArray = jax.Array

from book_trainer import BATCHES  # noqa: E402
from d2l import jax as book  # noqa: E402


class GRUCell(nn.Module):
    """flax' old interface: no size is given, as the state has it, and the class makes the state."""

    @nn.compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step."""
        return nn.GRUCell(carry.shape[-1], name="cell")(carry, inputs)

    @staticmethod
    def initialize_carry(key: jax.Array, batch: tuple[int, ...], size: int) -> jax.Array:
        """Zeros, as flax's."""
        return jnp.zeros((*batch, size))


class _Linen:
    """flax.linen for the package alone: our own layers in this process keep today's cells."""

    GRUCell = GRUCell

    def __getattr__(self, name: str) -> Any:
        return getattr(nn, name)


def _whole(value: Any) -> int:
    return int(np.asarray(value).item())


book.nn = _Linen()
# `predict` calls int() on an array of one element and one dimension, which is no longer converted.
book.int = _whole


class LSTM(book.RNN):
    """The package has only the GRU; its LSTM is in a chapter."""

    num_layers: int

    @nn.compact
    def __call__(self, inputs: jax.Array, state: Any = None, training: bool = False) -> tuple[jax.Array, Any]:
        """Layer by layer, each a scan."""
        zeros = jnp.zeros((inputs.shape[1], self.num_hiddens))
        before, after = state or [(zeros, zeros)] * self.num_layers, []
        layer = nn.scan(nn.OptimizedLSTMCell, variable_broadcast="params", split_rngs={"params": False})
        for carry in before:
            carry, inputs = layer(self.num_hiddens)(carry, inputs)
            after.append(carry)
        return inputs, after


class _Data:
    """A batch to take sizes from: all that `Trainer.fit` needs for zero epochs."""

    def train_dataloader(self) -> list[Any]:
        """As an input and a target."""
        tokens = jnp.zeros((1, 1), jnp.int32)
        return [(tokens, tokens)]

    def val_dataloader(self) -> None:
        """None."""


class Contestant:
    """See `d2lrnn.benchmark.subject.Contestant`."""

    def __init__(self, spec: ModelSpec, training: TrainingSpec) -> None:
        self.spec = spec
        V, h, L = spec.vocab_size, spec.num_hiddens, spec.num_layers
        if spec.implementation == "scratch":
            self.model = book.RNNLMScratch(book.RNNScratch(V, h), V, training.learning_rate)
        elif spec.cell == "rnn":
            raise UnsupportedError("d2l 1.0.3 on jax: its RNN is a stub that raises NotImplementedError")
        elif spec.cell == "gru" and L > 2:
            raise UnsupportedError("d2l 1.0.3 on jax: its GRU feeds inputs, not outputs, to a layer between")
        else:
            layers = book.GRU(h, L) if spec.cell == "gru" else LSTM(h, L)
            self.model = book.RNNLM(layers, V, training.learning_rate)
        self.model.board.display = False
        self.trainer = book.Trainer(max_epochs=0, gradient_clip_val=training.clip or 0)
        self.trainer.fit(self.model, _Data(), key=jax.random.PRNGKey(0))
        self.trainer.num_train_batches = BATCHES
        self._last: Any = None
        step = self.model.training_step

        def remembered(*arguments: Any) -> Any:
            (self._last, rest), gradients = step(*arguments)
            return (self._last, rest), gradients

        self.model.training_step = remembered

    def initial_state(self, batch_size: int) -> None:
        """The model's own."""
        return

    def train_step(self, batch: Batch, state: None) -> tuple[StepResult, None]:
        """The package's loop over one batch."""
        self.trainer.train_dataloader = [batch]
        self.trainer.fit_epoch()
        return StepResult(self._last, float("nan")), None

    def eval_step(self, batch: Batch, state: None) -> tuple[Any, None]:
        """The loss alone."""
        trained = self.trainer.state
        return self.model.loss(trained.params, (batch.inputs,), batch.targets, trained)[0], None

    def gradients(self, batch: Batch, state: None) -> tuple[float, dict[str, FloatArray]]:
        """In the canonical layout, as weights are brought into it."""
        trained = self.trainer.state
        of = jax.value_and_grad(self.model.loss, has_aux=True)
        (loss, _), tree = of(trained.params, (batch.inputs,), batch.targets, trained)
        if self.spec.implementation == "concise":
            return float(loss), from_native(self.spec, self._cells(tree), tree["linear"])
        names = ("rnn.0.w_x", "rnn.0.w_h", "rnn.0.b", "head.w", "head.b")
        rnn = tree["rnn"]
        values = (rnn["W_xh"], rnn["W_hh"], rnn["b_h"], tree["W_hq"], tree["b_q"])
        return float(loss), dict(zip(names, map(np.array, values), strict=True))

    def import_parameters(self, parameters: Parameters) -> None:
        """Into the trainer's state; through `to_native` where the package uses flax's cells."""
        trained = self.trainer.state
        if self.spec.implementation == "concise":
            weights = to_native(self.spec, parameters)
            rnn = dict(zip(sorted(trained.params["rnn"]), weights.cells, strict=True))
            if self.spec.cell == "gru":
                rnn = {name: {"cell": cell} for name, cell in rnn.items()}
            params = {"rnn": rnn, "linear": weights.head}
        else:
            own = {name: jnp.array(value) for name, value in parameters.items()}
            rnn = {"W_xh": own["rnn.0.w_x"], "W_hh": own["rnn.0.w_h"], "b_h": own["rnn.0.b"]}
            params = {"rnn": rnn, "W_hq": own["head.w"], "b_q": own["head.b"]}
        if jax.tree.structure(params) != jax.tree.structure(trained.params):
            raise ValueError(f"the package's parameters are {jax.tree.structure(trained.params)}")
        self.trainer.state = trained.replace(params=params)

    def write(self, vocab: Vocab, prefix: str, number: int) -> str:
        """The package's `predict`."""
        text: str = self.model.predict(prefix, number, vocab, self.trainer.state.params)
        return text

    def synchronize(self) -> None:
        """Waits for the last update."""
        jax.block_until_ready(self.trainer.state.params)

    def _cells(self, tree: Any) -> list[Any]:
        """The tree of every cell, the first layer's first."""
        cells = [tree["rnn"][name] for name in sorted(tree["rnn"])]
        return [cell["cell"] for cell in cells] if self.spec.cell == "gru" else cells
