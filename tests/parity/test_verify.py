"""``d2lrnn verify`` on the backend under test, in a process of its own, as a user has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from parity.models import BACKEND, built_here
from parity.test_gradients import TOLERANCE as OF_GRADIENTS
from parity.test_layers import TOLERANCE as OF_OUTPUTS
from parity.test_optimizers import TOLERANCE as OF_STEPS

from d2lrnn.cli.main import main
from d2lrnn.contract.cells import LSTM
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.verification.comparison import GRADIENTS, OUTPUTS, bound_of
from d2lrnn.verification.models import TRAININGS

#: Where every model is compiled several times, one cell stands for all.
_CELLS = {"jax": [LSTM.name], "tensorflow": [LSTM.name]}.get(BACKEND.name, [])


def test_the_backend_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "verify.json"
    chosen = [word for cell in _CELLS for word in ("--cell", cell)]
    code = main(["verify", "--backend", BACKEND.name, "--device", "cpu", *chosen, "--json", str(file)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert f"{BACKEND.name}: agrees: " in printed
    (told,) = json.loads(file.read_text())["backends"]
    assert told["broken"] == []
    assert told["versions"] == BACKEND.versions()
    (device,) = told["devices"]
    compared = {(each["model"], each["dtype"], each["part"]) for each in device["comparisons"]}
    for cell in _CELLS or BACKEND.cells("scratch"):
        for implementation in ("scratch", "concise"):
            if cell in BACKEND.cells(implementation):
                for part in (OUTPUTS, GRADIENTS):
                    assert (f"{cell} {implementation}", "float32", part) in compared
                assert (f"{cell} {implementation}", "float64", OUTPUTS) in compared
    if built_here(ModelSpec(11, LSTM.name, "concise")):
        assert {part for _, _, part in compared} == {OUTPUTS, GRADIENTS, *TRAININGS}
        assert device["pace"]["step"] > 0
    # A third party's backend may have no module that says how it multiplies.
    own = BACKEND.name in ("numpy", "torch", "tensorflow", "jax", "mxnet")
    assert {each["fault"] for each in device["products"]} == ({None} if own else set())
    assert not [each for each in device["products"] if each["bits"] not in (24, 53)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bounds_are_those_of_the_tests(dtype: str) -> None:
    assert bound_of(OUTPUTS, dtype) == OF_OUTPUTS[dtype]
    assert bound_of(GRADIENTS, dtype) == OF_GRADIENTS[dtype]
    for training in TRAININGS:
        assert bound_of(training, dtype) == OF_STEPS[dtype]
