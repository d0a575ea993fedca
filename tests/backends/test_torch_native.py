"""Plain PyTorch layers, brought in and taken out: the same outputs, two trained biases or not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import ParameterError

torch = pytest.importorskip("torch")

from d2lrnn_torch import from_native, to_native  # noqa: E402
from parity.models import drawn_parameters, name_of  # noqa: E402
from torch import nn  # noqa: E402

LAYERS = {"rnn": nn.RNN, "rnn-relu": partial(nn.RNN, nonlinearity="relu"), "gru": nn.GRU, "lstm": nn.LSTM}
SPECS = [ModelSpec(11, cell, "concise", 8, num_layers=layers) for cell in LAYERS for layers in (1, 3)]
X = np.random.default_rng(0).normal(size=(7, 4, 11)).astype(np.float32)


def _outputs(layer: nn.Module, linear: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        outputs, _ = layer(torch.tensor(X))
        return outputs.numpy(), linear(outputs).numpy()


@pytest.mark.parametrize("bias", [True, False], ids=["two-biases", "no-bias"])
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_state_dict_becomes_a_model_anywhere(spec: ModelSpec, bias: bool) -> None:
    torch.manual_seed(1)
    layer = LAYERS[spec.cell](11, 8, spec.num_layers, bias=bias)
    linear = nn.Linear(8, 11, bias=bias)
    parameters = from_native(spec, layer.state_dict(), linear.state_dict())
    hidden, logits = _outputs(layer, linear)
    for name in ("torch", "numpy"):
        backend = d2lrnn.backend(name)
        mine, _ = backend.run_layers(backend.build(spec, parameters), X)
        np.testing.assert_allclose(mine, hidden, rtol=0, atol=1e-6)
        np.testing.assert_allclose(mine @ parameters["head.w"] + parameters["head.b"], logits, atol=2e-6)


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_model_becomes_a_state_dict(spec: ModelSpec) -> None:
    parameters = drawn_parameters(spec)
    weights = to_native(spec, parameters)
    layer, linear = LAYERS[spec.cell](11, 8, spec.num_layers), nn.Linear(8, 11)
    layer.load_state_dict(weights.rnn)
    linear.load_state_dict(weights.head)
    backend = d2lrnn.backend("numpy")
    expected, _ = backend.run_layers(backend.build(spec, parameters), X)
    np.testing.assert_allclose(_outputs(layer, linear)[0], expected, rtol=0, atol=1e-6)
    back = from_native(spec, weights.rnn, weights.head)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)


def test_what_does_not_fit_is_named() -> None:
    spec = ModelSpec(11, "gru", "concise", 8)
    layer, linear = nn.GRU(11, 8), nn.Linear(8, 11)
    rnn, head = layer.state_dict(), linear.state_dict()
    for broken, message in (
        ({k: v for k, v in rnn.items() if k != "weight_hh_l0"}, "lacks weight_hh_l0"),
        ({**rnn, "weight_ih_l0_reverse": rnn["weight_ih_l0"]}, "has weight_ih_l0_reverse, which"),
        ({**rnn, "bias_hh_l0": rnn["bias_hh_l0"][:5]}, "the biases of layer 0"),
        ({**rnn, "weight_ih_l0": rnn["weight_ih_l0"][:, :5]}, "rnn.0.w_x has shape"),
        ({k: v * np.nan for k, v in rnn.items()}, "not a finite number"),
    ):
        with pytest.raises(ParameterError, match=message):
            from_native(spec, broken, head)
    with pytest.raises(ParameterError, match="the output layer lacks weight"):
        from_native(spec, rnn, {})
    with pytest.raises(ParameterError, match="the embedding lacks weight"):
        from_native(ModelSpec(11, "gru", "concise", 8, embedding_size=11), rnn, head)
    minimal = ModelSpec(11, "mgu", "scratch", 8)
    with pytest.raises(ParameterError, match="no layer of the cell mgu"):
        to_native(minimal, drawn_parameters(minimal))
    book = ModelSpec(11, "gru", "scratch", 8)
    with pytest.raises(ParameterError, match="none of PyTorch's layers"):
        to_native(book, drawn_parameters(book))


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_an_embedding_goes_along(tied: bool) -> None:
    spec = ModelSpec(11, "lstm", "concise", 8, embedding_size=8, tied=tied)
    parameters = drawn_parameters(spec)
    weights = to_native(spec, parameters)
    table, layer, linear = nn.Embedding(11, 8), nn.LSTM(8, 8), nn.Linear(8, 11)
    for module, state in zip((layer, linear, table), weights, strict=True):
        module.load_state_dict(state)
    tokens = np.random.default_rng(1).integers(0, 11, (3, 5))
    logits = linear(layer(table(torch.tensor(tokens.T)))[0]).swapaxes(0, 1)
    model = d2lrnn.backend("torch").build(spec, parameters)
    torch.testing.assert_close(model(torch.tensor(tokens)), logits, rtol=0, atol=1e-6)
    back = from_native(spec, *weights)
    assert list(back) == list(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)
