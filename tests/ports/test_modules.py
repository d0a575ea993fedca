"""A framework's modules, drawn and with its own initial values: described, proved, built, saved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.fitting import fit
from d2lrnn.ports.porter import porter_of
from d2lrnn.ports.proof import ZEROS, cases

#: PyTorch says so of its own layers in float32.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

LAYERS = list(dict.fromkeys(each.layer for each in conventions(os.environ["D2LRNN_BACKEND"])))

#: How many of each layer; fewer in the short form of those that compile or run each of them eagerly.
NUM_EXAMPLES, NUM_SHORT = 10, 2


@pytest.mark.parametrize("layer", LAYERS)
def test_modules_go_there_and_back(
    framework: ModuleType, layer: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Of one to three layers, with the framework's own initial values."""

    @settings(
        deadline=None, max_examples=NUM_SHORT if pytestconfig.getoption("--every") > 1 else NUM_EXAMPLES,
        derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        report_multiple_bugs=False,
    )  # fmt: skip
    @given(framework.modules(layer))
    def go_there_and_back(make: Callable[[], Any]) -> None:
        _goes_there_and_back(framework, layer, make(), tmp_path)

    go_there_and_back()


def _goes_there_and_back(framework: ModuleType, layer: str, module: Any, tmp_path: Path) -> None:
    namespace = next(row.namespace for row in conventions(framework.NAME) if row.layer == layer)
    ported = d2lrnn.port(module, to=framework.NAME, namespace=namespace)
    assert all(report.passed and not report.by_twin_alone for report in ported.reports)
    assert (ported.found.twin is None) == (ported.spec.dtype == "float64")
    # To its own framework nothing changes, not a bit.
    _, porter = porter_of(framework.NAME)
    again = porter.describe(ported.module)
    fitted = fit(ported.spec, ported.parameters, conventions(framework.NAME), "", namespace)
    assert again.spec == ported.spec == fitted.spec
    for name, array in again.parameters.items():
        np.testing.assert_array_equal(array, ported.parameters[name])
    # The framework itself, called as a user would, and not by the porter.
    X = cases(ported.spec)[ZEROS].inputs
    bound = ported.reports[0].bound
    expected = ported.found.results[ZEROS]["outputs"]
    for each in (module, ported.module):
        np.testing.assert_allclose(framework.called(each, X), expected, rtol=bound, atol=bound)
    ported.save(tmp_path / "ported.safetensors")
    loaded = d2lrnn.load_port(tmp_path / "ported.safetensors")
    assert (loaded.spec, loaded.source) == (ported.spec, framework.NAME)
    for name, array in loaded.parameters.items():
        np.testing.assert_array_equal(array, ported.parameters[name])


def test_a_stranger_is_refused(framework: ModuleType) -> None:
    for stranger in framework.STRANGERS:
        with pytest.raises(PortError, match="cannot be described: give one of"):
            d2lrnn.port(stranger)
    with pytest.raises(PortError, match="a module of no framework that is known here"):
        d2lrnn.port("a text")


def test_what_is_no_stack_is_refused(framework: ModuleType) -> None:
    for module, message in framework.NO_STACKS:
        with pytest.raises(PortError, match=message):
            d2lrnn.port(module)


def test_numbers_of_another_type_are_refused(framework: ModuleType) -> None:
    with pytest.raises(PortError, match="float16"):
        d2lrnn.port(framework.halves(LAYERS[0]))


def test_check_builds_and_proves_what_was_saved(
    framework: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ported.safetensors"
    d2lrnn.port(framework.default(conventions(framework.NAME)[0], 3, 4)).save(path)
    assert main(["check", str(path), "--backend", framework.NAME, "--json", str(tmp_path / "json")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("proved   ") == 3
    assert f"what was built in {framework.NAME} against the {framework.NAME} module: agree" in printed
    document = json.loads((tmp_path / "json").read_text())
    assert len(document["reports"]) == 3
    assert all(report["worst"] <= report["bound"] for report in document["reports"])
