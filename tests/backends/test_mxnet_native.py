"""Plain Gluon layers, brought in and taken out: the same outputs, with two trained biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import ParameterError

mx = pytest.importorskip("mxnet")

from d2lrnn_mxnet import from_native, to_native  # noqa: E402
from mxnet import gluon, init, np, npx  # noqa: E402
from parity.models import drawn_parameters, name_of  # noqa: E402

LAYERS = {"rnn": gluon.rnn.RNN, "gru": gluon.rnn.GRU, "lstm": gluon.rnn.LSTM}
SPECS = [ModelSpec(11, cell, "concise", 8, num_layers=layers) for cell in LAYERS for layers in (1, 3)]  # type: ignore[arg-type]
X = numpy.random.default_rng(0).normal(size=(7, 4, 11)).astype(numpy.float32)


def _layers(spec: ModelSpec) -> tuple[Any, Any]:
    options = {"activation": "tanh"} if spec.cell == "rnn" else {}
    layer = LAYERS[spec.cell](8, spec.num_layers, input_size=11, **options)
    dense = gluon.nn.Dense(11, in_units=8, flatten=False)
    for block in (layer, dense):
        block.initialize(init.Uniform(0.3))
    for name, parameter in layer.collect_params().items():
        if name.endswith("bias"):  # Gluon starts them at zero, whatever the initialiser
            parameter.set_data(np.random.uniform(-0.3, 0.3, parameter.shape))
    return layer, dense


@mx.util.use_np
@pytest.mark.parametrize("source", ["block", "names", "file"])
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_parameters_become_a_model_anywhere(spec: ModelSpec, source: str, tmp_path: Path) -> None:
    layer, dense = _layers(spec)
    hidden = layer(np.array(X))
    own = []
    for block in (layer, dense):
        parameters = block.collect_params()
        if source == "names":
            parameters = {name.split("_", 1)[1]: value.data() for name, value in parameters.items()}
        if source == "file":
            block.save_parameters(str(tmp_path / "weights"))
            parameters = npx.load(str(tmp_path / "weights"))
        own.append(parameters)
    parameters = from_native(spec, *own)
    for name in ("mxnet", "numpy"):
        backend = d2lrnn.backend(name)
        mine, _ = backend.run_layers(backend.build(spec, parameters), X)
        numpy.testing.assert_allclose(mine, hidden.asnumpy(), rtol=0, atol=1e-6)
        logits = mine @ parameters["head.w"] + parameters["head.b"]
        numpy.testing.assert_allclose(logits, dense(hidden).asnumpy(), atol=2e-6)


@mx.util.use_np
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_model_becomes_parameters(spec: ModelSpec) -> None:
    parameters = drawn_parameters(spec)
    weights = to_native(spec, parameters)
    layer, dense = _layers(spec)
    for block, values in ((layer, weights.rnn), (dense, weights.head)):
        for name, value in values.items():
            getattr(block, name).set_data(value)
    backend = d2lrnn.backend("numpy")
    expected, _ = backend.run_layers(backend.build(spec, parameters), X)
    numpy.testing.assert_allclose(layer(np.array(X)).asnumpy(), expected, rtol=0, atol=1e-6)
    back = from_native(spec, weights.rnn, weights.head)
    for name, value in parameters.items():
        numpy.testing.assert_array_equal(back[name], value)


@mx.util.use_np
def test_what_does_not_fit_is_named() -> None:
    spec = ModelSpec(11, "gru", "concise", 8)
    weights = to_native(spec, drawn_parameters(spec))
    rnn, head = weights.rnn, weights.head
    for broken, message in (
        ({k: v for k, v in rnn.items() if k != "l0_h2h_weight"}, "lack l0_h2h_weight"),
        ({**rnn, "l1_i2h_weight": rnn["l0_i2h_weight"]}, "have l1_i2h_weight, which"),
        ({**rnn, "l0_h2h_bias": rnn["l0_h2h_bias"][:5]}, "the biases of layer 0"),
        ({**rnn, "l0_i2h_weight": rnn["l0_i2h_weight"][:, :5]}, "rnn.0.w_x has shape"),
    ):
        with pytest.raises(ParameterError, match=message):
            from_native(spec, broken, head)
    with pytest.raises(ParameterError, match="the output layer lacks weight"):
        from_native(spec, rnn, {})
    book = ModelSpec(11, "gru", "scratch", 8)
    with pytest.raises(ParameterError, match="none of Gluon's layers"):
        to_native(book, drawn_parameters(book))
