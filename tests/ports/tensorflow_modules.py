"""Keras' recurrent modules as it makes them itself, and what only it can say of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from d2lrnn_tensorflow.saved_weights import unsaid
from hypothesis import strategies as st
from keras import layers as kl
from ports.user_files import Files

import d2lrnn
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.formats.protocol import Hints

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


def number_of_modules(module: Any) -> int:
    """How many the layers of a built stack are in."""
    return len(module.layers) if isinstance(module, keras.Sequential) else 1


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

#: What is no stack though all its modules are known, and what the error says.
NO_STACKS = [
    (kl.GRU(3), "has no weights yet: use it once"),
    (keras.Sequential([kl.Dropout(0.5)]), "give it at least one"),
]


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


def _model(module: Any) -> Any:
    """A whole model of a layer, as its users have one."""
    if type(module) is keras.Sequential:
        return module
    if "Cell" in type(module).__name__:
        model = keras.Sequential([kl.RNN(module, return_sequences=True, dtype=module.dtype)])
        model.build((None, None, module.kernel.shape[0]))
        return model
    return keras.Sequential([module])


def _saved(module: Any, path: Path, *, weights: bool) -> None:
    model = _model(module)
    width = d2lrnn.port(module).spec.layers[0].input_size
    model.build((None, None, width))
    if weights:
        model.save_weights(path)
    else:
        model.save(path)


def _loaded(path: Path, like: Any, X: Any) -> Any:
    return called(keras.models.load_model(path, safe_mode=True), X)


def _with_weights(path: Path, like: Any, X: Any) -> Any:
    if type(like) is keras.Sequential:
        model = keras.Sequential([keras.Input((None, X.shape[-1]), dtype=str(X.dtype)), *like.layers])
    else:
        inputs = keras.Input((None, X.shape[-1]), dtype=str(X.dtype))
        model = keras.Model(inputs, like(inputs))
    model.load_weights(path)
    return called(model, X)


def _weights_say(spec: StackSpec) -> bool:
    """What has Keras' defaults, and one class of layers in a row."""
    firsts = {(each.cell, each.activation) for each in spec.layers}
    # What is written at padded steps is a layer's own, which no weights say.
    last = spec.layers[-1]
    usual = spec.padding == ("zeros" if len(last.directions) == 2 else "repeat")
    return spec.form == "layer" and usual and len(firsts) == 1 and not list(unsaid(spec))


FILES = {
    "keras": Files(
        lambda module, path: _saved(module, path, weights=False), _loaded, lambda spec: spec.form == "layer"
    ),
    "keras-weights": Files(
        lambda module, path: _saved(module, path, weights=True), _with_weights, _weights_say
    ),
}

HINTS = Hints(activation="tanh")


def _with_lambda(path: Path) -> None:
    """A model whose loading would run what its file holds."""
    keras.Sequential([keras.Input((None, 2)), kl.Lambda(lambda x: x), kl.GRU(3)]).save(path)


def _changed_config(path: Path, change: Callable[[str], str]) -> None:
    keras.Sequential([keras.Input((None, 2)), kl.GRU(3)]).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = change(members["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _linked(path: Path) -> None:
    """Weights that are to lie in another file."""
    with h5py.File(path.with_name("secret.h5"), "w") as secret:
        secret["x"] = np.zeros((2, 9), np.float32)
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/gru/cell/vars")
        group["0"] = h5py.ExternalLink(str(path.with_name("secret.h5")), "x")
        group["1"] = np.zeros((3, 9), np.float32)


def _endless(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/gru/cell/vars")
        group.create_dataset("0", (10**7, 9 * 10**5), np.float32, chunks=(1000, 900))
        group.create_dataset("1", (3 * 10**5, 9 * 10**5), np.float32, chunks=(1000, 900))


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.writestr("model.weights.h5", bytes(1 << 26))


REFUSED = [
    ("other.keras", lambda path: keras.Sequential([keras.Input((2,)), kl.Dense(3)]).save(path),
     "no recurrent layer is in it"),
    ("module.keras", lambda path: _changed_config(path, lambda text: text.replace("keras.layers", "os")),
     "no recurrent layer is in it"),
    ("activation.keras", lambda path: _changed_config(path, lambda text: text.replace('"tanh"', '"system"')),
     "the activation system has no description"),
    ("units.keras", lambda path: _changed_config(path, lambda text: text.replace('"units": 3', '"units": 9')),
     "have the shapes"),
    ("lambda.keras", _with_lambda, None),
    ("deep.keras", lambda path: _changed_config(path, lambda text: "[" * 10**5), "is damaged"),
    ("text.keras", lambda path: path.write_text("no archive"), "is damaged, or no .keras file"),
    ("bomb.keras", _bomb, "packed to less than a quarter"),
    ("linked.weights.h5", _linked, "no recurrent layer is in it"),
    ("endless.weights.h5", _endless, "more than the file"),
    ("text.weights.h5", lambda path: path.write_text("no weights"), "is damaged, or has no weights"),
]  # fmt: skip
