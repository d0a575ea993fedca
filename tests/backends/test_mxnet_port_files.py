"""Gluon's ``.params`` files: Gluon wrote what is read, loads what is written; hostile ones are refused."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from d2lrnn_mxnet.params_file import read_array, read_entries
from d2lrnn_mxnet.port_files import GluonFiles
from d2lrnn_mxnet.porter import GluonPorter
from mxnet.gluon import nn, rnn

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.fitting import fit
from d2lrnn.ports.formats.protocol import Hints, hints_of
from d2lrnn.ports.porter import Described

FILES, PORTER = GluonFiles(), GluonPorter()


def _made(module: Any, dtype: str = "float32") -> Any:
    module.cast(dtype)
    module.initialize(mx.init.Uniform(0.5))
    return module


def _stack(*cells: Any) -> Any:
    module = rnn.SequentialRNNCell()
    for cell in cells:
        module.add(cell)
    return module


def _listed(*layers: Any) -> Any:
    module = nn.HybridSequential()
    module.add(*layers)
    return module


#: By what they are, what makes modules whose files say all but what `hints_of` says.
MODULES: dict[str, Callable[[], Any]] = {
    "layers": lambda: _made(rnn.GRU(3, 2, input_size=2)),
    "both directions": lambda: _made(rnn.LSTM(3, 2, bidirectional=True, input_size=2), "float64"),
    "projection": lambda: _made(rnn.LSTM(5, 2, projection_size=3, bidirectional=True, input_size=2)),
    "relu": lambda: _made(rnn.RNN(3, input_size=2)),
    "batch first": lambda: _made(rnn.RNN(3, activation="tanh", layout="NTC", input_size=2)),
    "a cell": lambda: _made(rnn.LSTMCell(3, input_size=2)),
    "cells": lambda: _made(_stack(rnn.GRUCell(3, input_size=2), rnn.GRUCell(3, input_size=3))),
    "cells of both directions": lambda: _made(
        rnn.BidirectionalCell(rnn.LSTMCell(3, input_size=2), rnn.LSTMCell(3, input_size=2))
    ),
    "cells and dropout": lambda: _made(
        _stack(
            rnn.GRUCell(3, input_size=2), rnn.DropoutCell(0.5), rnn.ZoneoutCell(rnn.GRUCell(3, input_size=3))
        )
    ),
    "cells that differ": lambda: _made(_stack(rnn.GRUCell(3, input_size=2), rnn.LSTMCell(4, input_size=3))),
    "layers that differ": lambda: _made(_listed(rnn.GRU(3, input_size=2), rnn.LSTM(4, 2, input_size=3))),
    "sigmoid": lambda: _made(_stack(rnn.RNNCell(3, "sigmoid", input_size=2)), "float64"),
    "relu in float64": lambda: _made(_stack(rnn.RNNCell(3, "relu", input_size=2)), "float64"),
}  # fmt: skip

each_module = pytest.mark.parametrize("made", MODULES.values(), ids=MODULES)


def _same(found: Described, expected: Described) -> None:
    assert found.spec == expected.spec
    assert found.parameters.keys() == expected.parameters.keys()
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


@each_module
def test_what_save_parameters_wrote_is_read(made: Callable[[], Any], tmp_path: Path) -> None:
    module, path = made(), tmp_path / "saved.params"
    module.save_parameters(str(path))
    expected = PORTER.describe(module)
    _same(FILES.read(path, "gluon", hints_of(expected.spec)), expected)


@each_module
def test_what_is_written_is_loaded_by_gluon(made: Callable[[], Any], tmp_path: Path) -> None:
    expected, path = PORTER.describe(made()), tmp_path / "written.params"
    spec, zeros = expected.spec, {name: 0 * array for name, array in expected.parameters.items()}
    table = conventions("mxnet")
    FILES.write(
        path, "gluon", PORTER.build(spec, expected.parameters, fit(spec, zeros, table, "").conventions)
    )
    _same(FILES.read(path, "gluon", hints_of(spec)), expected)
    blank = PORTER.build(spec, zeros, fit(spec, zeros, table, "").conventions)
    _same(PORTER.describe(FILES.load(path, "gluon", hints_of(spec), blank)), expected)
    again = PORTER.build(spec, zeros, fit(spec, zeros, table, "").conventions)
    again.load_parameters(str(path))
    _same(PORTER.describe(again), expected)


@each_module
def test_what_cells_saved_is_loaded_into_what_is_built_of_them(
    made: Callable[[], Any], tmp_path: Path
) -> None:
    """Cells are built as layers where these compute the same: names are others then."""
    module, path = made(), tmp_path / "saved.params"
    outer = nn.Block()
    outer.embedding, outer.inner = _made(nn.Embedding(7, 2)), module
    outer.save_parameters(str(path))
    expected = PORTER.describe(module)
    hints = replace(hints_of(expected.spec), prefix="inner")
    zeros = {name: 0 * array for name, array in expected.parameters.items()}
    found = FILES.read(path, "gluon", hints)
    _same(found, expected)
    assert any("1 arrays beside" in note and "embedding.weight" in note for note in found.notes)
    fitted = fit(expected.spec, zeros, conventions("mxnet"), "")
    blank = PORTER.build(fitted.spec, fitted.parameters, fitted.conventions)
    _same(PORTER.describe(FILES.load(path, "gluon", hints, blank)), expected)


class Model(nn.HybridBlock):
    """Layers with names of their own around them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 2)
        self.encoder = rnn.LSTM(3, 2, bidirectional=True, input_size=2)
        self.decoder = rnn.GRU(3, input_size=6)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.decoder(self.encoder(self.embedding(x)))


@pytest.mark.parametrize("way", ["save_parameters", "collect_params", "export"])
def test_the_old_names_are_read_and_the_prefix_chooses(way: str, tmp_path: Path) -> None:
    model, path = _made(Model()), tmp_path / "model.params"
    if way == "save_parameters":
        model.save_parameters(str(path))
        prefix = "encoder"
    elif way == "collect_params":
        model.collect_params().save(str(path))
        prefix = model.encoder.prefix
    else:
        model.hybridize()
        model(mx.nd.zeros((4, 1)))
        model.export(str(tmp_path / "model"))
        path, prefix = tmp_path / "model-0000.params", model.encoder.prefix.rstrip("_")
    with pytest.raises(PortError, match=r"2 recurrent layers: choose one by --prefix"):
        FILES.read(path, "gluon", Hints())
    expected = PORTER.describe(model.encoder)
    hints = Hints(prefix=prefix)
    found = FILES.read(path, "gluon", hints)
    _same(found, expected)
    assert any("5 arrays beside" in note for note in found.notes)
    blank = _made(rnn.LSTM(3, 2, bidirectional=True, input_size=2))
    _same(PORTER.describe(FILES.load(path, "gluon", hints, blank)), expected)


def test_arrays_of_either_kind_are_loaded_into_modules_of_either(tmp_path: Path) -> None:
    for saved in (False, True):
        path = tmp_path / f"{saved}.params"
        with mx.util.np_shape(saved), mx.util.np_array(saved):
            module = _made(rnn.GRU(3, input_size=2))
            module.save_parameters(str(path))
            outer = _listed(module)
            outer.save_parameters(str(tmp_path / f"{saved}-outer.params"))
        expected = PORTER.describe(module)
        _same(FILES.read(path, "gluon", Hints()), expected)
        for loading in (False, True):
            for name in (path, tmp_path / f"{saved}-outer.params"):
                with mx.util.np_shape(loading), mx.util.np_array(loading):
                    blank = _made(rnn.GRU(3, input_size=2))
                    _same(PORTER.describe(FILES.load(name, "gluon", Hints(), blank)), expected)
                    assert isinstance(blank.l0_i2h_weight.data(), mx.np.ndarray) == loading


def test_a_wrapped_cell_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "saved.params"
    MODULES["cells and dropout"]().save_parameters(str(path))
    assert any("ResidualCell has the same names" in note for note in FILES.read(path, "gluon", Hints()).notes)


def test_what_a_file_does_not_say_is_asked_for_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.params"
    MODULES["relu"]().save_parameters(str(path))
    with pytest.raises(PortError, match=r"--activation relu or --activation tanh"):
        FILES.read(path, "gluon", Hints())
    for module, message in (
        (
            _stack(rnn.LSTMCell(3, activation="relu", input_size=2)),
            "the activation relu, and sigmoid of its gates",
        ),
        (rnn.LSTMCell(3, recurrent_activation="tanh", input_size=2), "and tanh of its gates"),
        (_stack(rnn.RNNCell(3, "relu", input_size=2), rnn.RNNCell(3, input_size=3)), "activation tanh"),
        (rnn.GRU(3, 11, input_size=2), "10 layers in one at most, and here are 11"),
    ):
        with pytest.raises(PortError, match=message):
            FILES.write(tmp_path / "none.params", "gluon", _made(module))
        assert not (tmp_path / "none.params").exists()


def test_eleven_layers_have_no_names_in_gluon_itself(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        _made(rnn.GRU(3, 11, input_size=2)).save_parameters(str(tmp_path / "file"))


def test_convert_takes_such_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gru.params"
    module = MODULES["layers"]()
    module.save_parameters(str(path))
    assert main(["convert", str(path), "--to", "ported"]) == 0, capsys.readouterr().err
    ported = d2lrnn.load_port(tmp_path / "gru.ported.safetensors")
    _same(Described(ported.spec, ported.parameters), PORTER.describe(module))
    back = [
        "convert",
        str(tmp_path / "gru.ported.safetensors"),
        "--to",
        "gluon",
        "--out",
        str(tmp_path / "b.params"),
    ]
    assert main(back) == 0, capsys.readouterr().err
    again = MODULES["layers"]()
    again.load_parameters(str(tmp_path / "b.params"))
    _same(PORTER.describe(again), PORTER.describe(module))
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["convert", str(path), "--to", "ported", "--overwrite"]) == 2
    assert "gru.params: it is damaged" in capsys.readouterr().err


def _content(tmp_path: Path) -> bytes:
    path = tmp_path / "good.params"
    MODULES["layers"]().save_parameters(str(path))
    return path.read_bytes()


def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    content, path = _content(tmp_path), tmp_path / "cut.params"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(PortError, match=r"damaged|no file of mx\.nd\.save"):
            read_entries(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(PortError, match="1 bytes follow its end"):
        read_entries(path)


#: Where in a file numbers stand: the first array begins at 24, and has two axes.
COUNT, VERSION, KIND, AXES, LENGTH, TYPE = 16, 24, 28, 32, 36, 60


@pytest.mark.parametrize(("place", "kind", "value", "message"), [
    (0, "Q", 0x113, "no file of mx.nd.save"),
    (8, "Q", 1, "no file of mx.nd.save"),
    (COUNT, "Q", 2**63, "it is to have 9,223,372,036,854,775,808 arrays"),
    (COUNT, "Q", 1, "damaged|have no names"),
    (VERSION, "I", 0xFFFFFFFF, "no version of MXNet|damaged"),
    (KIND, "i", 1, "sparse arrays"),
    (AXES, "i", 33, "no version of MXNet writes"),
    (AXES, "i", -2, "no version of MXNet writes"),
    (LENGTH, "q", 2**62, "bytes, and 1,020 are left"),
    (LENGTH, "q", -1, "to have the shape"),
    (TYPE, "i", 99, "99 is no type of numbers"),
])  # fmt: skip
def test_what_claims_more_than_it_has_is_refused_without_memory(
    place: int, kind: str, value: int, message: str, tmp_path: Path
) -> None:
    content, path = bytearray(_content(tmp_path)), tmp_path / "bad.params"
    struct.pack_into(f"<{kind}", content, place, value)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(PortError, match=message):
            FILES.read(path, "gluon", Hints())
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_more_arrays_than_any_model_has_are_refused(tmp_path: Path) -> None:
    path, nothing = tmp_path / "many.params", struct.pack("<Iii", 0xF993FAC9, 0, 0)
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 100_001) + 100_001 * nothing + struct.pack("<Q", 0))
    with pytest.raises(PortError, match="it is to have 100,001 arrays"):
        read_entries(path)


def test_any_bit_that_flips_is_refused_or_changes_a_number_or_a_name(tmp_path: Path) -> None:
    content, path, chance = _content(tmp_path), tmp_path / "bad.params", np.random.RandomState(0)
    for place in chance.randint(0, 8 * len(content), 400):
        spoilt = bytearray(content)
        spoilt[place // 8] ^= 1 << place % 8
        path.write_bytes(spoilt)
        try:
            for each in read_entries(path).values():
                if each.dtype in ("float32", "float64"):
                    assert read_array(path, each).nbytes <= len(content)
        except PortError:
            continue


def test_names_are_as_many_as_arrays_and_differ(tmp_path: Path) -> None:
    path = tmp_path / "list.params"
    mx.nd.save(str(path), [mx.nd.ones((2,))])
    with pytest.raises(PortError, match="its arrays have no names"):
        read_entries(path)
    mx.nd.save(str(path), {"a": mx.nd.ones((2,)), "b": mx.nd.ones((2,))})
    path.write_bytes(path.read_bytes()[:-1] + b"a")
    with pytest.raises(PortError, match="two of its arrays have one name"):
        read_entries(path)
    mx.nd.save(str(path), {"i2h_weight": mx.nd.ones((2,)), "arg:l0_i2h_weight": mx.nd.ones((2,)),
                           "_unfused.0.i2h_weight": mx.nd.ones((2,))})  # fmt: skip
    with pytest.raises(PortError, match="names of one array"):
        FILES.read(path, "gluon", Hints())
    with pytest.raises(PortError, match="it is no file"):
        read_entries(tmp_path)


def test_all_types_of_numbers_and_old_versions_are_read_as_mxnet_does(tmp_path: Path) -> None:
    path = tmp_path / "types.params"
    types = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"]
    mx.nd.save(str(path), {kind: mx.nd.ones((2, 3), dtype=kind) for kind in types})
    entries = read_entries(path)
    assert {name: (each.dtype, each.shape) for name, each in entries.items()} == {
        k: (k, (2, 3)) for k in types
    }
    numbers = np.arange(6, dtype="<f4").reshape(2, 3)
    head, device = struct.pack("<QQQ", 0x112, 0, 1), struct.pack("<iii", 1, 0, 0)
    name = struct.pack("<QQ", 1, 1) + b"w"
    for shape in (struct.pack("<Iiqq", 0xF993FAC8, 2, 2, 3), struct.pack("<III", 2, 2, 3)):
        path.write_bytes(head + shape + device + numbers.tobytes() + name)
        np.testing.assert_array_equal(mx.nd.load(str(path))["w"].asnumpy(), numbers)
        np.testing.assert_array_equal(read_array(path, read_entries(path)["w"]), numbers)
