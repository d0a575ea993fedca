"""Every cell of the table of conventions, asked of the framework itself."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn.ports.fitting import fit
from d2lrnn.ports.porter import Described, porter_of

#: PyTorch says so of its own layers in float32.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

BACKEND = os.environ["D2LRNN_BACKEND"]
TABLE = conventions(BACKEND)
#: One number for both, so that a matrix in the wrong orientation has the right shape.
SIZE = 4


def _name(convention: Convention) -> str:
    return f"{convention.layer}-{convention.reset}"


each_layer = pytest.mark.parametrize("convention", TABLE, ids=_name)


def _layer(convention: Convention, **changes: Any) -> LayerSpec:
    reset = None if convention.reset == "none" else convention.reset == "after"
    # What has no bias inside the reset can hold none.
    biases = "input" if convention.biases[0] == "input" else "two"
    return LayerSpec(convention.cell, SIZE, SIZE, **{"biases": biases, "reset_after": reset, **changes})


def _built(
    convention: Convention, *layers: LayerSpec, proved: bool = False, **options: Any
) -> tuple[Described, Any]:
    """A layer with drawn parameters, and what it is to the framework; Keras takes long to prove it."""
    spec = StackSpec(layers, form=convention.form, **options)
    draw = np.random.RandomState(1)
    parameters: dict[str, FloatArray] = {
        name: draw.uniform(-0.5, 0.5, shape).astype(spec.dtype)
        for name, shape in spec.parameter_shapes().items()
    }
    fitted = fit(spec, parameters, [convention], BACKEND)
    _, porter = porter_of(BACKEND)
    module = porter.build(fitted.spec, fitted.parameters, fitted.conventions)
    if proved:
        d2lrnn.port(module)
    return porter.describe(module), module


@pytest.fixture
def default(framework: ModuleType, convention: Convention) -> StackSpec:
    """What the framework makes of the two sizes alone."""
    framework.seed(1)
    found: Described = porter_of(BACKEND)[1].describe(framework.default(convention, SIZE, SIZE))
    return found.spec


def _wrong(convention: Convention) -> Iterator[Convention]:
    gates = list(convention.gates)
    for k in range(len(gates) - 1):
        yield replace(convention, gates=(*gates[:k], gates[k + 1], gates[k], *gates[k + 2 :]))
    yield replace(convention, weights="in, out" if convention.weights == "out, in" else "out, in")
    if len(convention.state) > 1:
        yield replace(convention, state=convention.state[::-1])


@each_layer
def test_another_order_of_gates_or_states_or_axes_of_weights_is_not_proved(
    framework: ModuleType, convention: Convention, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, module = _built(convention, _layer(convention), proved=True)
    porter = import_module(getattr(framework, "CONVERTER", f"d2lrnn_{BACKEND}.porter"))
    for wrong in _wrong(convention):
        monkeypatch.setattr(
            porter,
            "conventions",
            lambda _, wrong=wrong: [wrong if row == convention else row for row in TABLE],
        )
        turned = wrong.weights != convention.weights
        wanted = r"is not proved|has shape|equal division" if turned else "is not proved"
        with pytest.raises(ValueError, match=wanted):
            d2lrnn.port(module)


@each_layer
def test_the_first_of_several_values_is_the_default(convention: Convention, default: StackSpec) -> None:
    layer = default.layers[0]
    assert (layer.cell, default.form) == (convention.cell, convention.form)
    assert layer.biases == convention.biases[0]
    assert layer.activation == convention.activations[0]
    assert (layer.gate_activation,) == (convention.gate_activations[:1] or (None,))
    assert layer.reset_after == _layer(convention).reset_after
    assert layer.directions == convention.directions[:1]
    assert len(default.layers) == 1
    if convention.form == "layer":
        assert default.batch_first == (convention.axes[0] == "batch")
        assert default.padding == convention.padding[0]


@each_layer
def test_it_has_as_many_biases_as_it_can(framework: ModuleType, convention: Convention) -> None:
    for biases in convention.biases:
        layer = _layer(convention, biases=biases)
        found, module = _built(convention, layer)
        width = len(layer.kind.gates) * SIZE
        # A whole number but where one bias has another inside the reset.
        inner = SIZE / width if "b_hn" in layer.shapes() else 0
        numbers = {"none": 0, "input": 1, "one": 1 + inner, "two": 2}
        assert framework.bias_vectors(module, width) == numbers[biases]
        assert found.spec.layers[0].biases == biases


@each_layer
def test_it_has_the_activations_axes_and_paddings_that_it_can(convention: Convention) -> None:
    gates = convention.gate_activations or (None,)
    pairs = [(convention.activations[0], gate) for gate in gates]
    for activation, gate in pairs + [(each, gates[0]) for each in convention.activations[1:]]:
        layer = _layer(convention, activation=activation, gate_activation=gate)
        found = _built(convention, layer)[0].spec.layers[0]
        assert (found.activation, found.gate_activation) == (activation, gate)
    for axis in convention.axes:
        assert _built(convention, _layer(convention), batch_first=axis == "batch")[0].spec.batch_first == (
            axis == "batch"
        )
    for padding in convention.padding:
        assert _built(convention, _layer(convention), padding=padding)[0].spec.padding == padding


@each_layer
def test_it_reads_in_the_directions_that_it_can(convention: Convention) -> None:
    for direction in convention.directions:
        for flipped in convention.orders if direction == "backward" else [False]:
            layer = _layer(convention, directions=(direction,), flipped=flipped)
            found, _ = _built(convention, layer, proved=True)
            assert (found.spec.layers[0].directions, found.spec.layers[0].flipped) == ((direction,), flipped)
    assert convention.flipped == (convention.flipped and "backward" in convention.directions)
    assert convention.keeps_order == (convention.keeps_order and convention.flipped)
    assert convention.both == bool(convention.merges)
    for merge in convention.merges:
        both = _layer(convention, directions=("forward", "backward"), merge=merge)
        found, _ = _built(convention, both, proved=merge == convention.merges[0])
        assert found.spec.layers[0].merge == merge


@each_layer
def test_it_is_stacked_as_it_says(framework: ModuleType, convention: Convention) -> None:
    if convention.stack == "none":
        assert convention.form == "cell"
        return
    first, second = _layer(convention), replace(_layer(convention), hidden_size=SIZE + 1)
    found, module = _built(convention, first, first)
    assert len(found.spec.layers) == 2
    assert (framework.number_of_modules(module) == 1) == (convention.stack == "uniform")
    found, module = _built(convention, first, second)
    assert found.spec.output_size == SIZE + 1
    assert framework.number_of_modules(module) == 2


@each_layer
def test_a_projection_is_had_or_refused(convention: Convention) -> None:
    if convention.cell != "lstm":
        assert not convention.projection
        return
    layer = _layer(convention, projection_size=2)
    if convention.projection:
        assert _built(convention, layer)[0].spec.layers[0].projection_size == 2
    else:
        with pytest.raises(PortError, match=r"no projection.* Nearest is an LSTM of 4 without one"):
            _built(convention, layer)


@each_layer
def test_its_initial_values_follow_its_rules(framework: ModuleType, convention: Convention) -> None:
    n, h = 48, 64
    if not convention.initial:
        framework.ask_initial(convention)
        return
    framework.seed(3)
    found = porter_of(BACKEND)[1].describe(framework.default(convention, n, h))
    rules = dict(rule.split(": ") for rule in convention.initial)
    assert sorted(f"rnn.0.{name}" for name in rules) == sorted(found.parameters)
    gates = found.spec.layers[0].kind.gates
    for name, rule in rules.items():
        array = found.parameters[f"rnn.0.{name}"]
        if rule.startswith("orthogonal"):
            parts = np.split(array, len(gates), axis=-1) if rule == "orthogonal by gate" else [array]
            for part in parts:
                np.testing.assert_allclose(part @ part.T, np.eye(h), atol=1e-5)
        elif rule == "lecun normal":
            # Of a standard deviation 1/sqrt(n), after what is beyond two of those drawn from is cut off.
            assert array.std() * math.sqrt(n) == pytest.approx(1, rel=0.05)
            assert 1.8 < abs(array).max() * math.sqrt(n) * 0.8796 <= 2 + 1e-6
        elif rule.startswith("zeros"):
            ones = rule.removeprefix("zeros").removeprefix(", ").removesuffix(" ones")
            own = gates[-(array.size // h) :]  # of b_hn the candidate alone
            expected = np.concatenate([np.full(h, float(gate == ones)) for gate in own])
            np.testing.assert_array_equal(array, expected)
        else:
            limit = {
                "uniform 1/sqrt(h)": 1 / math.sqrt(h),
                "uniform 0.07": 0.07,
                "glorot uniform": math.sqrt(6 / sum(array.shape)),
            }
            assert 0.95 < abs(array).max() / limit[rule] <= 1 + 1e-6
            deviation = limit[rule] / math.sqrt(3)
            assert abs(array.mean()) < 4 * deviation / math.sqrt(array.size)
            assert array.std() / deviation == pytest.approx(1, rel=0.15)


@each_layer
def test_its_arrays_have_the_names_that_it_says(framework: ModuleType, convention: Convention) -> None:
    if convention.arrays:
        framework.ask_arrays(convention)


@each_layer
def test_its_dropout_and_its_kernel_are_what_the_framework_says(
    framework: ModuleType, convention: Convention
) -> None:
    framework.seed(4)
    framework.ask_dropout(convention)
    framework.ask_kernel(convention)


def test_every_row_says_where_it_is_documented() -> None:
    for convention in TABLE:
        assert convention.source.startswith("https://")
