"""Gluon's recurrent modules as it makes them itself, and what only it can say of them."""

from __future__ import annotations

import json
from typing import Any

import mxnet as mx
import numpy as np
from hypothesis import strategies as st
from mxnet import autograd
from mxnet.gluon import nn, rnn

from d2lrnn.ports.conventions import Convention

NAME = "mxnet"

LAYERS = (rnn.RNN, rnn.GRU, rnn.LSTM)
CELLS = (rnn.RNNCell, rnn.GRUCell, rnn.LSTMCell)
STACKS = (rnn.SequentialRNNCell, rnn.HybridSequentialRNNCell)


def seed(number: int) -> None:
    mx.random.seed(number)


def _kind(layer: str) -> Any:
    return getattr(rnn, layer.split(".")[1])


@st.composite
def modules(draw: st.DrawFn, layer: str) -> Any:
    """What makes a module: a strategy may not use the framework's generator."""
    sizes, flags = st.integers(1, 6), st.booleans()
    kind, hidden, num_inputs = _kind(layer), draw(sizes), draw(sizes)
    # A layer of relu is refused in float64.
    dtype, number = draw(st.sampled_from(["float32", "float64"])), draw(st.integers(0, 9))
    relu = ["relu"] if dtype == "float32" or kind not in LAYERS else []
    options: dict[str, Any] = {}
    if kind in (rnn.RNNCell, rnn.LSTMCell):
        options["activation"] = draw(st.sampled_from(["tanh", "relu", "sigmoid"]))
    if kind is rnn.LSTMCell:
        # Of gates without bounds the states grow beyond what numbers can hold.
        options["recurrent_activation"] = draw(st.sampled_from(["sigmoid", "tanh"]))
    if kind is rnn.RNN:
        options["activation"] = draw(st.sampled_from(["tanh", *relu]))
    if kind is rnn.LSTM and hidden > 1 and draw(flags):
        options["projection_size"] = draw(st.integers(1, hidden - 1))
    shared = {"bidirectional": draw(flags), "layout": draw(st.sampled_from(["TNC", "NTC"]))}
    num_layers, hybrid = draw(st.integers(1, 3)), draw(flags)
    behind = draw(st.lists(sizes, max_size=2))
    as_it_is = draw(st.sampled_from([list, nn.Sequential, nn.HybridSequential]))
    other, stack, dropped = (
        draw(st.sampled_from([rnn.GRU, rnn.LSTM])),
        draw(st.sampled_from(STACKS)),
        draw(flags),
    )
    # Its inputs are known at once, or from the first call.
    deferred = draw(flags)

    def make_layers() -> Any:
        size = 0 if deferred else num_inputs
        first = kind(hidden, num_layers, input_size=size, **shared, **options)
        width, made = (options.get("projection_size") or hidden) * (1 + shared["bidirectional"]), [first]
        for each in behind:
            made.append(other(each, input_size=0 if deferred else width, **shared))
            width = each * (1 + shared["bidirectional"])
        module = first if not behind else made if as_it_is is list else as_it_is()
        if behind and as_it_is is not list:
            module.add(*made)
        for each in made:
            _prepare(each, dtype, hybrid)
        if deferred:
            called(module, np.ones((1, 1, num_inputs), dtype))
        return module

    def make_cell() -> Any:
        cell = kind(hidden, input_size=0 if deferred else num_inputs, **options)
        _prepare(cell, dtype, hybrid)
        if deferred:
            called(cell, np.ones((1, 1, num_inputs), dtype))
        return cell

    def make_unrolled() -> Any:
        def cell(width: int) -> Any:
            made = kind(hidden, input_size=0 if deferred else width, **options)
            return rnn.ZoneoutCell(made, 0.5, 0.5) if dropped else made

        both = shared["bidirectional"]
        module, width = stack(), num_inputs
        for _ in range(num_layers):
            module.add(rnn.BidirectionalCell(cell(width), cell(width)) if both else cell(width))
            width = hidden * (1 + both)
            if dropped:
                module.add(rnn.DropoutCell(0.5))
        _prepare(module, dtype, hybrid=False)
        if deferred:
            called(module, np.ones((1, 1, num_inputs), dtype))
        return module

    make = make_layers if kind in LAYERS else make_unrolled if "unroll" in layer else make_cell

    def made() -> Any:
        seed(number)
        return make()

    return made


def _prepare(module: Any, dtype: str, hybrid: bool) -> None:
    module.cast(dtype)
    module.initialize()
    if hybrid:
        module.hybridize()


def default(convention: Convention, num_inputs: int, num_hiddens: int) -> Any:
    module = _kind(convention.layer)(num_hiddens, input_size=num_inputs)
    if "unroll" in convention.layer:
        cell, module = module, rnn.SequentialRNNCell()
        module.add(cell)
    module.initialize()
    return module


def bias_vectors(module: Any, width: int) -> float:
    return sum(value.data().size for value in module.collect_params(".*bias").values()) / width


def number_of_modules(module: Any) -> int:
    """How many the layers of a built stack are in."""
    return len(module._children) if isinstance(module, (nn.HybridSequential, *STACKS)) else 1


def called(module: Any, X: Any) -> Any:
    """The outputs of a plain call, sequences with the time first."""
    inputs = mx.nd.array(X, dtype=X.dtype)
    if type(module) in CELLS:
        return module(inputs[0], module.begin_state(batch_size=X.shape[1], dtype=X.dtype))[0].asnumpy()[None]
    if type(module) in STACKS:
        # A ZoneoutCell makes symbols where it is not told otherwise.
        begin = module.begin_state(batch_size=X.shape[1], dtype=X.dtype, func=mx.nd.zeros)
        return (
            module.unroll(len(X), inputs.swapaxes(0, 1), begin, merge_outputs=True)[0]
            .asnumpy()
            .swapaxes(0, 1)
        )
    layers = (
        [module]
        if type(module) in LAYERS
        else module
        if isinstance(module, list)
        else module._children.values()
    )
    first = next(iter(layers))._layout == "NTC"
    inputs = inputs.swapaxes(0, 1) if first else inputs
    if isinstance(module, list):
        for layer in module:
            inputs = layer(inputs)
    else:
        inputs = module(inputs)
    return (inputs.swapaxes(0, 1) if first else inputs).asnumpy()


def halves(layer: str) -> Any:
    """What has another type of numbers than any description."""
    module = _kind(layer)(3, input_size=2)
    module.cast("float16")
    module.initialize()
    return module


class Own(rnn.GRU):
    """A subclass, which may compute anything."""


def _made(module: Any, *, dtype: str = "float32") -> Any:
    module.cast(dtype)
    module.initialize()
    return module


def _stack(*cells: Any) -> Any:
    module = rnn.SequentialRNNCell()
    for cell in cells:
        module.add(cell)
    return _made(module)


STRANGERS = [
    _made(nn.Dense(3, in_units=2)),
    _made(Own(3, input_size=2)),
    [_made(rnn.GRU(3, input_size=2)), _made(nn.Dense(3, in_units=3))],
    _stack(rnn.GRUCell(2, input_size=2), rnn.ResidualCell(rnn.GRUCell(2, input_size=2))),
]

#: What is no stack though all its modules are known, and what the error says.
NO_STACKS = [
    (_made(rnn.GRU(3)), "shape of .*l0_i2h_weight is not known yet: call the module once, or .* input_size"),
    (rnn.GRU(3, input_size=2), r"l0_i2h_weight has no values yet: call module.initialize\(\)"),
    (_made(rnn.RNN(3, input_size=2), dtype="float64"), r"relu in float32.* RNNCell\(activation='relu'\)"),
    (_made(rnn.RNNCell(3, "softsign", input_size=2)), "the activation softsign has no description"),
    (_made(rnn.LSTM(3, input_size=2, state_clip_min=-1, state_clip_max=1)), "clips its state"),
    ([_made(rnn.GRU(3, input_size=2)), _made(rnn.GRU(3, layout="NTC", input_size=3))], "in their layout"),
    ([_made(rnn.GRUCell(3, input_size=2)), _made(rnn.GRUCell(3, input_size=3))], "into a SequentialRNNCell"),
    (nn.Sequential(), "give it at least one"),
    (_stack(rnn.DropoutCell(0.5)), "a SequentialRNNCell without a cell"),
    (
        _made(rnn.BidirectionalCell(rnn.GRUCell(3, input_size=2), rnn.LSTMCell(3, input_size=2))),
        "two directions of a BidirectionalCell differ",
    ),
    (
        _made(rnn.BidirectionalCell(rnn.GRUCell(3, input_size=2), rnn.GRUCell(4, input_size=2))),
        "two directions of a BidirectionalCell differ",
    ),
]  # fmt: skip


def ask_dropout(convention: Convention) -> None:
    """On what goes from layer to layer, in float64; nothing at all in float32, whose operator is oneDNN's."""
    if convention.form == "cell":
        assert convention.dropout == "none"
        assert not hasattr(default(convention, 2, 3), "_dropout")
        return
    if "unroll" in convention.layer:
        module = _stack(_kind(convention.layer)(16, input_size=4), rnn.DropoutCell(0.5))
        assert _dropped(module, "float32")
        assert _dropped(module, "float64")
        assert convention.dropout == "where a DropoutCell or a ZoneoutCell is put"
        return
    kind = _kind(convention.layer)
    options = {"activation": "tanh"} if convention.cell == "rnn" else {}
    for num_layers, dtype, changes in ((1, "float64", False), (2, "float64", True), (2, "float32", False)):
        module = _made(kind(16, num_layers, dropout=0.5, input_size=4, **options))
        assert _dropped(module, dtype) == changes
    assert convention.dropout == "on the outputs of every layer but the last; none on a CPU in float32"


def _dropped(module: Any, dtype: str) -> bool:
    """Whether outputs are others in training, by more than the rounding of another kernel."""
    module.cast(dtype)
    X = np.ones((3, 2, 4), dtype)
    before = called(module, X)
    with autograd.train_mode():
        return bool(np.abs(called(module, X) - before).max() > 1e-6)


def ask_kernel(convention: Convention) -> None:
    """A layer is one operator, which has a kernel; a cell is many, none of which is recurrent."""
    inputs, module = mx.sym.var("data"), default(convention, 2, 3)
    if convention.form == "layer" and "unroll" not in convention.layer:
        traced = module(inputs)
    elif convention.form == "layer":
        traced = module.unroll(3, inputs, merge_outputs=True)[0]
    else:
        traced = module(inputs, module.begin_state(func=mx.sym.zeros, batch_size=1))[0]
    operators = [node["op"] for node in json.loads(traced.tojson())["nodes"]]
    assert operators.count("RNN") == (0 if convention.kernel == ("there is none",) else 1)
