"""Ports without a framework: the reference, what is refused, files of strangers, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from damaged import damaged
from safetensors.numpy import load

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError, SpecError
from d2lrnn.ports import reference
from d2lrnn.ports.conventions import conventions, porting_backends
from d2lrnn.ports.description import MOST_LAYERS, Biases, LayerSpec, StackSpec
from d2lrnn.ports.files import _digest, _expected, to_bytes
from d2lrnn.ports.fitting import fit
from d2lrnn.ports.layout import with_biases
from d2lrnn.ports.ported import Ported, load_port
from d2lrnn.ports.proof import DRAWN, ZEROS, Results, Side, compare, judge
from d2lrnn.ports.table import markdown
from d2lrnn.saving.tensor_files import to_safetensors
from d2lrnn.training.initialization import initial_parameters

GRU = LayerSpec("gru", 3, 4, reset_after=True)
LSTM = LayerSpec("lstm", 3, 4)
RNN = LayerSpec("rnn", 3, 4)
MGU = LayerSpec("mgu-forget", 3, 4, reset_after=True)


def _parameters(spec: StackSpec) -> dict[str, FloatArray]:
    draw = np.random.RandomState(0)
    shapes = spec.parameter_shapes()
    return {name: draw.uniform(-0.5, 0.5, shape).astype(spec.dtype) for name, shape in shapes.items()}


def _ported(*layers: LayerSpec, **options: Any) -> Ported:
    """One whose source computes what the reference does."""
    spec = StackSpec(layers, **options)
    parameters = _parameters(spec)
    exact = judge(spec, parameters).results
    results = _cast(exact, spec.dtype)
    return Ported(spec, parameters, "nobody", Side(results, exact if spec.dtype == "float32" else None))


def _cast(results: Results, dtype: str) -> Results:
    return {
        case: {name: array.astype(dtype) for name, array in arrays.items()}
        for case, arrays in results.items()
    }


@pytest.mark.parametrize(("cell", "reset"), [("rnn", None), ("gru", True), ("gru", False), ("lstm", None)])
def test_the_reference_is_that_of_the_library_s_own_models(cell: str, reset: bool | None) -> None:
    """Another formula, written independently, with the same parameters by the same names."""
    model = ModelSpec(5, cell, "scratch", 4, num_layers=2, reset_after=reset, dtype="float64")
    parameters = initial_parameters(model)
    backend = d2lrnn.backend("numpy")
    inputs = np.random.RandomState(0).standard_normal((6, 2, 5))
    expected, finals = backend.run_layers(backend.build(model, parameters), inputs)
    first = LayerSpec(cell, 5, 4, reset_after=reset)
    spec = StackSpec((first, replace(first, input_size=4)), dtype="float64")
    outputs, states = reference.run(spec, parameters, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-14)
    for name, final in zip(first.kind.states, finals, strict=True):
        np.testing.assert_allclose(np.stack([states[f"rnn.{l}.{name}"] for l in range(2)]), final, atol=1e-14)


def test_a_minimal_gated_unit_is_its_formula() -> None:
    """Written out for one step, with the reset where each has it, and without one."""
    draw = np.random.RandomState(2)
    x, h = draw.standard_normal((2, 3)), draw.standard_normal((2, 4))
    for layer in (MGU, replace(MGU, reset_after=False), replace(MGU, reset_after=None)):
        spec = StackSpec((layer,), form="cell", dtype="float64")
        w_x, w_h, b, *rest = _parameters(spec).values()
        f = 1 / (1 + np.exp(-(x @ w_x[:, :4] + h @ w_h[:, :4] + b[:4])))
        inner = {"after": f * (h @ w_h[:, 4:] + sum(rest)), "before": (f * h) @ w_h[:, 4:]}
        n = np.tanh(x @ w_x[:, 4:] + b[4:] + inner.get(layer.reset, h @ w_h[:, 4:]))
        outputs, _ = reference.run(spec, _parameters(spec), x[None], {"rnn.0.h": h})
        np.testing.assert_allclose(outputs[0], f * h + (1 - f) * n, atol=1e-14)


def test_what_is_computed_at_padding_is_read_after_the_sequence() -> None:
    inputs, lengths = np.random.RandomState(1).standard_normal((5, 2, 3)), np.array([5, 2])
    for backward, flipped in ((False, False), (True, False), (True, True)):
        layer = replace(LSTM, directions=("backward",) if backward else ("forward",), flipped=flipped)
        spec = StackSpec((layer,), padding="computed")
        found, states = reference.run(spec, _parameters(spec), inputs, lengths=lengths)
        # The second sequence as it is read, its two steps first.
        order = [1, 0, 4, 3, 2] if backward else list(range(5))
        forward = StackSpec((LSTM,))
        own = {name.replace("backward.", ""): array for name, array in _parameters(spec).items()}
        outputs, _ = reference.run(forward, own, inputs[order, 1:])
        _, final = reference.run(forward, own, inputs[order[:2], 1:])
        np.testing.assert_allclose(found[list(range(5)) if flipped else order, 1], outputs[:, 0], atol=1e-14)
        for name, state in states.items():
            np.testing.assert_allclose(state[1:], final[name.replace("backward.", "")], atol=1e-14)


def test_padding_changes_nothing_and_backward_begins_behind_it() -> None:
    spec = StackSpec((replace(LSTM, directions=("forward", "backward")), replace(LSTM, input_size=8)))
    parameters = _parameters(spec)
    inputs = np.random.RandomState(1).standard_normal((5, 2, 3))
    for padding in ("zeros", "repeat"):
        padded = replace(spec, padding=padding)
        outputs, states = reference.run(padded, parameters, inputs, lengths=np.array([5, 2]))
        alone, own = reference.run(padded, parameters, inputs[:2, 1:])
        np.testing.assert_allclose(outputs[:2, 1:], alone, atol=1e-14)
        np.testing.assert_allclose(outputs[2:, 1], alone[[1] * 3, 0] * (padding == "repeat"), atol=1e-14)
        for name, state in own.items():
            np.testing.assert_allclose(states[name][1:], state, atol=1e-14)


@pytest.mark.parametrize(("options", "message"), [
    ({"cell": "mgu"}, "unknown cell 'mgu'"),
    ({"biases": "input"}, "'input' are of a cell that resets after its product: take 'one'"),
    ({"hidden_size": 0}, "hidden_size is 0"),
    ({"reset_after": True}, "reset_after is a GRU's"),
    ({"gate_activation": "tanh"}, "of a cell with gates"),
    ({"projection_size": 2}, "projection_size is an LSTM's"),
    ({"directions": ("backward", "forward")}, "forward, backward, or both in this order"),
    ({"flipped": True}, "a layer that reads backward alone"),
])  # fmt: skip
def test_a_layer_that_cannot_be_is_no_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(RNN, **options)


def test_a_stack_that_cannot_be_is_no_value() -> None:
    with pytest.raises(SpecError, match="layer 1 takes vectors of 3, and layer 0 gives such of 4"):
        StackSpec((RNN, RNN))
    with pytest.raises(SpecError, match=f"1 to {MOST_LAYERS} layers, not 0"):
        StackSpec(())
    with pytest.raises(SpecError, match="a cell takes one step"):
        StackSpec((RNN,), form="cell", batch_first=True)


BOTH = ("forward", "backward")


@pytest.mark.parametrize(("layers", "to", "message"), [
    ([replace(GRU, reset_after=False)], "torch", r"resets after .* GRU resets before.* reset_after=True"),
    ([replace(LSTM, projection_size=2)], "tensorflow", "no projection.* whose w_h is w_p w_h"),
    ([replace(LSTM, activation="relu")], "torch", "its activation is one of tanh, not relu"),
    ([replace(GRU, gate_activation="tanh")], "torch", "its gates have sigmoid, not tanh"),
    ([replace(GRU, directions=BOTH, merge="sum")], "torch", "merged by concat, not sum.* merge the halves"),
    ([replace(RNN, directions=("backward",))], "torch", "not read backward alone.* flip its inputs"),
    ([replace(RNN, directions=("backward",))], "tensorflow", "order of reading.* flip inputs and outputs"),
    ([MGU], "torch", "has no layer of the cell mgu-forget: choose another framework"),
    ([replace(MGU, reset_after=False)], "jax", "and this MGU resets before the matrix product"),
    ([replace(GRU, reset_after=False)], "jax", "resets after the matrix product, and this GRU resets before"),
])  # fmt: skip
def test_what_cannot_be_held_is_refused_with_what_comes_nearest(
    layers: list[LayerSpec], to: str, message: str
) -> None:
    spec = StackSpec(tuple(layers))
    with pytest.raises(PortError, match=message):
        fit(spec, _parameters(spec), conventions(to), to)


@pytest.mark.parametrize("second", [LayerSpec("rnn", 4, 5), LayerSpec("lstm", 4, 4)])
def test_layers_that_differ_are_modules_of_their_own(second: LayerSpec) -> None:
    spec = StackSpec((replace(RNN, biases="none"), second))
    chosen, built, _, notes = fit(spec, _parameters(spec), conventions("torch"), "torch")
    assert [convention.cell for convention in chosen] == ["rnn", second.cell]
    # The biases of one layer do not ask for such of another.
    assert [layer.biases for layer in built.layers] == ["none", "two"]
    assert "its layers differ: they are modules of their own, one behind the other" in notes
    alike = StackSpec((RNN, replace(RNN, input_size=4)))
    assert not any(
        "differ" in note for note in fit(alike, _parameters(alike), conventions("torch"), "").notes
    )


def test_a_layer_that_computes_in_float32_alone_holds_no_float64() -> None:
    layer, table = replace(RNN, activation="relu"), conventions("mxnet")
    chosen = [
        fit(spec, _parameters(spec), table, "mxnet").conventions[0].layer
        for spec in (StackSpec((layer,)), StackSpec((layer,), dtype="float64"))
    ]
    assert chosen == ["rnn.RNN", "rnn.RNNCell.unroll"]
    spec = StackSpec((layer,), dtype="float64")
    with pytest.raises(PortError, match=r"its relu in float32, and this is float64\. Port it in float32"):
        fit(spec, _parameters(spec), table[:1], "mxnet")


def test_layers_that_take_different_axes_take_those_that_all_take() -> None:
    spec = StackSpec((LSTM, replace(LSTM, input_size=4, activation="relu")))
    chosen, built, _, notes = fit(spec, _parameters(spec), conventions("mxnet"), "mxnet")
    assert [convention.layer for convention in chosen] == ["rnn.LSTM", "rnn.LSTMCell.unroll"]
    assert built.batch_first
    assert "it takes (batch, time, …), where the other takes (time, batch, …)" in notes


def test_of_several_kinds_of_layers_the_first_that_holds_all_is_taken() -> None:
    spec, table = StackSpec((GRU, replace(LSTM, input_size=4))), conventions("jax")
    parameters = _parameters(spec)
    assert [each.namespace for each in fit(spec, parameters, table, "jax").conventions] == ["linen"] * 2
    with pytest.raises(PortError, match="no bias inside the reset, and this one has b_hn other than zero"):
        fit(spec, parameters, table, "jax", "nnx")
    parameters["rnn.0.b_hn"][:] = 0
    fitted = fit(spec, parameters, table, "jax", "nnx")
    assert [each.namespace for each in fitted.conventions] == ["nnx"] * 2
    assert [layer.biases for layer in fitted.spec.layers] == ["input", "one"]
    assert fitted.notes[-1] == "it has no bias inside the reset, where the other's is zero: none is trained"
    assert "rnn.0.b_hn" not in fitted.parameters
    only = StackSpec((MGU,))
    with pytest.raises(PortError, match="jax has no layer of the cell mgu-forget"):
        fit(only, _parameters(only), table, "jax", "nnx")
    with pytest.raises(PortError, match=r"jax has no layers called haiku\.…: choose one of linen, nnx"):
        fit(spec, parameters, table, "jax", "haiku")


def test_layers_whose_names_have_no_kind_are_of_one() -> None:
    spec = StackSpec((replace(GRU, biases="two"), replace(LSTM, input_size=4, biases="two")))
    chosen = fit(spec, _parameters(spec), conventions("onnx"), "onnx").conventions
    assert [convention.layer for convention in chosen] == ["GRU(linear_before_reset=1)", "LSTM"]


def test_the_nearest_to_a_projection_is_the_same_function() -> None:
    spec = StackSpec((replace(LSTM, projection_size=2),), dtype="float64")
    parameters = _parameters(spec)
    inputs = np.random.RandomState(1).standard_normal((5, 2, 3))
    nearest = {name: array for name, array in parameters.items() if name != "rnn.0.w_p"}
    nearest["rnn.0.w_h"] = parameters["rnn.0.w_p"] @ parameters["rnn.0.w_h"]
    outputs, _ = reference.run(StackSpec((LSTM,), dtype="float64"), nearest, inputs)
    expected, _ = reference.run(spec, parameters, inputs)
    np.testing.assert_allclose(outputs @ parameters["rnn.0.w_p"], expected, atol=1e-14)


@pytest.mark.parametrize("reset_after", [None, True, False])
def test_other_numbers_of_biases_are_the_same_function(reset_after: bool | None) -> None:
    layer = LSTM if reset_after is None else replace(GRU, reset_after=reset_after)
    for before in get_args(Biases):
        if before == "input" and not reset_after:
            continue
        spec = StackSpec((replace(layer, biases=before),), dtype="float64")
        own = {name.removeprefix("rnn.0."): array for name, array in _parameters(spec).items()}
        for after in ("one", "two"):
            other = StackSpec((replace(layer, biases=after),), dtype="float64")
            arrays = with_biases(spec.layers[0], own, after)
            changed = {name: arrays[name.removeprefix("rnn.0.")] for name in other.parameter_shapes()}
            own_side, other_side = judge(spec, _parameters(spec)).side, judge(other, changed).side
            report = compare("it", other_side, "it", own_side, "float64")
            assert report.passed, report


def test_what_the_caller_finds_otherwise_is_noted() -> None:
    spec = StackSpec((replace(GRU, biases="two"), LayerSpec("rnn", 4, 4, biases="two")), padding="zeros")
    _, built, _, notes = fit(spec, _parameters(spec), conventions("tensorflow"), "tensorflow")
    assert [layer.biases for layer in built.layers] == ["two", "one"]
    assert notes == (
        "it takes (batch, time, …), where the other takes (time, batch, …)",
        "it has one bias a gate, the sum of two: trained, it moves half as fast",
    )


def test_a_difference_is_found_and_rounding_is_none() -> None:
    ported = _ported(GRU)
    judged, found = judge(ported.spec, ported.parameters), ported.found
    found.results[DRAWN]["rnn.0.h"][1, 2] += 3e-6
    report = compare("one", found, "the other", judged.side, "float32", judged.rounding)
    assert not report.passed
    assert "one against the other: differ; 6 arrays" in str(report)
    assert "(rnn.0.h, drawn state), bound 1e-06" in str(report)
    with pytest.raises(PortError, match="the conversion is not proved"):
        report.require()
    found.results[DRAWN]["outputs"][0] = np.nan
    assert not compare("one", found, "the other", judged.side, "float32", judged.rounding).passed


def test_the_twin_is_held_to_its_own_bound() -> None:
    ported = _ported(GRU)
    judged, found = judge(ported.spec, ported.parameters), ported.found
    assert found.twin is not None
    found.twin[DRAWN]["rnn.0.h"] = found.twin[DRAWN]["rnn.0.h"] + 3e-12
    report = compare("one", found, "the other", judged.side, "float32", judged.rounding)
    assert report.worst.worst < 1e-7
    assert not report.passed
    assert "as float64 twins 3.0e-12, bound 1e-12" in str(report)


def test_what_float32_cannot_hold_is_proved_by_the_twin_and_by_nothing_else() -> None:
    spec = StackSpec((replace(RNN, activation="linear"),))
    steep = {name: 40 * array for name, array in _parameters(spec).items()}
    judged = judge(spec, steep)
    assert judged.rounding > 1e-7
    off = {case: dict(arrays) for case, arrays in _cast(judged.results, "float64").items()}
    for times, passes in ((7, True), (9, False)):
        off[ZEROS]["outputs"] = judged.results[ZEROS]["outputs"] * (1 + times * judged.rounding)
        by_twin = compare("it", Side(off, judged.results), "it", judged.side, "float32", judged.rounding)
        assert by_twin.by_twin_alone == (times * judged.rounding > 1e-6)
        assert by_twin.passed == passes
        assert "the reference's own rounding is" in str(by_twin)
        alone = compare("it", Side(off), "it", judged.side, "float32", judged.rounding)
        assert not alone.passed
        assert "there is no float64 twin" in str(alone)


def test_numbers_without_end_are_no_proof() -> None:
    spec = StackSpec((replace(RNN, activation="linear"),))
    endless = {name: np.full_like(array, 1e38) for name, array in _parameters(spec).items()}
    judged = judge(spec, endless)
    with np.errstate(over="ignore"):
        rounded = _cast(judged.results, "float32")
    assert not compare(
        "it", Side(rounded, judged.results), "it", judged.side, "float32", judged.rounding
    ).passed


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    both = replace(GRU, directions=BOTH, biases="two")
    for ported in (_ported(both, replace(LSTM, input_size=8)), _ported(RNN, form="cell", dtype="float64")):
        ported.save(tmp_path / "file")
        found = load_port(tmp_path / "file")
        assert (found.spec, found.source) == (ported.spec, "nobody")
        for name, array in ported.parameters.items():
            np.testing.assert_array_equal(found.parameters[name], array)
        assert found.found.results.keys() == ported.found.results.keys()
        assert (found.found.twin is None) == (ported.spec.dtype == "float64")


def _file(ported: Ported) -> bytes:
    return to_bytes(ported.spec, ported.parameters, ported.source, ported.found)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Each of 300 files with a changed byte, cut or lengthened, is refused or is the same."""
    ported, path, same = _ported(RNN), tmp_path / "file", 0
    for changed in damaged(_file(ported), 300):
        path.write_bytes(changed)
        try:
            found = load_port(path)
        except PortError:
            continue
        same += 1
        assert (found.spec, list(found.parameters)) == (ported.spec, list(ported.parameters))
    assert same < 10


@pytest.mark.parametrize(("change", "message"), [
    ({"format": 2}, "not of a format that this version of d2lrnn reads"),
    ({"stack": []}, "stack must be an object"),
    ({"more": 1}, "has 'more', which is unknown"),
    ({"stack": {"layers": [{}] * (MOST_LAYERS + 1)}}, "the stack has 65 layers"),
    ({"sha256": "0" * 64}, "its digest is not the one"),
    ({"hidden_size": 10**12}, "which do not belong to"),
    ({"hidden_size": "4"}, "hidden_size of layer 0 must be a whole number"),
    ({"activation": "__import__"}, "activation of layer 0 must be one of"),
    ({"twin": False}, "which do not belong to"),
    ({"twin": 1}, "twin must be"),
])  # fmt: skip
def test_a_header_that_claims_something_else_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    ported, path = _ported(RNN), tmp_path / "file"
    content = _file(ported)
    length = int.from_bytes(content[:8], "little")
    text = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["d2lrnn"])
    target = text["stack"]["layers"][0] if set(change) & {"hidden_size", "activation"} else text
    target.update(change)
    path.write_bytes(to_safetensors(load(content), json.dumps(text)))
    with pytest.raises(PortError, match=message):
        load_port(path)


def test_the_file_alone_is_enough_to_compute_the_proof_again(tmp_path: Path) -> None:
    """As a program of a stranger would: with the format's own library, and nothing drawn."""
    ported, path = _ported(replace(LSTM, directions=BOTH)), tmp_path / "file"
    ported.save(path)
    arrays = load(path.read_bytes())
    state = {name: arrays[f"proof.state.{name}"] for name in ported.spec.state_shapes(3)}
    given = {
        "zero state": (None, None),
        "drawn state": (state, None),
        "padded": (state, arrays["proof.lengths"]),
    }
    for case, (before, lengths) in given.items():
        outputs, after = reference.run(ported.spec, arrays, arrays["proof.inputs"], before, lengths)
        for name, found in {"outputs": outputs, **after}.items():
            np.testing.assert_allclose(found, arrays[f"proof.{case}.{name}"], rtol=0, atol=1e-6)
            assert arrays[f"proof.twin.{case}.{name}"].dtype == np.float64


@pytest.mark.parametrize("name", ["proof.inputs", "proof.state.rnn.0.h", "proof.lengths"])
def test_other_inputs_than_are_drawn_are_refused(name: str, tmp_path: Path) -> None:
    ported, path = _ported(RNN), tmp_path / "file"
    content = _file(ported)
    arrays = load(content)
    text = json.loads(
        json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["d2lrnn"]
    )
    arrays[name] = np.zeros_like(arrays[name])
    text["sha256"] = _digest({each: arrays[each] for each in _expected(ported.spec, True)})
    path.write_bytes(to_safetensors(arrays, json.dumps(text)))
    with pytest.raises(PortError, match=f"{name} is not what is drawn"):
        load_port(path)


def test_a_proof_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    ported = _ported(RNN)
    changed = replace(ported, parameters={name: array + 1 for name, array in ported.parameters.items()})
    changed.save(tmp_path / "file")
    with pytest.raises(
        PortError, match="not proved: the nobody module against the float64 reference: differ"
    ):
        load_port(tmp_path / "file")


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"text", to_safetensors({"w": np.ones(3, np.float32)}), b"\xff" * 100):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(PortError, match="is damaged: "):
            load_port(tmp_path / "file")
    with pytest.raises(PortError, match="cannot be read: No such file"):
        load_port(tmp_path / "gone")
    with pytest.raises(PortError, match="cannot be written: "):
        _ported(RNN).save(tmp_path / "gone" / "file")


def test_check_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    _ported(RNN).save(path)
    assert main(["check", str(path), "--backend", "numpy"]) == 2
    out, err = capsys.readouterr()
    assert ": 1 layer: rnn tanh 4, from nobody" in out
    having = ", ".join(porting_backends())
    assert err == f"d2lrnn: the backend numpy has no layers to convert: choose one of {having}\n"
    assert main(["check", str(tmp_path / "gone")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_the_page_of_conventions_is_that_of_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "conventions.md"
    assert page.read_text("utf-8") == markdown(), "python -m d2lrnn.ports.table > docs/conventions.md"
