"""Files that a framework wrote are read, and what is written is read by the framework as its users do."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.errors import D2LError, PortError
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.formats.conversion import read, write
from d2lrnn.ports.formats.protocol import hints_of
from d2lrnn.ports.formats.table import Format, find_format, formats
from d2lrnn.ports.ported import Ported
from d2lrnn.ports.proof import ZEROS, cases

BACKEND = os.environ["D2LRNN_BACKEND"]
KINDS = [each.name for each in formats() if each.backend == BACKEND]
LAYERS = list(dict.fromkeys(each.layer for each in conventions(BACKEND)))

pytestmark = [
    # PyTorch says so of its own layers in float32.
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    # TensorFlow's variables are older than the NumPy that Keras saves them with.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

few = settings(
    deadline=None, max_examples=4 if BACKEND in ("torch", "onnx") else 1, derandomize=True,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
)  # fmt: skip


def _file(folder: Path, kind: Format) -> Path:
    return folder / f"file{kind.suffixes[0]}"


def test_every_format_of_the_framework_is_tried(framework: ModuleType) -> None:
    assert sorted(framework.FILES) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", LAYERS)
@few
@given(data=st.data())
def test_a_file_of_the_framework_goes_in_and_out(
    framework: ModuleType, kind: str, layer: str, data: st.DataObject, tmp_path_factory: Any
) -> None:
    files, folder = framework.FILES[kind], tmp_path_factory.mktemp("files")
    module = data.draw(framework.modules(layer))()
    ported = d2lrnn.port(module)
    assume(files.holds(ported.spec))
    path = _file(folder, find_format(kind))
    files.save(module, path)
    found = read(path, find_format(kind), hints_of(ported.spec))
    assert found.spec == ported.spec
    for name, array in ported.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)
    written = _file(folder / "..", find_format(kind)).with_name(f"{folder.name}{path.name}")
    report = write(found, written, find_format(kind)).reports[-1]
    assert report.worst.worst == 0 or BACKEND == "onnx"
    X = cases(ported.spec)[ZEROS].inputs
    outputs = files.called(written, found.build(BACKEND).module, X)
    np.testing.assert_allclose(outputs, framework.called(module, X), rtol=report.bound, atol=report.bound)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not find_format(kind).folder])
def test_a_damaged_file_is_an_error_that_says_so(framework: ModuleType, kind: str, tmp_path: Path) -> None:
    module = framework.default(conventions(BACKEND)[0], 3, 4)
    path, chance = _file(tmp_path, find_format(kind)), random.Random(0)
    framework.FILES[kind].save(module, path)
    hints, content, refused = hints_of(d2lrnn.port(module).spec), path.read_bytes(), 0
    for number in range(40):
        changed = bytearray(content)
        at = chance.randrange(len(changed))
        if number % 2:
            del changed[at:]
        else:
            changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            read(path, find_format(kind), hints)
        except D2LError:
            refused += 1
    assert refused >= 20


def test_what_is_hostile_or_holds_something_else_is_refused(framework: ModuleType, tmp_path: Path) -> None:
    for name, make, message in framework.REFUSED:
        path = tmp_path / name
        make(path)
        if message is None:  # what could run is left out, and the layers are read
            assert "Lambda" in str(read(path, find_format(_kind_of(name)), framework.HINTS).notes)
            continue
        with pytest.raises(PortError, match=message):
            read(path, find_format(_kind_of(name)), framework.HINTS)


def _kind_of(name: str) -> str:
    return next(each.name for each in formats() if each.backend == BACKEND and name.endswith(each.suffixes))


def test_the_command_converts_proves_and_replaces_nothing(
    framework: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = find_format(KINDS[0])
    path = _file(tmp_path, kind)
    module = framework.default(conventions(BACKEND)[-1], 3, 4)
    ported: Ported = d2lrnn.port(module)
    framework.FILES[kind.name].save(module, path)
    json_path, proof = tmp_path / "json", tmp_path / "proof.safetensors"
    command = ["convert", str(path), "--to", "ported", "--json", str(json_path), "--proof", str(proof)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"proved   the {BACKEND} module against the float64 reference: agree" in out
    assert "saved    " in out
    document = json.loads(json_path.read_text())
    assert (document["format"], document["to"]) == (kind.name, "ported")
    assert Path(document["out"]) == tmp_path / "file.ported.safetensors"
    for each in (proof, tmp_path / "file.ported.safetensors"):
        found = d2lrnn.load_port(each)
        for name, array in ported.parameters.items():
            np.testing.assert_array_equal(found.parameters[name], array)
    before = path.read_bytes() if path.is_file() else None
    again = ["convert", str(tmp_path / "file.ported.safetensors"), "--to", kind.name]
    assert main(again) == 2
    assert f"{path} is there already: --overwrite replaces it" in capsys.readouterr().err
    assert before == (path.read_bytes() if path.is_file() else None)
    assert main([*again, "--overwrite"]) == 0
    assert f"what {BACKEND} loads from the new file against" in capsys.readouterr().out
    assert {each.name for each in tmp_path.iterdir()} == {
        path.name, "file.ported.safetensors", "json", "proof.safetensors",
    }  # fmt: skip
