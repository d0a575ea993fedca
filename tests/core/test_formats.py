"""Formats of files without a framework: names and shapes, what is refused, the command and what it leaves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports import reference
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn.ports.formats import conversion, plain
from d2lrnn.ports.formats.conversion import read, write
from d2lrnn.ports.formats.protocol import Hints, hints_of
from d2lrnn.ports.formats.table import PORTED, find_format, format_of, formats, without_suffix
from d2lrnn.ports.ported import load_port
from d2lrnn.ports.proof import cases

PLAIN = find_format("safetensors")
BOTH = ("forward", "backward")


def _arrays(*shapes: tuple[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, FloatArray]:
    draw = np.random.RandomState(0)
    return {name: draw.uniform(-0.5, 0.5, shape).astype(dtype) for name, shape in shapes}


def _layer(
    G: int, n: int, h: int, end: str = "_l0", start: str = "", **options: Any
) -> dict[str, FloatArray]:
    """What a state dict of one layer has: (gates, inputs), (gates, units) and two biases."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    shapes = ((G * h, n), (G * h, h), (G * h,), (G * h,))
    return _arrays(
        *((f"{start}{name}{end}", shape) for name, shape in zip(names, shapes, strict=True)), **options
    )


GRU, LSTM, RNN = (_layer(G, 3, 4) for G in (3, 4, 1))


def _saved(folder: Path, arrays: dict[str, Any], name: str = "file.safetensors") -> Path:
    save_file(arrays, folder / name)
    return folder / name


def _sigmoid(A: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-A))


def test_a_state_dict_is_what_its_framework_says_it_is(tmp_path: Path) -> None:
    """The formulas of its documentation: gates i, f, g, o of an LSTM and r, z, n of a GRU, column vectors."""
    w_ih, w_hh, b_ih, b_hh = (each.astype(np.float64) for each in LSTM.values())
    ported = read(_saved(tmp_path, LSTM), PLAIN, Hints())
    x, h, c = np.random.RandomState(1).standard_normal(3), np.full(4, 0.1), np.full(4, 0.2)
    outputs, state = reference.run(
        ported.spec,
        {name: array.astype(np.float64) for name, array in ported.parameters.items()},
        x[None, None],
        {"rnn.0.h": h[None], "rnn.0.c": c[None]},
    )
    i, f, g, o = np.split(w_ih @ x + b_ih + w_hh @ h + b_hh, 4)
    after = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(state["rnn.0.c"][0], after, atol=1e-12)
    np.testing.assert_allclose(outputs[0, 0], _sigmoid(o) * np.tanh(after), atol=1e-12)
    w_ih, w_hh, b_ih, b_hh = (each.astype(np.float64) for each in GRU.values())
    ported = read(_saved(tmp_path, GRU), PLAIN, Hints())
    parameters = {name: array.astype(np.float64) for name, array in ported.parameters.items()}
    outputs, _ = reference.run(ported.spec, parameters, x[None, None], {"rnn.0.h": h[None]})
    (r, z, n), (h_r, h_z, h_n) = np.split(w_ih @ x + b_ih, 3), np.split(w_hh @ h + b_hh, 3)
    z, n = _sigmoid(z + h_z), np.tanh(n + _sigmoid(r + h_r) * h_n)
    np.testing.assert_allclose(outputs[0, 0], (1 - z) * n + z * h, atol=1e-12)


@pytest.mark.parametrize("spec", [
    StackSpec((LayerSpec("gru", 3, 4, biases="two", reset_after=True),)),
    StackSpec((LayerSpec("rnn", 3, 4, biases="none", activation="relu"),), form="cell"),
    StackSpec((LayerSpec("lstm", 3, 4, biases="two", projection_size=2, directions=BOTH),
               LayerSpec("lstm", 4, 4, biases="two", projection_size=2, directions=BOTH)), dtype="float64"),
    StackSpec((LayerSpec("lstm", 3, 4, biases="two"),
               LayerSpec("gru", 4, 5, biases="two", reset_after=True))),
], ids=["layer", "cell", "stack", "modules"])  # fmt: skip
def test_what_is_written_is_read_again(spec: StackSpec, tmp_path: Path) -> None:
    draw = np.random.RandomState(0)
    parameters = {
        name: draw.uniform(-0.5, 0.5, shape).astype(spec.dtype)
        for name, shape in spec.parameter_shapes().items()
    }
    ported = conversion.taken(
        conversion.Described(spec, parameters),
        "numpy",
        lambda each: conversion.by_reference(each, parameters),
    )
    first, second, back = (
        tmp_path / name for name in ("a.safetensors", "b.ported.safetensors", "c.safetensors")
    )
    assert len(write(ported, first, PLAIN).reports) == 3
    found = read(first, PLAIN, hints_of(spec))
    assert found.spec == spec
    write(found, second, PORTED)
    assert format_of(first) == PLAIN
    assert format_of(second) == PORTED
    write(read(second, PORTED, Hints()), back, PLAIN)
    arrays, again = load_file(first), load_file(back)
    assert arrays.keys() == again.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_one_of_several_layers_is_taken_and_the_rest_named(tmp_path: Path) -> None:
    arrays = (
        _layer(3, 3, 4, start="encoder.rnn.") | _layer(4, 2, 5, start="decoder.") | _arrays(("w", (2, 2)))
    )
    path = _saved(tmp_path, arrays)
    with pytest.raises(
        PortError, match=r"2 recurrent layers: choose one by --prefix, of 'decoder.', 'encoder.rnn.'"
    ):
        read(path, PLAIN, Hints())
    for prefix in ("encoder.rnn", "encoder.rnn."):
        found = read(path, PLAIN, Hints(prefix=prefix, batch_first=True))
        assert (found.spec.layers[0].cell, found.spec.batch_first) == ("gru", True)
        assert found.notes[0] == (
            "5 arrays beside encoder.rnn are left out: decoder.bias_hh_l0, decoder.bias_ih_l0, "
            "decoder.weight_hh_l0, …"
        )
    with pytest.raises(PortError, match="no recurrent layer has the prefix 'other'"):
        read(path, PLAIN, Hints(prefix="other"))


def test_numbered_modules_are_a_stack_where_it_is_asked_for(tmp_path: Path) -> None:
    arrays = _layer(4, 3, 5, start="rnns.0.") | _layer(4, 5, 5, start="rnns.2.") | _layer(3, 9, 9, start="x.")
    found = read(_saved(tmp_path, arrays), PLAIN, Hints(prefix="rnns"))
    assert [layer.input_size for layer in found.spec.layers] == [3, 5]
    np.testing.assert_array_equal(found.parameters["rnn.1.w_h"], arrays["rnns.2.weight_hh_l0"].T)


def _without(arrays: dict[str, FloatArray], name: str) -> dict[str, FloatArray]:
    return {each: array for each, array in arrays.items() if each != name}


@pytest.mark.parametrize(("arrays", "hints", "message"), [
    (_arrays(("w", (2, 3))), {}, "no recurrent layer is in it: none of its 1 arrays is called weight_ih_l0"),
    (RNN, {}, "not say the activation of its rnn: say it by --activation tanh or --activation relu"),
    (RNN, {"activation": "linear"}, "--activation is linear, and that of its rnn is one of tanh, relu"),
    (GRU, {"cell": "lstm"}, "--cell is lstm, and the shapes are those of gru: 12 rows for 4 hidden units"),
    (GRU, {"activation": "relu"}, "--activation is relu, and its layers have tanh"),
    (GRU, {"reset_after": False}, "--reset-before does not fit its layers: it resets after the product"),
    (LSTM, {"reset_after": True}, "--reset-after does not fit its layers: it has no GRU"),
    (_layer(2, 3, 4), {}, "has 8 rows for 4 hidden units: that is none of rnn, gru, lstm"),
    (_layer(3, 3, 4, dtype="float16"), {}, "arrays of type F16: it can be float32 or float64"),
    (_without(GRU, "weight_hh_l0"), {}, "weight_ih_l0 and weight_hh_l0 must both be there, as matrices"),
    (_without(GRU, "bias_hh_l0"), {}, "the array bias_hh_l0 is missing, which belongs to the others"),
    (GRU | _arrays(("weight_ih_l2", (12, 4))), {}, "the array weight_ih_l2 belongs to no layer of gru"),
    (GRU | _arrays(("bias_ih_l0", (11,))), {}, r"bias_ih_l0 has shape \(11,\): beside the others it must be"),
    (GRU | {"bias_ih_l0": np.full(12, np.nan, np.float32)}, {}, "b holds a value that is not a finite"),
    (_layer(3, 3, 4) | _layer(3, 7, 4, "_l1"), {}, "layer 1 takes vectors of 7, and layer 0 gives such of 4"),
    (_layer(3, 3, 4, "", "0.") | _layer(3, 4, 4, "", "1."), {"prefix": ""}, "are no stack: they are cells"),
])  # fmt: skip
def test_what_does_not_say_enough_or_contradicts_itself_is_refused(
    arrays: dict[str, Any], hints: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(_saved(tmp_path, arrays), PLAIN, Hints(**hints))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Each of 300 files with a changed byte, cut or lengthened, is refused or is read as a layer."""
    path, chance, read_again = _saved(tmp_path, GRU), random.Random(0), 0
    content = path.read_bytes()
    for number in range(300):
        changed = bytearray(content)
        at = chance.randrange(len(changed))
        if number % 3 == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif number % 3 == 1:
            del changed[at:]
        else:
            changed[:at] = chance.randbytes(at)
        path.write_bytes(changed)
        try:
            read_again += plain.read(path, "torch", Hints()).spec.layers[0].cell == "gru"
        except PortError as error:
            last = error
    assert str(path) not in str(last)  # which conversion puts before it
    assert 0 < read_again < 100


@pytest.mark.parametrize(("entry", "message"), [
    ({"dtype": "F32", "shape": [10**12, 10**12], "data_offsets": [0, 8]}, "which its 8 bytes do not fill"),
    ({"dtype": "F32", "shape": [-1, 2], "data_offsets": [0, 8]}, r"the shape of weight_ih_l0 is \[-1, 2\]"),
    ({"dtype": "F32", "shape": [2], "data_offsets": [0, 10**9]}, "which is not within the file"),
    ({"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}, "the shape of weight_ih_l0 is"),
    ({"dtype": "F32", "shape": [2]}, "lacks data_offsets"),
    ({"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}, "the type of weight_ih_l0 must be a text"),
])  # fmt: skip
def test_a_header_that_claims_what_is_not_there_is_refused(
    entry: dict[str, Any], message: str, tmp_path: Path
) -> None:
    header = json.dumps({"weight_ih_l0": entry}).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(PortError, match=message):
        read(path, PLAIN, Hints())


def test_links_of_a_cache_are_followed_and_no_pipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "link.safetensors").symlink_to(_saved(tmp_path, GRU))
    assert read(tmp_path / "link.safetensors", PLAIN, Hints()).spec.layers[0].cell == "gru"
    with pytest.raises(PortError, match="it must be a file, and is a pipe or a device"):
        read(Path("/dev/zero"), PLAIN, Hints())


def test_the_formats_are_those_of_the_tables() -> None:
    names = [each.name for each in formats()]
    assert names[0] == "ported"
    assert len(set(names)) == len(names)
    for each in formats():
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in each.suffixes)
        assert find_format(each.name.upper()) == each
    assert without_suffix("a.PORTED.safetensors", PORTED) == "a"


def test_a_format_is_found_by_name_and_content(tmp_path: Path) -> None:
    path = _saved(tmp_path, GRU)
    assert format_of(path) == PLAIN
    read(path, PLAIN, Hints()).save(path)
    assert format_of(path) == PORTED
    (tmp_path / "file.dat").write_bytes(b"")
    with pytest.raises(
        PortError, match=r"not known by its name: say it by --from. There are ported \(.ported"
    ):
        format_of(tmp_path / "file.dat")
    with pytest.raises(PortError, match="there is no such file"):
        format_of(tmp_path / "gone.safetensors")
    with pytest.raises(PortError, match="unknown format 'cafe': choose one of ported, "):
        find_format("cafe")


def _convert(*argv: Any) -> int:
    return main(["convert", *map(str, argv)])


def test_the_command_proves_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _saved(tmp_path, GRU)
    proof, result = tmp_path / "proof.safetensors", tmp_path / "result.json"
    assert _convert(path, "--to", "ported", "--proof", proof, "--json", result) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"file     {path}, safetensors: 1 layer: gru tanh 4"
    assert lines[1].startswith("proved   the numpy module against the float64 reference: agree; 6 arrays")
    assert "note     torch is not installed here: the reference computed what it would. " in "\n".join(lines)
    assert lines[-1] == f"saved    {tmp_path / 'file.ported.safetensors'}, ported"
    document = json.loads(result.read_text())
    assert (document["format"], document["to"]) == ("safetensors", "ported")
    assert document["reports"][0]["worst"] < 1e-6
    for each in (proof, tmp_path / "file.ported.safetensors"):
        assert load_port(each).spec == StackSpec((LayerSpec("gru", 3, 4, biases="two", reset_after=True),))


def test_the_command_replaces_nothing_unless_it_is_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, there = _saved(tmp_path, GRU), tmp_path / "there.safetensors"
    there.write_text("mine")
    assert _convert(path, "--to", "safetensors", "--out", there) == 2
    assert capsys.readouterr().err == (
        f"d2lrnn: {there} is there already: --overwrite replaces it, --out takes another name\n"
    )
    assert there.read_text() == "mine"
    assert _convert(path, "--to", "safetensors") == 2  # onto itself
    assert "is there already" in capsys.readouterr().err
    assert _convert(path, "--to", "safetensors", "--out", there, "--overwrite") == 0
    assert load_file(there).keys() == GRU.keys()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_nothing_is_left_of_a_conversion_that_ends_early(
    error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = _saved(tmp_path, GRU), tmp_path / "out.safetensors"
    out.write_text("mine")
    whole = plain.write

    def broken(*words: Any) -> None:
        whole(*words)
        raise error

    monkeypatch.setattr(plain, "write", broken)
    code = {KeyboardInterrupt: 130, MemoryError: 1}.get(error, 2)
    assert _convert(path, "--to", "safetensors", "--out", out, "--overwrite") == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    if code == 2:
        assert err == f"d2lrnn: {out} cannot be written: No space left on device\n"
    assert out.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file.safetensors", "out.safetensors"]


def test_a_file_that_is_read_as_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, whole = _saved(tmp_path, GRU), plain.named_arrays

    def turned(*words: Any) -> dict[str, FloatArray]:
        return {name: array[::-1] for name, array in whole(*words).items()}

    monkeypatch.setattr(plain, "named_arrays", turned)
    assert _convert(path, "--to", "safetensors", "--out", tmp_path / "out.safetensors") == 2
    assert "is read from the new file with other numbers than were written" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file.safetensors"]


THERE = (
    "the format torch needs torch, which is not installed here. Convert to a file that every environment "
    "reads, d2lrnn convert file.safetensors --to ported, and that one where it is, with --to torch"
)
HERE = (
    "the format torch needs torch, which is not installed here. Where it is, make a file that every "
    "environment reads: d2lrnn convert file.pt --to ported"
)


@pytest.mark.parametrize(("argv", "message"), [
    (["file.safetensors", "--to", "torch"], THERE),
    (["file.pt", "--to", "ported"], HERE),
    (["gone.pt", "--to", "ported"], "gone.pt cannot be read: there is no such file"),
    (["file.txt", "--to", "ported"], "the format of file.txt is not known by its name: say it by --from"),
    (["file.safetensors", "--to", "tar"], "unknown format 'tar': choose one of ported, "),
    (["file.safetensors", "--to", "ported", "--from", "tar"], "unknown format 'tar'"),
    (["file.safetensors", "--to", "ported", "--cell", "mgru"], "--cell: unknown cell 'mgru': choose one of"),
    (["file.safetensors", "--to", "ported", "--activation", "elu"], "unknown activation 'elu': choose one"),
    (["file.safetensors", "--to", "ported", "--out", "-"], "--out needs the name of a file"),
    (["file.safetensors", "--to", "ported", "--out", "gone/x.safetensors"], "there is no folder"),
    (["file.safetensors", "--to", "ported", "--proof", "file.txt"], "file.txt is there already: --ov"),
    (["file.safetensors", "--to", "ported", "--proof", "file.ported.safetensors"], "the file to write"),
    (["file.safetensors", "--to", "ported", "--out", "x.pt"], "let it end in .ported.safetensors or .safete"),
    (["file.safetensors", "--to", "ported", "--json", "gone/x"], "--json gone/x cannot be written"),
    (["folder", "--to", "ported"], "the format of folder is not known by its name"),
    (["file.txt", "--to", "ported", "--from", "safetensors"], "file.txt: it is damaged: it is no"),
])  # fmt: skip
def test_the_command_says_what_is_wrong(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    _saved(tmp_path, GRU)
    (tmp_path / "folder").mkdir()
    for name in ("file.pt", "file.txt"):
        (tmp_path / name).write_text("nothing")
    before = sorted(tmp_path.iterdir())
    assert _convert(*argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_options_that_exclude_each_other_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _convert("file", "--to", "ported", "--reset-after", "--reset-before")
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_what_the_file_computes_is_what_the_reference_computes(tmp_path: Path) -> None:
    """Where no framework is, the proof is the reference's own."""
    ported = read(_saved(tmp_path, GRU), PLAIN, Hints())
    case = next(iter(cases(ported.spec).values()))
    outputs, _ = reference.run(ported.spec, ported.parameters, case.inputs)
    np.testing.assert_array_equal(ported.found.results["zero state"]["outputs"], outputs)
    assert ported.source == "numpy"
    assert d2lrnn.load_port is load_port
