"""Keras' recurrent modules as it makes them itself, and what only it can say of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import layers as kl

from d2lrnn.ports.conventions import Convention

NAME = "tensorflow"

#: By its name: a function of the package beside it is called the same.
keras_rnn = import_module("keras.src.backend.tensorflow.rnn")


def seed(number: int) -> None:
    keras.utils.set_random_seed(number)


def _kind(layer: str) -> tuple[Any, dict[str, Any]]:
    name = layer.removeprefix("layers.").partition("(")[0]
    return getattr(kl, name), {"reset_after": False} if "reset_after" in layer else {}


@st.composite
def modules(draw: st.DrawFn, layer: str) -> Any:
    """What makes a module: a strategy may not use the framework's generator."""
    sizes, flags = st.integers(1, 6), st.booleans()
    activations = st.sampled_from(["tanh", "relu", "sigmoid", "linear"])
    kind, options = _kind(layer)
    options |= {"activation": draw(activations), "use_bias": draw(flags)}
    if "SimpleRNN" not in layer:
        # Of gates without bounds the states grow beyond what numbers can hold.
        options["recurrent_activation"] = draw(st.sampled_from(["sigmoid", "tanh"]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    number, num_inputs, hidden = (
        draw(st.integers(0, 9)),
        draw(sizes),
        draw(st.lists(sizes, min_size=1, max_size=3)),
    )
    ways = [draw(st.sampled_from(["forward", "backward", "concat", "sum", "mul", "ave"])) for _ in hidden]
    wrapped, zeros = draw(flags), draw(flags)

    def make_cells() -> Any:
        seed(number)
        cells = [kind(size, dtype=dtype, **options) for size in hidden]
        if not wrapped:
            cells[0].build((None, num_inputs))
            return cells[0]
        inner = kl.StackedRNNCells(cells, dtype=dtype) if len(cells) > 1 else cells[0]
        module = kl.RNN(inner, return_sequences=True, dtype=dtype)
        module.build((None, None, num_inputs))
        return module

    def make_layers() -> Any:
        seed(number)
        made = []
        for size, way in zip(hidden, ways, strict=True):
            own = {"return_sequences": True, "zero_output_for_mask": zeros, "go_backwards": way == "backward"}
            each = kind(size, dtype=dtype, **own, **options)
            two = way not in ("forward", "backward")
            made.append(kl.Bidirectional(each, merge_mode=way, dtype=dtype) if two else each)
        module = keras.Sequential(made) if len(made) > 1 else made[0]
        module.build((None, None, num_inputs))
        return module

    return make_cells if "Cell" in layer else make_layers


def default(convention: Convention, num_inputs: int, num_hiddens: int) -> Any:
    kind, options = _kind(convention.layer)
    module = kind(num_hiddens, **options)
    module.build((None, num_inputs) if convention.form == "cell" else (None, None, num_inputs))
    return module


def bias_vectors(module: Any, width: int) -> float:
    return sum(int(np.prod(value.shape)) for value in module.weights if value.name == "bias") / width


def called(module: Any, X: Any) -> Any:
    """The outputs of a plain call, sequences with the time first."""
    if "Cell" in type(module).__name__:
        zeros = [np.zeros((X.shape[1], module.units), X.dtype)]
        return np.asarray(module(X[0], zeros * (2 if "LSTM" in type(module).__name__ else 1))[0])[None]
    outputs = module(np.swapaxes(X, 0, 1))
    return np.swapaxes(np.asarray(outputs[0] if isinstance(outputs, (list, tuple)) else outputs), 0, 1)


def halves(layer: str) -> Any:
    """What has another type of numbers than any description."""
    kind, options = _kind(layer)
    module = kind(3, dtype="float16", **options)
    module.build((None, None, 2))
    return module


class Own(kl.GRU):
    """A subclass, which may compute anything."""


def _strangers() -> list[Any]:
    own, dense = Own(3), kl.Dense(3)
    own.build((None, None, 2))
    mixed = keras.Sequential([kl.GRU(3, return_sequences=True), dense])
    mixed.build((None, None, 2))
    return [dense, own, mixed]


STRANGERS = _strangers()


def ask_dropout(convention: Convention) -> None:
    """On inputs and states, each by a mask that a cell keeps for all steps."""
    kind, options = _kind(convention.layer)
    module = kind(16, dropout=0.5, recurrent_dropout=0.5, **options)
    module.build((None, 4) if convention.form == "cell" else (None, None, 4))
    cell = module if convention.form == "cell" else module.cell
    X = keras.ops.ones((2, 4))
    states = [keras.ops.ones((2, 16))] * (2 if convention.cell == "lstm" else 1)
    before = np.asarray(cell(X, states)[0])
    first = np.asarray(cell(X, states, training=True)[0])
    again = np.asarray(cell(X, states, training=True)[0])
    assert np.abs(first - before).max() > 0
    np.testing.assert_array_equal(again, first)
    for mask, size in ((cell.get_dropout_mask(X), 4), (cell.get_recurrent_dropout_mask(states[0]), 16)):
        assert all(part.shape == (2, size) for part in (mask if isinstance(mask, list) else [mask]))
    assert (
        convention.dropout == "on the inputs and, as recurrent_dropout, on the state; one mask for all steps"
    )


def ask_kernel(convention: Convention) -> None:
    """What its own check says where there is a GPU."""
    kind, options = _kind(convention.layer)
    module = kind(3, **options)
    none = convention.kernel == ("there is none",)
    if convention.form == "cell" or convention.cell == "rnn":
        outer = kl.RNN(module) if convention.form == "cell" else module
        assert none
        assert type(outer).inner_loop is kl.RNN.inner_loop
        return
    reset = {"reset_after": module.reset_after} if convention.cell == "gru" else {}
    tanh, sigmoid, relu = keras.activations.tanh, keras.activations.sigmoid, keras.activations.relu
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keras_rnn, "_is_gpu_available", lambda: True)
        assert keras_rnn.cudnn_ok(tanh, sigmoid, False, True, **reset) == (not none)
        for wrong in ((relu, sigmoid, False, True), (tanh, relu, False, True), (tanh, sigmoid, True, True),
                      (tanh, sigmoid, False, False)):  # fmt: skip
            assert not keras_rnn.cudnn_ok(*wrong, **reset)
    if not none:
        asked = (
            "activation tanh",
            "gate_activation sigmoid",
            "a bias",
            "no recurrent_dropout",
            "not unrolled",
        )
        assert convention.kernel == asked
