"""Exported models in a process that does not know the library: the logits and states are its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import python_of
from parity.models import BACKEND, REPRESENTATIVE, drawn_parameters, name_of

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.errors import OccupiedError, RunError, SpecError
from d2lrnn.registry import find_backend

FORMAT = find_backend(BACKEND.name).exports
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "export.md"

#: Both forms of a cell, several layers, a state of two parts, an embedding, a tied one, and float64.
KINDS = [REPRESENTATIVE[index] for index in (5, 10, 11) if index < len(REPRESENTATIVE)]
KINDS[-1] = replace(KINDS[-1], dtype="float64")

#: How each format is called with tokens and states, in the order of its outputs.
LOADERS = {
    "onnx": """
import onnxruntime
def load(path):
    session = onnxruntime.InferenceSession(path)
    return lambda **inputs: session.run(None, inputs)
""",
    "savedmodel": """
import tensorflow as tf
def load(path):
    function = tf.saved_model.load(path).signatures["serving_default"]
    def call(**inputs):
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        names = ["logits", *(f"next_{name}" for name in inputs if name != "tokens")]
        return [outputs[name].numpy() for name in names]
    return call
""",
    "stablehlo": """
import jax
from jax import export
jax.config.update("jax_enable_x64", True)
def load(path):
    with open(path, "rb") as file:
        function = export.deserialize(bytearray(file.read()))
    return lambda **inputs: function.call(*inputs.values())
""",
}

CHECK = """
import pathlib, sys
import numpy as np
for path in sorted(pathlib.Path().glob("*.npz")):
    cases, model = np.load(path), load(path.stem)
    for case in ("whole", "single"):
        inputs = {name: cases[f"{case} {name}"] for name in ("tokens", "h", "c") if f"{case} {name}" in cases}
        for number, output in enumerate(model(**inputs)):
            expected = cases[f"{case} {number}"]
            assert output.dtype == expected.dtype, (path.stem, output.dtype)
            np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5, err_msg=f"{path.stem} {case}")
    print("checked", path.stem)
assert not [name for name in sys.modules if name.startswith("d2lrnn")]
"""


def _python(code: str, folder: Path) -> str:
    """What a program prints in a process that cannot import the library."""
    path = [each for each in sys.path if each and not Path(each, "d2lrnn_numpy").is_dir()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _cases(reference: Backend, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Inputs and what the library gives for them, step by step; of more steps than one, and of one."""
    learner = reference.learner(reference.build(spec, drawn_parameters(spec)), TrainingSpec())
    random, cases = np.random.default_rng(0), {}
    for case, (B, T) in {"whole": (3, 5), "single": (1, 1)}.items():
        tokens = random.integers(0, spec.vocab_size, (B, T), np.int32)
        shape = (spec.num_layers, B, spec.num_hiddens)
        before = tuple(random.normal(size=shape).astype(spec.dtype) for _ in range(spec.num_states))
        state, logits = learner.import_state(before), []
        for t in range(T):
            step, state = learner.predict_step(tokens[:, t], state)
            logits.append(step)
        outputs = [np.stack(logits, axis=1), *learner.export_state(state)]
        inputs = {"tokens": tokens, **dict(zip(find_cell(spec.cell).states, before, strict=True))}
        cases |= {f"{case} {name}": value for name, value in inputs.items()}
        cases |= {f"{case} {number}": value for number, value in enumerate(outputs)}
    return cases


if FORMAT is not None:

    def test_an_exported_model_gives_the_same_without_the_library(
        backend: Backend, reference: Backend, tmp_path: Path
    ) -> None:
        for spec in KINDS:
            d2lrnn.export(backend.build(spec, drawn_parameters(spec)), tmp_path / name_of(spec), to=FORMAT)
            np.savez(tmp_path / f"{name_of(spec)}.npz", **_cases(reference, spec))
        printed = _python(LOADERS[str(FORMAT)] + CHECK, tmp_path)
        assert printed.count("checked") == len(KINDS) == 3

    def test_the_page_shows_how_a_run_is_exported_and_called(
        backend: Backend,
        reference: Backend,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        spec = ModelSpec(28, "gru", num_hiddens=32)
        d2lrnn.save(backend.build(spec, drawn_parameters(spec)), "runs/gru")
        command = ["export", "runs/gru", "--to", str(FORMAT), "--out", f"gru.{FORMAT}"]
        assert main(command) == 0
        assert f"saved    gru.{FORMAT}, {FORMAT}" in capsys.readouterr().out
        (block,) = [block for block in python_of(PAGE) if f'"gru.{FORMAT}"' in block]
        _python(f"{block}\nnp.savez('out.npz', logits=logits, next_h=next_h)", tmp_path)
        learner = reference.learner(d2lrnn.load("runs/gru", "numpy"), TrainingSpec())
        state = learner.initial_state(1)
        for t, token in enumerate([3, 1, 4]):
            logits, state = learner.predict_step(np.array([token], np.int32), state)
            np.testing.assert_allclose(np.load("out.npz")["logits"][:, t], logits, atol=1e-5)
        np.testing.assert_allclose(np.load("out.npz")["next_h"], learner.export_state(state)[0], atol=1e-5)
        assert main(command) == 2
        assert (
            capsys.readouterr().err
            == f"d2lrnn: --out gru.{FORMAT} is there already: --overwrite replaces it\n"
        )

    def test_what_is_there_is_replaced_only_by_its_like(
        backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = ModelSpec(11, num_hiddens=8)
        model = backend.build(spec, drawn_parameters(spec))
        folder, file = tmp_path / "folder", tmp_path / "file"

        def write(content: str, *, files: bool) -> None:
            def write_export(self: Backend, model: object, path: Path) -> None:
                path.mkdir() if files else path.write_text(content)
                if files:
                    (path / "model").write_text(content)
                if content == "half":
                    raise OSError(28, "No space left on device")

            monkeypatch.setattr(type(backend), "write_export", write_export)

        def kept() -> dict[str, str]:
            return {
                str(path.relative_to(tmp_path)): path.read_text()
                for path in tmp_path.rglob("*")
                if path.is_file()
            }

        write("first", files=True)
        d2lrnn.export(model, folder)
        write("first", files=False)
        d2lrnn.export(model, file)
        for path in (folder, file):
            with pytest.raises(
                OccupiedError, match="is there already: choose another name, or replace it with"
            ):
                d2lrnn.export(model, path)
        with pytest.raises(OccupiedError, match="is no model of this format"):
            d2lrnn.export(model, folder, overwrite=True)
        write("half", files=False)
        with pytest.raises(RunError, match="cannot be written: No space left"):
            d2lrnn.export(model, file, overwrite=True)
        write("half", files=True)
        with pytest.raises(RunError, match="cannot be written: No space left"):
            d2lrnn.export(model, folder, overwrite=True)
        assert kept() == {"folder/model": "first", "file": "first"}
        write("second", files=True)
        d2lrnn.export(model, folder, overwrite=True)
        with pytest.raises(OccupiedError, match="is no model of this format"):
            d2lrnn.export(model, file, overwrite=True)
        write("second", files=False)
        d2lrnn.export(model, file, overwrite=True)
        assert kept() == {"folder/model": "second", "file": "second"}
        (folder / "notes").write_text("mine")
        write("third", files=True)
        with pytest.raises(OccupiedError, match="is no model of this format"):
            d2lrnn.export(model, folder, overwrite=True)
        assert kept() == {"folder/model": "second", "folder/notes": "mine", "file": "second"}

else:

    def test_a_backend_without_a_format_names_those_that_have_one(backend: Backend, tmp_path: Path) -> None:
        spec = ModelSpec(11)
        with pytest.raises(
            SpecError, match=r"has no format to export a model to.*onnx.*stablehlo.*savedmodel"
        ):
            d2lrnn.export(backend.build(spec, drawn_parameters(spec)), tmp_path / "model")
        assert list(tmp_path.iterdir()) == []
