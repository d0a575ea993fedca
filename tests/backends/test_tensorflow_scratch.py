"""Scratch means the formula: no scratch model runs one of the framework's recurrent layers or operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="this environment has no Keras")
tf = pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn_tensorflow.adapter import TensorFlowBackend  # noqa: E402
from d2lrnn_tensorflow.prediction import SingleStep  # noqa: E402
from d2lrnn_tensorflow.recurrence import plain_recurrence, project  # noqa: E402
from d2lrnn_tensorflow.scratch import ScratchLayer, find_scratch  # noqa: E402
from parity.models import drawn_batch, drawn_parameters, name_of  # noqa: E402

from d2lrnn import tensorflow as d2l  # noqa: E402
from d2lrnn.contract import cells  # noqa: E402
from d2lrnn.contract.cells import Cell  # noqa: E402
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.errors import SpecError  # noqa: E402

#: Operators that run a whole cell, a step of it or a sequence.
OPERATORS = {
    "BlockLSTM", "BlockLSTMGrad", "BlockLSTMV2", "BlockLSTMGradV2", "CudnnRNN", "CudnnRNNBackprop",
    "CudnnRNNBackpropV2", "CudnnRNNBackpropV3", "CudnnRNNV2", "CudnnRNNV3", "GRUBlockCell",
    "GRUBlockCellGrad", "LSTMBlockCell", "LSTMBlockCellGrad",
}  # fmt: skip

#: Keras' layers and cells. `RNN` is what all layers are, and what a cell of one's own would be put into.
LAYERS = (
    keras.layers.RNN, keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM,
    keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell, keras.layers.StackedRNNCells,
)  # fmt: skip

SPECS = [
    *[ModelSpec(11, cell, "scratch", 8) for cell in TensorFlowBackend().cells("scratch")],
    ModelSpec(11, "gru", "scratch", 8, reset_after=True),
    ModelSpec(11, "lstm", "scratch", 8, num_layers=2, dropout=0.5, embedding_size=8, tied=True),
]


@contextmanager
def without_keras_layers() -> Iterator[list[str]]:
    """Notes which of Keras' recurrent layers and cells are called."""
    called: list[str] = []

    def noting(layer: Any) -> Any:
        call = layer.call

        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            called.append(layer.__name__)
            return call(self, *args, **kwargs)

        return noted

    with ExitStack() as stack:
        for layer in LAYERS:
            patch = pytest.MonkeyPatch()
            patch.setattr(layer, "call", noting(layer))
            stack.callback(patch.undo)
        yield called


def operators(function: Any) -> set[str]:
    """What a `tf.function` is made of: all of its graphs, and those of the functions in them."""
    kinds = set()
    for concrete in function._list_all_concrete_functions():
        graph = concrete.graph.as_graph_def()
        nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
        kinds |= {node.op for node in nodes}
    return kinds


def recurrent_parts(model: Any) -> set[str]:
    """Which recurrent layers and operators a learner of the model and the model itself run."""
    learner = TensorFlowBackend().learner(model, TrainingSpec(), device="cpu")
    with without_keras_layers() as called:
        for num_steps in (1, 5):
            batch = drawn_batch(model.spec, batch_size=2, num_steps=num_steps)
            state = learner.initial_state(2)
            learner.train_step(batch, state)
            learner.eval_step(batch, state)
            learner.gradients(batch, state)
            model(batch.inputs)
        learner.predict_step(batch.inputs[:, 0], state)
    functions = learner._train, learner._evaluate, learner._differentiate, learner._predict.compiled
    found = set().union(*map(operators, functions))
    assert "MatMul" in found
    return (found & OPERATORS) | set(called)


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_scratch_model_is_its_formula(spec: ModelSpec) -> None:
    assert not recurrent_parts(TensorFlowBackend().build(spec, drawn_parameters(spec)))


class FusedLSTM(d2l.LSTMScratch):
    """By TensorFlow's operator for a whole sequence, whose gates stand in the order i, c, f, o."""

    def forward(self, inputs: Any, state: Any = None) -> Any:
        i, f, g, o = tf.split(tf.concat([self.W_x, self.W_h], axis=0), 4, axis=1)
        zeros = tf.zeros(self.num_hiddens)
        b_i, b_f, b_g, b_o = tf.split(self.b, 4)
        H, C = state or (tf.zeros((inputs.shape[1], self.num_hiddens)),) * 2
        block = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.constant(inputs.shape[0], tf.int64), x=inputs, cs_prev=C, h_prev=H,
            w=tf.concat([i, g, f, o], axis=1), wci=zeros, wcf=zeros, wco=zeros,
            b=tf.concat([b_i, b_g, b_f, b_o], axis=0),
        )  # fmt: skip
        return block.h, (block.h[-1], block.cs[-1])


class KerasInside(d2l.RNNScratch):
    """By Keras' layer, with weights that it takes over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.layer = keras.layers.SimpleRNN(self.num_hiddens, return_sequences=True, return_state=True)
        self.layer.build((None, None, self.num_inputs))
        self.layer.trainable = False

    def forward(self, inputs: Any, state: Any = None) -> Any:
        outputs, H = self.layer(tf.transpose(inputs, (1, 0, 2)), initial_state=state)
        return tf.transpose(outputs, (1, 0, 2)) + 0 * self.W_xh[0] + 0 * self.W_hh[0] + 0 * self.b_h, H


@pytest.mark.parametrize(
    ("layer", "found"), [(FusedLSTM, "BlockLSTMV2"), (KerasInside, "SimpleRNN")], ids=["operator", "layer"]
)
def test_a_fused_kernel_would_be_noticed(layer: Any, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2lrnn_tensorflow import scratch

    monkeypatch.setitem(scratch.SCRATCH, layer.cell.name, layer)
    spec = ModelSpec(11, layer.cell.name, "scratch", 8)
    assert found in recurrent_parts(TensorFlowBackend().build(spec, drawn_parameters(spec)))


@pytest.mark.parametrize("layer", [d2l.GRUScratch, d2l.MGUScratch])
def test_a_single_step_is_the_recurrence(layer: Any) -> None:
    """Cells of two products take one step with whole matrices: values and gradients."""
    rnn, random = layer(7, 4, sigma=0.5, dtype="float64"), np.random.default_rng(0)
    inputs, H = tf.constant(random.normal(size=(1, 3, 7))), tf.constant(random.normal(size=(3, 4)))
    factors = tf.constant(random.normal(size=(1, 3, 4)))
    variables, results = [variable.value for variable in rnn.trainable_variables], []
    for alone in (True, False):
        with tf.GradientTape() as tape:
            if alone:
                outputs, after = rnn(inputs, H)
            else:
                projected = project(inputs, rnn.W_x, rnn.b)
                outputs, (after,) = plain_recurrence(rnn.step, projected, (H,), rnn.weights_of_step())
            loss = tf.reduce_sum(outputs * factors) + tf.reduce_sum(after**2)
        results.append([outputs, after, *tape.gradient(loss, variables)])
    for value, other in zip(*results, strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-12)


# A cell of another package.

LEAKY = Cell("leaky", "leaky RNN", ("h",), "h' = h + a ∘ tanh(X + h w_h)", "nobody", vectors=("a",))


class LeakyRNNScratch(ScratchLayer):
    """``H' = H + a ∘ tanh(X + H W_h)``."""

    cell = LEAKY

    @staticmethod
    def step(X: Any, state: Any, product: Any, *, a: Any) -> Any:
        (H,) = state
        return (H + a * tf.tanh(X + product(H)),)


def test_a_cell_needs_its_formula_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cells.CELLS, LEAKY.name, LEAKY)
    monkeypatch.setattr(cells, "find_formula", lambda backend, cell: {"tensorflow": LeakyRNNScratch}[backend])
    spec = ModelSpec(11, LEAKY.name, "scratch", 8, num_layers=2)
    model = TensorFlowBackend().build(spec, drawn_parameters(spec))
    learner = TensorFlowBackend().learner(model, TrainingSpec(1.0), device="cpu")
    batch = drawn_batch(spec, batch_size=3, num_steps=4)
    losses, state = [], learner.initial_state(3)
    for _ in range(100):
        losses.append(float(learner.train_step(batch, state)[0].loss))
    assert losses[-1] < 0.8 * losses[0]
    assert learner.export_parameters()["rnn.1.a"].shape == (8,)


def test_a_cell_without_a_formula_here_is_refused() -> None:
    with pytest.raises(SpecError, match="the backend tensorflow has no formula of the cell unheard-of"):
        find_scratch("unheard-of")


# The single step.


def test_a_single_step_is_compiled_once_it_pays() -> None:
    runs = []

    def step(tokens: Any, state: Any) -> Any:
        runs.append(tf.inside_function())
        return tf.one_hot(tokens[:, 0], 3), state + 1

    single, state = SingleStep(step, plain_steps=3), tf.constant(0)
    for number in range(1, 7):
        logits, state = single(np.array([number % 3], np.int32), state)
        assert int(state) == number
        assert logits.argmax() == number % 3
    assert runs == [False, False, False, True]
    single(np.array([0, 1], np.int32), state)
    assert runs == [False, False, False, True, True], "another batch size is traced anew"


def test_a_step_that_cannot_be_compiled_runs_as_it_is() -> None:
    single = SingleStep(lambda tokens, state: (tf.one_hot(tokens[:, 0], 3), int(state) + 1), plain_steps=0)
    state: Any = tf.constant(0)
    for number in range(1, 4):
        _, state = single(np.array([0], np.int32), state)
        assert state == number


def test_a_mistake_in_a_step_is_raised() -> None:
    single = SingleStep(lambda tokens, state: (tf.matmul(tokens, state), state), plain_steps=0)
    with pytest.raises(Exception, match=r"[Mm]at"):
        single(np.array([0], np.int32), tf.ones((3, 3), tf.int32))
