from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

import d2lrnn
from d2lrnn import checkpoint
from d2lrnn.adapter import ModelSpec, TrainingSpec
from d2lrnn.checkpoint import Run, load_run, save_run
from d2lrnn.data_spec import DataSpec
from d2lrnn.errors import RunError
from d2lrnn.parameters import initial_parameters
from d2lrnn.vocab import Vocab

VOCAB = Vocab(list("abcdefg "))


def _run(seed: int = 0, step: int = 7, dtype: str = "float32") -> Run:
    spec = ModelSpec(len(VOCAB), "gru", "concise", 5, 2, dropout=0.1, dtype=dtype)  # type: ignore[arg-type]
    # Not C-contiguous, which safetensors would write wrongly.
    parameters = {name: np.asfortranarray(value) for name, value in initial_parameters(spec, seed).items()}
    history = [{"epoch": 1, "train_perplexity": 9.5, "val_perplexity": None}]
    return Run(spec, parameters, VOCAB, DataSpec(seed=3), TrainingSpec(2.0, None, 3), step, history, "numpy",
               {"numpy": np.__version__})  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_was_saved_comes_back(tmp_path: Path, dtype: str) -> None:
    run = _run(dtype=dtype)
    saved = save_run(run, tmp_path / "a" / "run")
    for folder in (tmp_path / "a" / "run", saved):
        back = load_run(folder)
        for field in dataclasses.fields(Run):
            if field.name != "parameters":
                assert getattr(back, field.name) == getattr(run, field.name)
        assert list(back.parameters) == list(run.parameters)
        for name, value in back.parameters.items():
            assert value.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(value, run.parameters[name])
    backend = d2lrnn.backend("numpy")
    learner = backend.learner(back.build(backend), back.training)
    assert learner.export_parameters().keys() == run.parameters.keys()


def test_a_new_checkpoint_replaces_the_one_before(tmp_path: Path) -> None:
    save_run(_run(seed=0, step=7), tmp_path)
    (tmp_path / ".writing-orphan").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-00000001").mkdir()
    save_run(_run(seed=1, step=7), tmp_path)
    save_run(_run(seed=2, step=9), tmp_path)
    assert load_run(tmp_path).step == 9
    np.testing.assert_array_equal(load_run(tmp_path).parameters["head.w"], _run(seed=2).parameters["head.w"])
    # What is not a checkpoint of ours is left alone.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "latest", "notes.txt", "step-00000001", "step-00000009",
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ["_write_synced", "sync_folder", "write_atomically"])
def test_a_write_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    save_run(_run(seed=0, step=1), tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, broken, full)
        with pytest.raises(RunError, match=r"cannot be written to .*: No space left on device\. Nothing"):
            save_run(_run(seed=1, step=2), tmp_path)
    assert load_run(tmp_path).step == 1
    save_run(_run(seed=1, step=2), tmp_path)
    assert load_run(tmp_path).step == 2
    assert not list(tmp_path.glob(".writing-*"))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no saved run: make one with d2lrnn train --out"):
        load_run(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "latest").write_text("../../etc")
    with pytest.raises(RunError, match="which is no checkpoint"):
        load_run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        save_run(_run(), tmp_path / "file" / "run")


def test_a_damaged_run_says_where(tmp_path: Path) -> None:
    saved = save_run(_run(), tmp_path)
    model, document = saved / "model.safetensors", saved / "run.json"
    whole, described = model.read_bytes(), json.loads(document.read_text("utf-8"))

    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match="is damaged: its digest is not the one in run"):
        load_run(tmp_path)
    model.unlink()
    with pytest.raises(RunError, match=r"model.safetensors cannot be read: No such file"):
        load_run(tmp_path)
    model.write_bytes(whole)
    for change, message in [
        ({"format": 99}, "is not a run of format 1"),
        ({"vocabulary": ["a"]}, "the vocabulary lacks"),
        ({"model": {**described["model"], "num_hiddens": 6}}, "has shape"),
        ({"model": {**described["model"], "cell": "x"}}, "unknown cell"),
        ({"training": {"speed": 3}}, "is damaged"),
    ]:
        document.write_text(json.dumps({**described, **change}), "utf-8")
        with pytest.raises(RunError, match=message):
            load_run(tmp_path)
    del described["step"]
    document.write_text(json.dumps(described), "utf-8")
    with pytest.raises(RunError, match="step is missing"):
        load_run(tmp_path)
    document.write_bytes(b"{\xff")
    with pytest.raises(RunError, match=r"run.json is damaged"):
        load_run(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="cannot be written to: choose another"):
        save_run(_run(), tmp_path)
