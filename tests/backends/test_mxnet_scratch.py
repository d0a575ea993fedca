"""Scratch means the formula: a scratch model calls no recurrent operator, and a cell is its formula."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy
import pytest
from parity.models import drawn_batch, drawn_parameters, name_of

from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell, find_cell
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.vocabulary import Vocab

mx = pytest.importorskip("mxnet")

from d2lrnn_mxnet import prediction, recurrence, scratch  # noqa: E402
from d2lrnn_mxnet.activations import sigmoid, tanh  # noqa: E402
from d2lrnn_mxnet.adapter import MXNetBackend  # noqa: E402
from d2lrnn_mxnet.parameters import parameter_places  # noqa: E402
from d2lrnn_mxnet.scratch import ScratchCell  # noqa: E402
from mxnet import gluon, np  # noqa: E402

BACKEND = MXNetBackend()


@pytest.fixture(autouse=True)
def numpy_semantics() -> Iterator[None]:
    """As in the book's cells. The library itself does without: test_mxnet_process.py."""
    with mx.util.np_shape(True), mx.util.np_array(True):
        yield


#: What computes a whole recurrence, or a step of one, in the framework.
OPERATORS = ("rnn", "RNN", "_rnn_param_concat")
LAYERS = ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell", "HybridRecurrentCell", "RecurrentCell")


@pytest.fixture
def without_recurrent_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """MXNet's recurrent operators and Gluon's recurrent layers and cells raise an error."""

    def forbidden(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a recurrent operator or layer of the framework is called")

    patched = 0
    for namespace in (mx.nd, mx.sym):
        for module in (
            namespace,
            namespace.op,
            namespace.npx,
            namespace._internal,
            namespace.numpy_extension,
        ):
            for name in (*OPERATORS, "_npx_rnn"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, forbidden)
                    patched += 1
    for name in LAYERS:
        monkeypatch.setattr(getattr(gluon.rnn, name), "__init__", forbidden)
    assert patched >= 6


def _run_everything(spec: ModelSpec) -> None:
    """Training, evaluation, prediction, and the model by itself, of one step and of several."""
    learner = BACKEND.learner(BACKEND.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")
    for num_steps in (1, 4):
        batch = drawn_batch(spec, 2, num_steps)
        _, state = learner.train_step(batch, learner.initial_state(2))
        learner.gradients(batch, state)
        learner.eval_step(batch, state)
        learner.predict_step(batch.inputs[:, 0], state)
        learner.model.unroll(np.array(batch.inputs, dtype="int32"))
        BACKEND.run_layers(learner.model, numpy.zeros((num_steps, 2, spec.num_inputs), numpy.float32))
    learner.model.predict("ab", 2, Vocab("abcdefghij"))


SCRATCH_SPECS = [
    ModelSpec(11, cell, "scratch", 8, layers, reset_after=reset)
    for cell in BACKEND.cells("scratch")
    for layers in (1, 2)
    for reset in ((None,) if find_cell(cell).reset_bias is None else (False, True))
]


@pytest.mark.parametrize("spec", SCRATCH_SPECS, ids=name_of)
def test_a_scratch_model_runs_its_own_formula(spec: ModelSpec, without_recurrent_operators: None) -> None:
    _run_everything(spec)


def test_a_scratch_model_that_calls_an_operator_is_noticed(
    monkeypatch: pytest.MonkeyPatch, without_recurrent_operators: None
) -> None:
    """The test above fails for one that does: here by the operator, and by a layer of Gluon's."""

    def by_operator(F: Any, *arguments: Any, **options: Any) -> Any:
        return F.npx.rnn()

    def by_layer(*arguments: Any, **options: Any) -> Any:
        return gluon.rnn.RNN(4)

    for wrong in (by_operator, by_layer):
        monkeypatch.setattr(scratch, "unroll", wrong)
        with pytest.raises(AssertionError, match="of the framework is called"):
            _run_everything(SCRATCH_SPECS[0])
    monkeypatch.undo()
    assert "RNN" in _operators(_layer_graph(lambda x, state: mx.sym.npx.rnn(
        x, mx.sym.var("w").as_np_ndarray(), state, state_size=4, num_layers=1, mode="rnn_tanh"
    )))  # fmt: skip


def _layer_graph(run: Any) -> Any:
    return run(mx.sym.var("x").as_np_ndarray(), mx.sym.var("state").as_np_ndarray())


def _operators(graph: Any) -> set[str]:
    """The names of all operators of a graph."""
    return {node["op"].replace("_npx_rnn", "RNN") for node in json.loads(graph.tojson())["nodes"]}


@pytest.mark.parametrize("spec", SCRATCH_SPECS, ids=name_of)
def test_the_graphs_of_a_scratch_model_have_no_recurrent_operator(spec: ModelSpec) -> None:
    """What is compiled, of several steps and of one, whatever function put it there."""
    model = BACKEND.build(spec, drawn_parameters(spec))
    parts = [[mx.sym.var(f"{l}{part}").as_np_ndarray() for part in range(spec.num_states)]
             for l in range(spec.num_layers)]  # fmt: skip
    states = [layer[0] if spec.num_states == 1 else layer for layer in parts]
    with recurrence.tracing(4, 2):
        graph, _ = model.unroll_by_step(
            mx.sym.var("tokens").as_np_ndarray(), states if spec.num_layers > 1 else states[0], ([], [], [])
        )
    step, _ = prediction.step_graph(spec, parameter_places(model, spec))
    for each in (graph, step):
        operators = _operators(each)
        assert len(operators) > 4
        assert "RNN" not in operators


class Peephole(ScratchCell):  # type: ignore[misc]
    """What another package adds: an LSTM with weights from the cell state to the gates."""

    cell = Cell("peephole", "peephole LSTM", ("i", "f", "g", "o"), "", "", ("h", "c"), ("p_i", "p_f", "p_o"))

    @staticmethod
    def step(gates: Any, state: Any) -> Any:
        H, C = state
        i, f, g, o = gates(H)
        I, F = sigmoid(i + gates.vector("p_i") * C), sigmoid(f + gates.vector("p_f") * C)
        C = F * C + I * tanh(g)
        return sigmoid(o + gates.vector("p_o") * C) * tanh(C), C


class _EntryPoint(NamedTuple):
    """As `importlib.metadata.EntryPoint`."""

    loaded: Any

    def load(self) -> Any:
        return self.loaded


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_cell_of_another_package_needs_its_formula_alone(
    num_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = {
        "d2lrnn.cells": {"peephole": _EntryPoint(Peephole.cell)},
        "d2lrnn.cells.mxnet": {"peephole": _EntryPoint(Peephole)},
    }
    monkeypatch.setattr(cells, "_announced", lambda group: announced.get(group, {}))
    assert BACKEND.cells("scratch")[-1] == "peephole"
    spec = ModelSpec(11, "peephole", "scratch", 8, num_layers, dtype="float64")
    learner = BACKEND.learner(BACKEND.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")
    batch = drawn_batch(spec, 3, 5)
    state = learner.initial_state(3)
    loss, gradients = learner.gradients(batch, state)
    parameters = learner.export_parameters()
    for name, gradient in gradients.items():
        place, sides = numpy.unravel_index(numpy.abs(gradient).argmax(), gradient.shape), []
        for moved in (1e-6, -1e-6):
            changed = {**parameters, name: parameters[name].copy()}
            changed[name][place] += moved
            learner.import_parameters(changed)
            sides.append(float(learner.eval_step(batch, state)[0]))
        assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6), name
        assert gradient[place] != 0
    learner.import_parameters(parameters)
    expected = learner.model(np.array(batch.inputs, dtype="int32")).asnumpy()
    for t in range(5):
        logits, state = learner.predict_step(batch.inputs[:, t], state)
        numpy.testing.assert_allclose(logits, expected[:, t], rtol=0, atol=1e-14)
    before = loss
    for _ in range(5):
        result, _ = learner.train_step(batch, learner.initial_state(3))
    assert float(result.loss) < before - 0.05
