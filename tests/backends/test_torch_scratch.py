"""Scratch models run their own formulas: none calls a recurrent layer or operator of PyTorch."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from d2lrnn_torch import GRU, LSTM, RNN, GRUScratch, ReluRNN, RNNScratch, StackedRNNScratch  # noqa: E402
from d2lrnn_torch.adapter import TorchBackend  # noqa: E402
from d2lrnn_torch.layer import ScratchLayer, unroll  # noqa: E402
from d2lrnn_torch.scratch import SCRATCH_LAYERS  # noqa: E402
from parity.models import KINDS, drawn_batch, drawn_parameters, name_of  # noqa: E402
from torch import nn  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from d2lrnn.contract import cells  # noqa: E402
from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.data.vocabulary import Vocab  # noqa: E402

#: What is called in Python, as in `torch.lstm`, and what that becomes in PyTorch's dispatcher.
FUNCTIONS = {
    *("lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    *("quantized_lstm", "quantized_gru"),
}
OPERATORS = re.compile(
    r"^(lstm|gru|rnn_tanh|rnn_relu|quantized_lstm|quantized_gru)(_cell)?(_backward)?\b"
    r"|_thnn_fused_|_thnn_differentiable_|mkldnn_rnn_layer|_cudnn_rnn|miopen_rnn|_lstm_mps|lstm_mps"
)


class Recorder:
    """A context that records the names of the recurrent functions and operators that are called."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.calls = 0
        recorder = self

        class Functions(TorchFunctionMode):
            def __torch_function__(
                self, function: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                recorder.note(getattr(function, "__name__", ""), FUNCTIONS.__contains__)
                return function(*args, **(kwargs or {}))

        class Operators(TorchDispatchMode):
            def __torch_dispatch__(
                self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                recorder.note(operator.__name__.partition(".")[0], OPERATORS.search)
                return operator(*args, **(kwargs or {}))

        self._modes = Functions(), Operators()

    def note(self, name: str, recurrent: Any) -> None:
        self.calls += 1
        if recurrent(name):
            self.found.add(name)

    def __enter__(self) -> Recorder:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


def _used(spec: ModelSpec) -> Recorder:
    """Training, evaluation, prediction, one long step and one short, and generation, under the recorder."""
    backend = TorchBackend()
    vocab = Vocab(list("abcdefghi "))
    with Recorder() as recorder:
        model = backend.build(spec, drawn_parameters(spec))
        learner = backend.learner(model, TrainingSpec(), device="cpu")
        for num_steps in (1, 5):
            batch = drawn_batch(spec, 3, num_steps)
            _, state = learner.train_step(batch, learner.initial_state(3))
            learner.eval_step(batch, state)
            learner.gradients(batch, state)
            learner.predict_step(batch.inputs[:, 0], state)
        model.train()(torch.tensor(batch.inputs)).sum().backward()
        if spec.vocab_size == len(vocab):
            model.predict("abc", 5, vocab)
        backend.run_layers(model, np.ones((4, 2, spec.num_inputs), spec.dtype))
    assert recorder.calls > 100
    return recorder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spec", [spec for spec in KINDS if spec.implementation == "scratch"], ids=name_of)
def test_no_scratch_model_calls_a_recurrent_operator(spec: ModelSpec, dtype: str) -> None:
    assert _used(dataclasses.replace(spec, dtype=dtype)).found == set()


@pytest.mark.parametrize("spec", [spec for spec in KINDS if spec.implementation == "concise"], ids=name_of)
def test_the_recorder_notices_the_operators_of_concise_models(spec: ModelSpec) -> None:
    assert _used(spec).found


@pytest.mark.parametrize("make", [nn.RNN, partial(nn.RNN, nonlinearity="relu"), nn.GRU, nn.LSTM])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_recorder_notices_a_layer(make: Any, dtype: torch.dtype) -> None:
    layer = make(3, 4, dtype=dtype)
    with Recorder() as recorder:
        layer(torch.ones(5, 2, 3, dtype=dtype))
    assert recorder.found & FUNCTIONS


@pytest.mark.parametrize(
    "cell", [nn.RNNCell, partial(nn.RNNCell, nonlinearity="relu"), nn.GRUCell, nn.LSTMCell]
)
def test_the_recorder_notices_a_cell(cell: Any) -> None:
    cell = cell(3, 4)
    with Recorder() as recorder:
        cell(torch.ones(2, 3))
    assert recorder.found & FUNCTIONS


@pytest.mark.parametrize(
    "name",
    [
        "mkldnn_rnn_layer",
        "mkldnn_rnn_layer_backward",
        "_thnn_fused_lstm_cell",
        "_cudnn_rnn",
        "lstm_cell",
        "gru",
    ],
)
def test_operators_are_recurrent_by_their_names(name: str) -> None:
    recorder = Recorder()
    recorder.note(name, OPERATORS.search)
    assert recorder.found == {name}
    for other in ("mm", "addmm", "sigmoid_", "_linear_pointwise", "native_group_norm", "lstmlike"):
        recorder.note(other, OPERATORS.search)
    assert recorder.found == {name}


def test_what_the_dispatcher_sees_is_noticed_too() -> None:
    """oneDNN's operator behind `torch.lstm`, called past the function."""
    X, zeros = torch.ones(5, 2, 3), torch.zeros(2, 2, 4)
    weights = [torch.ones(16, 3), torch.ones(16, 4), torch.ones(16), torch.ones(16)]
    with Recorder() as recorder:
        torch.ops.aten.lstm.input(X, list(zeros[:, :1].expand(2, 2, 4).unsqueeze(1)), weights, True, 1, 0.0,
                                  False, False, False)  # fmt: skip
    assert recorder.found


# A cell is the formula of one step


class Leaky(ScratchLayer):
    """A cell of another package: five lines."""

    cell = cells.Cell("leaky", "leaky RNN", ("h",), "h' = a ∘ h + tanh(X + h w_h)", "a test", vectors=("a",))

    def step(self, X: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
        return self.a * H + torch.tanh(X + H @ self.W_h)


def test_the_formula_of_one_step_is_a_layer() -> None:
    layer = Leaky(7, 6).double()
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "W_x": (7, 6), "W_h": (6, 6), "b": (6,), "a": (6,)}  # fmt: skip
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.3)
    X = torch.randn(4, 3, 7, dtype=torch.float64)
    outputs, final = layer(X)
    H = torch.zeros(3, 6, dtype=torch.float64)
    for t in range(4):
        H = layer.a * H + torch.tanh(X[t] @ layer.W_x + H @ layer.W_h + layer.b)
        torch.testing.assert_close(outputs[t], H)
    torch.testing.assert_close(final, H)
    stack = StackedRNNScratch(7, 6, 2, layer=Leaky)
    assert stack(torch.ones(4, 3, 7))[0].shape == (4, 3, 6)
    assert stack.next_state(torch.ones(3, 7), stack.begin_state(3))[0].shape == (3, 6)


def test_a_cell_of_another_package_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, value: object) -> None:
            self.load = lambda: value

    announced = {"d2lrnn.cells": {"leaky": Point(Leaky.cell)}, "d2lrnn.cells.torch": {"leaky": Point(Leaky)}}
    monkeypatch.setattr(cells, "_announced", lambda group: announced.get(group, {}))
    backend = TorchBackend()
    assert "leaky" in backend.cells("scratch")
    assert "leaky" not in backend.cells("concise")
    spec = ModelSpec(11, "leaky", "scratch", 8, num_layers=2)
    parameters = drawn_parameters(spec)
    learner = backend.learner(backend.build(spec, parameters), TrainingSpec(), device="cpu")
    learner.train_step(drawn_batch(spec, 3, 5), learner.initial_state(3))
    for name, value in learner.export_parameters().items():
        assert not np.array_equal(value, parameters[name]), name


def test_a_subclass_with_a_formula_of_its_own_leaves_the_backward_pass_behind() -> None:
    class Halved(RNNScratch):
        def step(self, X: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
            return 0.5 * super().step(X, H)

    layer = Halved(7, 6, sigma=0.5)
    X = torch.randn(5, 3, 7)
    expected, _ = unroll(layer.step, X @ layer.W_xh + layer.b_h, torch.zeros(3, 6))
    torch.testing.assert_close(layer(X)[0], expected)
    assert not torch.allclose(RNNScratch.forward(_same(RNNScratch(7, 6), layer), X)[0], expected)


def _same(one: nn.Module, other: nn.Module) -> nn.Module:
    one.load_state_dict(other.state_dict())
    return one


def test_the_tables_have_every_cell() -> None:
    backend = TorchBackend()
    assert list(SCRATCH_LAYERS) == list(cells.CELLS)
    assert set(backend.cells("scratch")) >= set(cells.CELLS)
    assert set(backend.cells("concise")) == {cell.name for cell in cells.CELLS.values() if cell.has_layer}
    assert [kind.cell for kind in (RNN, ReluRNN, GRU, LSTM)] == [
        cells.RNN, cells.RELU_RNN, cells.GRU, cells.LSTM]  # fmt: skip


def test_dropout_between_layers_is_the_framework_s_where_no_masks_are_given() -> None:
    torch.manual_seed(0)
    stack = StackedRNNScratch(7, 6, 2, layer=GRUScratch, sigma=0.5, dropout=0.5).train()
    X = torch.randn(5, 3, 7)
    assert not torch.equal(stack(X)[0], stack(X)[0])
    ones = torch.ones(1, 5, 3, 6)
    torch.testing.assert_close(stack(X, None, ones)[0], stack.eval()(X)[0], rtol=0, atol=0)
    torch.testing.assert_close(stack(X)[0], stack(X)[0], rtol=0, atol=0)
