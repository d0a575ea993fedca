"""The doctor and a framework's own modules: their parameters changed as a person would have done."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.values import FloatArray
from d2lrnn.doctor.explanation import Explanation
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.fitting import fit
from d2lrnn.ports.porter import porter_of

CONVENTIONS = list({each.layer: each for each in conventions(os.environ["D2LRNN_BACKEND"])}.values())
SIZE = 6

Arrays = dict[str, FloatArray]


def _built(framework: ModuleType, convention: Convention, change: Callable[[Arrays], Arrays]) -> Any:
    """A module with drawn parameters, some of them changed."""
    porter = porter_of(framework.NAME)[1]
    first, draw = porter.describe(framework.default(convention, SIZE, SIZE)), np.random.RandomState(0)
    (layer,) = first.spec.layers
    if layer.biases == "none":  # as ONNX's nodes are where nothing is said
        layer = replace(layer, biases=next(biases for biases in convention.biases if biases != "none"))
    spec = replace(first.spec, layers=(layer,))
    right = {
        name: draw.uniform(-0.5, 0.5, shape).astype(spec.dtype)
        for name, shape in spec.parameter_shapes().items()
    }
    table = conventions(framework.NAME)
    fitted = fit(spec, {**right, **change(right)}, table, framework.NAME, first.namespace)
    return porter.build(fitted.spec, fitted.parameters, fitted.conventions)


def _transposed(right: Arrays) -> Arrays:
    parts = np.split(right["rnn.0.w_h"], right["rnn.0.w_h"].shape[1] // SIZE, axis=1)
    return {"rnn.0.w_h": np.concatenate([part.T for part in parts], axis=1)}


def _reversed_gates(right: Arrays) -> Arrays:
    parts = np.split(right["rnn.0.w_x"], right["rnn.0.w_x"].shape[1] // SIZE, axis=1)
    return {"rnn.0.w_x": np.concatenate([parts[1], parts[0], *parts[2:]], axis=1)}


def _dropped(right: Arrays) -> Arrays:
    name = "rnn.0.b_h" if "rnn.0.b_h" in right else "rnn.0.b"
    return {name: np.zeros_like(right[name])}


FAULTS = {
    "transposed": (_transposed, "recurrent weights w_h of layer 0"),
    "gate order": (_reversed_gates, "input weights w_x of layer 0"),
    "dropped": (_dropped, "of layer 0 was dropped"),
}


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.layer)
def test_what_befell_a_module_is_named(framework: ModuleType, convention: Convention) -> None:
    right = _built(framework, convention, lambda _: {})
    for kind, (change, words) in FAULTS.items():
        if kind == ("gate order" if len(convention.gates) == 1 else "transposed"):
            continue  # one gate stands in one order, and the orders of several are the more usual fault
        wrong = _built(framework, convention, change)
        _check(d2lrnn.explain_difference(right, wrong), kind, words)
        if kind == "gate order":
            # The same as a function of which nothing is known.
            _check(d2lrnn.explain_difference(right, partial(framework.called, wrong)), kind, words)


def _check(found: Explanation, kind: str, words: str) -> None:
    assert [cause.kind.endswith(kind) for cause in found.causes] == [True], str(found)
    assert words in str(found.causes[0])
    assert found.worst_after is not None
    assert found.worst_after.worst <= found.bound


def test_what_was_ported_agrees_with_its_source(framework: ModuleType) -> None:
    module = framework.default(CONVENTIONS[0], SIZE, SIZE)
    assert d2lrnn.explain_difference(module, d2lrnn.port(module, to=framework.NAME).module).agreed


def test_a_module_that_cannot_be_described_may_be_a_function(framework: ModuleType) -> None:
    module = framework.default(CONVENTIONS[0], SIZE, SIZE)
    with pytest.raises(d2lrnn.D2LError, match=r"b: .* Or give a function of arrays that runs it"):
        d2lrnn.explain_difference(module, framework.STRANGERS[0])
