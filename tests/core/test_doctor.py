"""The doctor: faults that are written out in `doctor_sides`, named as they are and never otherwise."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.doctor_sides import (
    BOTH,
    FAULTS,
    GRU,
    GRU_2,
    LSTM,
    LSTM_2,
    OF_DESCRIPTIONS,
    OF_USE,
    PAIRS,
    RNN_3,
    Arrays,
    as_function,
    as_ported,
    drawn_parameters,
    stack,
)

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.values import FloatArray
from d2lrnn.doctor.explain import _helps
from d2lrnn.doctor.explanation import Explanation
from d2lrnn.errors import PortError
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.ported import Ported
from d2lrnn.ports.proof import Comparison, Side, judge


def _check(found: Explanation, kinds: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert not found.agreed
    assert sorted(cause.kind for cause in found.causes) == sorted(kinds), str(found)
    assert found.worst_after is not None
    assert found.worst_after.worst <= found.bound
    for word in words:
        assert any(word in str(cause) for cause in found.causes), f"{word!r} is not in: {found}"


@pytest.mark.parametrize("name", [*FAULTS, *OF_DESCRIPTIONS, *PAIRS])
def test_a_fault_of_a_description_is_named(name: str) -> None:
    fault = (FAULTS | OF_DESCRIPTIONS | PAIRS)[name]
    right = drawn_parameters(fault.spec)
    found = d2lrnn.explain_difference(
        as_ported(fault.spec, right), as_ported(*fault.befell(fault.spec, right))
    )
    _check(found, fault.kinds, fault.words)


@pytest.mark.parametrize("name", [*FAULTS, *PAIRS])
def test_a_fault_of_a_function_is_named(name: str) -> None:
    fault = (FAULTS | PAIRS)[name]
    right = drawn_parameters(fault.spec)
    spec, wrong = fault.befell(fault.spec, right)
    function = as_function(spec, wrong)
    if spec.state_shapes(1) == fault.spec.state_shapes(1):
        found = d2lrnn.explain_difference(as_ported(fault.spec, right), function)
    else:
        found = d2lrnn.explain_difference(as_ported(fault.spec, right), lambda X: function(X, None, None)[0])
    _check(found, fault.kinds, fault.words)


@pytest.mark.parametrize("name", OF_USE)
def test_a_fault_of_use_is_named(name: str) -> None:
    fault = OF_USE[name]
    right = drawn_parameters(fault.spec)
    found = d2lrnn.explain_difference(as_ported(fault.spec, right), fault.function(fault.spec, right))
    _check(found, fault.kinds, fault.words)


DRAWN = as_ported(GRU, drawn_parameters(GRU))


#: What is another model, and nothing that is known makes it the first one.
def _other_units(spec: StackSpec, right: Arrays) -> Arrays:
    """The same function of each step, its units in another order on one side of w_h alone."""
    w_h = right["rnn.0.w_h"]
    return {**right, "rnn.0.w_h": w_h[::-1], "rnn.0.w_x": right["rnn.0.w_x"][::-1]}


def _noisy(spec: StackSpec, right: Arrays) -> Arrays:
    draw = np.random.RandomState(1)
    return {
        name: (array + 1e-3 * draw.standard_normal(array.shape)).astype(np.float32)
        for name, array in right.items()
    }


OTHERS = {
    "drawn anew": lambda spec, right: drawn_parameters(spec, 5),
    "noisy": _noisy,
    "rows reversed": _other_units,
}


@pytest.mark.parametrize("how", OTHERS)
@pytest.mark.parametrize("spec", [GRU, RNN_3], ids=["gru", "rnn"])
def test_another_model_is_not_explained(how: str, spec: StackSpec) -> None:
    right = drawn_parameters(spec)
    wrong = OTHERS[how](spec, right)
    function = as_function(spec, wrong)
    others: list[Any] = [function, lambda X: function(X, None, None)[0]]
    if how != "rows reversed" or len(spec.layers) == 1:
        # Of several layers one has other values: that is said of descriptions.
        others.append(as_ported(spec, wrong))
    for other in others:
        found = d2lrnn.explain_difference(as_ported(spec, right), other)
        assert not found.agreed
        assert not found.explained, str(found)
        assert "No difference of convention that is known here" in str(found)


def test_a_function_with_its_own_gates_is_not_explained() -> None:
    spec, right = GRU, drawn_parameters(GRU)

    def function(X: FloatArray) -> FloatArray:
        outputs, _ = as_function(spec, right)(X, None, None)
        return outputs + np.float32(0.01) * outputs**2

    assert not d2lrnn.explain_difference(as_ported(spec, right), function).explained


def test_the_first_layer_that_differs_is_told() -> None:
    right = drawn_parameters(RNN_3)
    other = {name: array for name, array in drawn_parameters(RNN_3, 5).items() if name.startswith("rnn.1.")}
    found = d2lrnn.explain_difference(as_ported(RNN_3, right), as_function(RNN_3, {**right, **other}))
    assert not found.explained
    assert found.notes == ("the states of the layers before agree: layer 1 is the first that differs",)


def test_a_cell_is_a_layer_of_one_step() -> None:
    right = drawn_parameters(LSTM)
    cell = as_ported(replace(LSTM, form="cell"), right)
    assert d2lrnn.explain_difference(as_ported(LSTM, right), cell).agreed
    wrong = {**right, "rnn.0.w_h": np.concatenate([x.T for x in np.split(right["rnn.0.w_h"], 4, 1)], 1)}
    found = d2lrnn.explain_difference(as_ported(LSTM, wrong), cell)
    assert [cause.kind for cause in found.causes] == ["transposed"]


def test_two_types_are_compared_by_the_coarser() -> None:
    right = drawn_parameters(GRU)
    double = {name: array.astype(np.float64) + 1e-9 for name, array in right.items()}
    found = d2lrnn.explain_difference(as_ported(GRU, right), as_ported(replace(GRU, dtype="float64"), double))
    assert (found.agreed, found.bound) == (True, 1e-6)
    assert found.notes == ("a is in float32, and b in float64",)


def test_what_is_no_number_is_no_number_of_json() -> None:
    found = d2lrnn.explain_difference(DRAWN, lambda X: np.full_like(X, np.nan))
    assert not found.agreed
    assert found.to_json()["worst_before"]["worst"] is None
    assert "the worst difference is nan" in str(found)


@pytest.mark.parametrize(
    ("before", "after", "helps"), [(1e-3, 1e-7, True), (1e-3, 2e-6, False), (2e-6, 9e-7, False)]
)
def test_a_cause_must_take_away_nearly_all_of_a_difference(before: float, after: float, helps: bool) -> None:
    sides = [(Comparison("zero state", "outputs", worst),) for worst in (before, after)]
    assert _helps(*sides, 1e-6) == helps


def test_two_that_are_the_same_agree() -> None:
    right = drawn_parameters(LSTM_2)
    for other in (as_ported(LSTM_2, right), as_function(LSTM_2, right)):
        found = d2lrnn.explain_difference(as_ported(LSTM_2, right), other)
        assert found.agreed
        assert str(found).startswith("a and b agree: the worst difference is ")


def test_two_frameworks_have_each_their_axes_and_padding() -> None:
    right = drawn_parameters(LSTM)
    found = d2lrnn.explain_difference(
        as_ported(LSTM, right, "one"),
        as_ported(replace(LSTM, batch_first=True, padding="repeat"), right, "another"),
    )
    assert found.agreed
    assert "b takes (batch, time, …) and a (time, batch, …)" in found.notes[0]
    assert "the outputs of a are zeros, and those of b those of the step before" in found.notes[1]


def test_which_side_has_lost_something_is_told() -> None:
    right = drawn_parameters(LSTM)
    less = {**right, "rnn.0.b_h": np.zeros_like(right["rnn.0.b_h"])}
    found = d2lrnn.explain_difference(as_ported(LSTM, less), as_ported(LSTM, right))
    assert str(found.causes[0]).startswith("a's recurrent bias b_h of layer 0 was dropped: b adds a bias")


def test_the_side_of_a_function_is_told() -> None:
    fault = FAULTS["gru, w_h in z, r, n"]
    right = drawn_parameters(fault.spec)
    function = as_function(*fault.befell(fault.spec, right))
    found = d2lrnn.explain_difference(function, as_ported(fault.spec, right))
    assert "the gates of a's recurrent weights w_h of layer 0 stand in the order z, r, n, where b has" in str(
        found.causes[0]
    )


@pytest.mark.parametrize(("a", "b", "message"), [
    (as_ported(GRU, {}), as_ported(GRU_2, {}), "a has 1 layer, and b 2 layers"),
    (as_ported(GRU, {}), as_ported(LSTM, {}), "the cell of layer 0 is gru in a, and lstm in b"),
    (as_ported(LSTM, {}), as_ported(stack("lstm", 8, 6), {}), "hidden units of layer 0 is 8 in a"),
    (as_ported(GRU, {}), as_ported(stack("gru", 8, 8, directions=BOTH), {}), "in 1 directions in a"),
    (lambda X: X, lambda X: X, "a and b are both functions"),
    (3, as_ported(GRU, {}), "a: builtins.int is a module of no framework .* or a function of arrays"),
    (DRAWN, lambda: None, "b: the function must take inputs, state and"),
    (DRAWN, lambda X: None, "b: the function must give an array of outputs"),
    (DRAWN, lambda X: X[:1], r"outputs of shape \(1, 3, 8\), where \(3, 3, 8\)"),
    (DRAWN, lambda X: (X, {"h": X}), "gives a state 'h': choose of rnn.0.h"),
    (DRAWN, lambda X: 1 // 0, "failed with ZeroDivisionError.* inputs"),
])  # fmt: skip
def test_what_cannot_be_one_is_refused(a: Any, b: Any, message: str) -> None:
    with pytest.raises(PortError, match=message):
        d2lrnn.explain_difference(a, b)


LARGE = stack("lstm", 256, 256, 3)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["described", "outputs alone"])
def test_a_large_stack_takes_less_than_ten_seconds(how: str) -> None:
    right = drawn_parameters(LARGE)
    wrong = {
        **right,
        "rnn.1.b_h": np.zeros_like(right["rnn.1.b_h"]),
        "rnn.2.w_h": np.concatenate([part.T for part in np.split(right["rnn.2.w_h"], 4, axis=1)], axis=1),
    }
    function = as_function(LARGE, wrong)
    others = {
        "described": as_ported(LARGE, wrong),
        "outputs alone": lambda X: function(X, None, None)[0],
    }
    # Of the processor, not of the clock: others may compute at the same time.
    began = time.process_time()
    found = d2lrnn.explain_difference(as_ported(LARGE, right), others[how])
    took = time.process_time() - began
    assert sorted(cause.kind for cause in found.causes) == ["recurrent bias dropped", "transposed"]
    assert took < 10


def test_the_command_says_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = FAULTS["lstm, recurrent bias dropped"]
    right = drawn_parameters(fault.spec)
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path, (spec, parameters) in zip(
        paths, [(fault.spec, right), fault.befell(fault.spec, right)], strict=True
    ):
        exact = judge(spec, parameters).results
        own = {case: {n: x.astype(np.float32) for n, x in arrays.items()} for case, arrays in exact.items()}
        Ported(spec, parameters, "numpy", Side(own, exact)).save(path)
    assert main(["doctor", *paths, "--json", str(tmp_path / "json")]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"a  {paths[0]}\nb  {paths[1]}\na and b differ: the worst difference is ")
    assert "b's recurrent bias b_h of layer 0 was dropped" in printed
    document = json.loads((tmp_path / "json").read_text())
    assert (document["agreed"], document["explained"]) == (False, True)
    assert document["causes"][0]["parameters"] == ["rnn.0.b_h"]
    assert document["worst_after"]["worst"] <= document["bound"] < document["worst_before"]["worst"]
    assert main(["doctor", paths[0], paths[0]]) == 0
    assert "a and b agree" in capsys.readouterr().out
    assert main(["doctor", paths[0], str(tmp_path / "gone")]) == 2
    assert "cannot be read: there is no such file" in capsys.readouterr().err
