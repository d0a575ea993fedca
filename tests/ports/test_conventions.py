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
    return LayerSpec(convention.cell, SIZE, SIZE, **{"biases": "two", "reset_after": reset, **changes})


def _built(*layers: LayerSpec, proved: bool = False, **options: Any) -> tuple[Described, Any]:
    """A module with drawn parameters, and what it is to the framework; Keras takes long to prove it."""
    spec = StackSpec(layers, **options)
    draw = np.random.RandomState(1)
    parameters: dict[str, FloatArray] = {
        name: draw.uniform(-0.5, 0.5, shape).astype(spec.dtype)
        for name, shape in spec.parameter_shapes().items()
    }
    fitted = fit(spec, parameters, TABLE, BACKEND)
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
    convention: Convention, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, module = _built(_layer(convention), form=convention.form, proved=True)
    porter = import_module(f"d2lrnn_{BACKEND}.porter")
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
    numbers = {"none": 0, "one": 1, "two": 2}
    for biases in convention.biases:
        layer = _layer(convention, biases=biases)
        found, module = _built(layer, form=convention.form)
        width = len(layer.kind.gates) * SIZE
        assert framework.bias_vectors(module, width) == numbers[biases]
        assert found.spec.layers[0].biases == biases


@each_layer
def test_it_has_the_activations_axes_and_paddings_that_it_can(convention: Convention) -> None:
    gates = convention.gate_activations or (None,)
    pairs = [(convention.activations[0], gate) for gate in gates]
    for activation, gate in pairs + [(each, gates[0]) for each in convention.activations[1:]]:
        layer = _layer(convention, activation=activation, gate_activation=gate)
        found = _built(layer, form=convention.form)[0].spec.layers[0]
        assert (found.activation, found.gate_activation) == (activation, gate)
    for axis in convention.axes:
        assert _built(_layer(convention), batch_first=axis == "batch")[0].spec.batch_first == (
            axis == "batch"
        )
    for padding in convention.padding:
        assert _built(_layer(convention), padding=padding)[0].spec.padding == padding


@each_layer
def test_it_reads_in_the_directions_that_it_can(convention: Convention) -> None:
    for direction in convention.directions:
        flipped = convention.flipped and direction == "backward"
        layer = _layer(convention, directions=(direction,), flipped=flipped)
        found, _ = _built(layer, form=convention.form, proved=True)
        assert found.spec.layers[0].directions == (direction,)
    assert convention.flipped == (convention.flipped and "backward" in convention.directions)
    assert convention.both == bool(convention.merges)
    for merge in convention.merges:
        both = _layer(convention, directions=("forward", "backward"), merge=merge)
        found, _ = _built(both, proved=merge == convention.merges[0])
        assert found.spec.layers[0].merge == merge


@each_layer
def test_it_is_stacked_as_it_says(convention: Convention) -> None:
    if convention.stack == "none":
        assert convention.form == "cell"
        return
    first, second = _layer(convention), replace(_layer(convention), hidden_size=SIZE + 1)
    found, module = _built(first, first)
    assert len(found.spec.layers) == 2
    if convention.stack == "single":
        assert len(module.layers) == 2
        assert _built(first, second)[0].spec.output_size == SIZE + 1
    else:
        with pytest.raises(PortError, match="are all alike, and these differ: port them one"):
            _built(first, second)


@each_layer
def test_a_projection_is_had_or_refused(convention: Convention) -> None:
    if convention.cell != "lstm":
        assert not convention.projection
        return
    layer = _layer(convention, projection_size=2)
    if convention.projection:
        assert _built(layer, form=convention.form)[0].spec.layers[0].projection_size == 2
    else:
        with pytest.raises(PortError, match=r"no projection.* Nearest is an LSTM of 4 without one"):
            _built(layer, form=convention.form)


@each_layer
def test_its_initial_values_follow_its_rules(framework: ModuleType, convention: Convention) -> None:
    n, h = 48, 64
    framework.seed(3)
    found = porter_of(BACKEND)[1].describe(framework.default(convention, n, h))
    rules = dict(rule.split(": ") for rule in convention.initial)
    assert sorted(f"rnn.0.{name}" for name in rules) == sorted(found.parameters)
    gates = found.spec.layers[0].kind.gates
    for name, rule in rules.items():
        array = found.parameters[f"rnn.0.{name}"]
        if rule == "orthogonal":
            np.testing.assert_allclose(array @ array.T, np.eye(h), atol=1e-5)
        elif rule.startswith("zeros"):
            ones = rule.removeprefix("zeros").removeprefix(", ").removesuffix(" ones")
            expected = np.concatenate([np.full(h, float(gate == ones)) for gate in gates])
            np.testing.assert_array_equal(array, expected)
        else:
            limit = {"uniform 1/sqrt(h)": 1 / math.sqrt(h), "glorot uniform": math.sqrt(6 / sum(array.shape))}
            assert 0.95 < abs(array).max() / limit[rule] <= 1 + 1e-6
            deviation = limit[rule] / math.sqrt(3)
            assert abs(array.mean()) < 4 * deviation / math.sqrt(array.size)
            assert array.std() / deviation == pytest.approx(1, rel=0.15)


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
