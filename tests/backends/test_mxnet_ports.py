"""What is Gluon's own in ports: two kinds of arrays, compiled layers, cells that are composed."""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn, rnn

import d2lrnn
from d2lrnn.errors import PortError
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn.ports.ported import Ported, Side
from d2lrnn.ports.proof import judge

LSTM = LayerSpec("lstm", 2, 3)


def _made(module: Any) -> Any:
    module.initialize(mx.init.Uniform(0.5))
    return module


def _ported(*layers: LayerSpec, **options: Any) -> Ported:
    """A stack with drawn parameters, as any framework may have given it."""
    spec, draw = StackSpec(layers, **options), np.random.RandomState(0)
    parameters = {
        name: draw.uniform(-0.5, 0.5, shape).astype(spec.dtype)
        for name, shape in spec.parameter_shapes().items()
    }
    found = judge(spec, parameters).side
    cast = {
        case: {name: array.astype(spec.dtype) for name, array in arrays.items()}
        for case, arrays in found.results.items()
    }
    return Ported(spec, parameters, "numpy", Side(cast, None))


def test_arrays_are_of_the_kind_that_the_caller_has() -> None:
    for numpy in (False, True):
        with mx.util.np_shape(numpy), mx.util.np_array(numpy):
            layer = _made(rnn.GRU(3, 2, input_size=2))
            ported = d2lrnn.port(layer, to="mxnet")
            kind = mx.np if numpy else mx.nd
            assert type(ported.module.l1_i2h_weight.data()) is type(kind.ones(1))
            outputs = ported.module(kind.ones((4, 1, 2)))
            np.testing.assert_array_equal(outputs.asnumpy(), layer(kind.ones((4, 1, 2))).asnumpy())
        # Nor does it matter what the caller has when it is ported.
        with mx.util.np_shape(True), mx.util.np_array(not numpy):
            assert d2lrnn.port(layer).reports[0].passed


def test_cells_compute_with_one_kind_of_arrays_alone() -> None:
    with mx.util.np_shape(True), mx.util.np_array(True):
        with pytest.raises(PortError, match=r"npx.set_np.* make it anew without, by npx.reset_np\(\)"):
            d2lrnn.port(_made(rnn.GRUCell(3, input_size=2)))
        built = _ported(LayerSpec("lstm", 2, 3), form="cell").build("mxnet").module
    states = [mx.nd.zeros((1, 3))] * 2
    assert built(mx.nd.ones((1, 2)), states)[0].shape == (1, 3)


def test_neither_the_module_nor_the_generator_is_changed() -> None:
    layer = _made(rnn.LSTM(3, 2, input_size=2, use_sequence_length=True))
    layer.hybridize()
    compiled = layer(mx.nd.ones((4, 1, 2)), layer.begin_state(batch_size=1), mx.nd.array([4]))[0].asnumpy()
    cached = layer._cached_op
    before = [value.data().asnumpy() for value in layer.collect_params().values()]
    mx.random.seed(3)
    expected = mx.nd.random.uniform(shape=(4,)).asnumpy()
    mx.random.seed(3)
    d2lrnn.port(layer, to="mxnet")
    np.testing.assert_array_equal(mx.nd.random.uniform(shape=(4,)).asnumpy(), expected)
    assert layer._cached_op is cached
    assert layer._active
    assert layer._use_sequence_length
    for value, array in zip(layer.collect_params().values(), before, strict=True):
        np.testing.assert_array_equal(value.data().asnumpy(), array)
    again = layer(mx.nd.ones((4, 1, 2)), layer.begin_state(batch_size=1), mx.nd.array([4]))[0]
    np.testing.assert_array_equal(again.asnumpy(), compiled)


def test_a_layer_that_was_compiled_without_states_is_described_nevertheless() -> None:
    layer = rnn.GRU(3)
    _made(layer).hybridize()
    layer(mx.nd.ones((4, 1, 2)))
    assert d2lrnn.port(layer).spec.layers[0].input_size == 2


def test_what_is_not_carried_is_noted() -> None:
    dropped = nn.HybridSequential()
    dropped.add(rnn.GRU(3, 2, dropout=0.25, input_size=2), nn.Dropout(0.5), rnn.GRU(3, input_size=3))
    assert d2lrnn.port(_made(dropped)).notes == (
        "dropout=0.25 between the layers is not carried",
        "Dropout(0.5) is not carried",
    )
    cells = rnn.SequentialRNNCell()
    cells.add(rnn.ZoneoutCell(rnn.GRUCell(3, input_size=2), 0.1, 0.2))
    cells.add(rnn.DropoutCell(0.5))
    assert d2lrnn.port(_made(cells)).notes == (
        "ZoneoutCell(zoneout_outputs=0.1, zoneout_states=0.2) is not carried",
        "DropoutCell(0.5) is not carried",
    )
    layer = _made(rnn.LSTM(3, 2, input_size=2))
    assert d2lrnn.port(layer).notes == ()
    layer.l1_h2h_bias.grad_req = "null"
    assert d2lrnn.port(layer).notes == ("grad_req='null' of l1_h2h_bias is not carried",)


def test_a_cpu_ignores_lengths_in_float32_and_refuses_them_in_float64_as_is_noted() -> None:
    layer = _made(rnn.GRU(3, input_size=2, use_sequence_length=True))
    X, state = mx.nd.ones((4, 1, 2)), layer.begin_state(batch_size=1)
    short, long = (layer(X, state, mx.nd.array([length]))[0].asnumpy() for length in (1, 4))
    np.testing.assert_array_equal(short, long)
    assert "ignores the lengths in float32, and refuses them in float64" in d2lrnn.port(layer).notes[0]
    layer.cast("float64")
    double = [each.astype("float64") for each in (X, *state, mx.nd.array([4]))]
    with pytest.raises(mx.MXNetError, match="use_sequence_length option is only available for cuDNN"):
        layer(double[0], double[1:2], double[2])[0].asnumpy()


def test_the_operator_s_relu_rounds_to_float32_so_that_cells_take_its_place() -> None:
    ported = _ported(LayerSpec("rnn", 2, 3, activation="relu"), dtype="float64").build("mxnet")
    assert type(ported.module) is rnn.HybridSequentialRNNCell
    assert type(ported.module[0]) is rnn.RNNCell
    single = _ported(LayerSpec("rnn", 2, 3, activation="relu")).build("mxnet")
    assert type(single.module) is rnn.RNN
    # The twin of one in float32 is unfused: it is right to 1e-12.
    assert d2lrnn.port(single.module).found.twin is not None


def test_layers_that_differ_are_one_module_nevertheless() -> None:
    built = _ported(LSTM, LayerSpec("gru", 3, 4, reset_after=True)).build("mxnet").module
    assert [type(layer) for layer in built] == [rnn.LSTM, rnn.GRU]
    assert built(mx.nd.ones((5, 1, 2))).shape == (5, 1, 4)
    built = _ported(LSTM, LayerSpec("lstm", 3, 4, activation="relu")).build("mxnet").module
    assert [type(built[0]), type(built[1]), len(built)] == [rnn.LSTMCell, rnn.LSTMCell, 2]
    with pytest.raises(PortError, match=r"LSTM with a projection is a layer.* port them one by one"):
        _ported(LayerSpec("lstm", 2, 4, projection_size=3), LayerSpec("lstm", 3, 4, activation="relu")).build(
            "mxnet"
        )


def test_an_lstm_s_second_state_has_its_own_size_where_the_output_is_projected() -> None:
    layer = _made(rnn.LSTM(5, 2, projection_size=3, input_size=2, bidirectional=True, layout="NTC"))
    states = d2lrnn.port(layer, to="mxnet").found.results["drawn state"]
    assert (states["rnn.1.backward.h"].shape, states["rnn.1.backward.c"].shape) == ((3, 3), (3, 5))
