"""Saved runs: what comes back, what stays, and what a failure leaves."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import LeftoverWarning, MissingCellError, OccupiedError, RunError, SpecError
from d2lrnn.saving import checkpoint, run_folder
from d2lrnn.saving.run import Change, Run
from d2lrnn.saving.run_folder import check_folder, load_run, save_run
from d2lrnn.training.history import EpochPart, EpochRecord, Position
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.schedules import Cosine

#: Bits per token of the epoch that the run in format-2 was in.
FORMAT_2_GOES_ON_TO = 3.9904208177681597

VOCAB = Vocab(list("abcdefg "))
BATCH_SIZE = 4


def _record(epoch: int, val_perplexity: float = 8.5) -> EpochRecord:
    return EpochRecord(epoch, float("inf"), val_perplexity, 0.1 + 0.2, 3.25, 1234.5, 7)


def _run(
    *val_perplexities: float, seed: int = 0, dtype: str = "float32", cell: str = "gru", **changes: Any
) -> Run:
    """A run with an epoch for every perplexity."""
    spec = ModelSpec(len(VOCAB), cell, "concise", 5, 2, dropout=0.1, dtype=dtype)  # type: ignore[arg-type]
    # Not C-contiguous, which safetensors would write wrongly.
    parameters = {name: np.asfortranarray(value) for name, value in initial_parameters(spec, seed).items()}
    epochs = tuple(_record(number, value) for number, value in enumerate(val_perplexities or [9.5], start=1))
    run = Run(
        model=spec,
        parameters=parameters,
        vocab=VOCAB,
        data=DataSpec(seed=3, batch_size=BATCH_SIZE, iterator="sequential"),
        training=TrainingSpec(2.0, None, 3),
        position=Position(7 * len(epochs), epochs),
        num_epochs=12,
        text_digest="ab" * 32,
        backend="numpy",
        versions={"numpy": np.__version__},
        identity="this run",
    )
    return dataclasses.replace(run, **changes)


def _part(cell: str, dtype: str) -> EpochPart:
    random = np.random.default_rng(5)
    state = tuple(random.normal(size=(2, BATCH_SIZE, 5)).astype(dtype) for _ in range(1 + (cell == "lstm")))
    return EpochPart(3, 0.1 + 0.2, 77, 1.5, state)


def _checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_what_was_saved_comes_back(tmp_path: Path, dtype: str, cell: str) -> None:
    run = _run(9.5, 8.5, dtype=dtype, cell=cell)
    run = dataclasses.replace(run, position=dataclasses.replace(run.position, part=_part(cell, dtype)))
    saved = save_run(run, tmp_path / "a" / "run")
    for folder in (tmp_path / "a" / "run", saved, tmp_path / "a" / "run" / "latest"):
        back = load_run(folder)
        for field in dataclasses.fields(Run):
            if field.name not in ("parameters", "position"):
                assert getattr(back, field.name) == getattr(run, field.name)
        assert back.position.epochs == run.position.epochs
        assert back.step == 14
        assert list(back.parameters) == list(run.parameters)
        for name, value in back.parameters.items():
            assert value.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(value, run.parameters[name])
        part, before = back.position.part, run.position.part
        assert part is not None
        assert before is not None
        assert dataclasses.replace(part, state=None) == dataclasses.replace(before, state=None)
        for mine, theirs in zip(part.state or (), before.state or (), strict=True):
            assert mine.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(mine, theirs)
    backend = d2lrnn.backend("numpy")
    learner = backend.learner(back.build(backend), TrainingSpec())
    assert learner.export_parameters().keys() == run.parameters.keys()


def test_a_model_alone_needs_no_text(tmp_path: Path) -> None:
    run = _run()
    alone = Run(run.model, run.parameters)
    save_run(alone, tmp_path)
    back = load_run(tmp_path)
    assert (back.vocab, back.data, back.training, back.position) == (None, None, None, Position())


@pytest.mark.parametrize("alone", [True, False])
def test_the_vocabulary_still_knows_what_its_text_was(tmp_path: Path, alone: bool) -> None:
    vocab = Vocab(list("abcdefg "))
    vocab.unit, vocab.lower = "word", True
    run = _run(vocab=vocab)
    if alone:
        run = Run(run.model, run.parameters, vocab)
    else:
        run = dataclasses.replace(run, data=DataSpec("novel.txt", unit="word", normalized=True))
    save_run(run, tmp_path / "run")
    again = load_run(tmp_path / "run").vocab
    assert again == vocab
    assert again is not None
    assert (again.unit, again.lower) == ("word", True)
    # As it was written before there were these fields.
    file = tmp_path / "run" / "latest" / "run.json"
    document = json.loads(file.read_text("utf-8"))
    assert (document.pop("unit"), document.pop("lower")) == ("word", True)
    file.write_text(json.dumps(document), "utf-8")
    hostile.seal(file.parent)
    again = load_run(tmp_path / "run").vocab
    assert again is not None
    assert (again.unit, again.lower) == ((None, False) if alone else ("word", True))


def test_tokens_that_are_no_strings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    vocab = Vocab([(letter, letter) for letter in "abcdefg"])
    with pytest.raises(
        RunError, match=r"holds \('a', 'a'\), and tokens that are not strings cannot be saved"
    ):
        save_run(_run(vocab=vocab), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*step*"))


def test_other_programs_find_the_files_and_can_check_them(tmp_path: Path) -> None:
    """The folder looks to them like one checkpoint, the newest."""
    import safetensors.numpy

    os.umask(umask := os.umask(0))
    save_run(_run(9.5), tmp_path / "run")
    saved = save_run(_run(9.5, 8.5, seed=2), tmp_path / "run")
    stored = safetensors.numpy.load_file(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(stored["head.w"], _run(seed=2).parameters["head.w"])
    document = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert (document["format"], document["position"]["step"]) == (3, 14)
    assert saved.stat().st_mode & 0o777 == 0o777 & ~umask
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=saved, check=True, capture_output=True)


def test_a_copy_of_a_run_is_a_run(tmp_path: Path) -> None:
    """Copying with the links followed leaves folders where they were."""
    for perplexity in (9.5, 8.5, 8.7):
        save_run(_run(*[9.5, 8.5, 8.7][: [9.5, 8.5, 8.7].index(perplexity) + 1]), tmp_path / "run")
    copy = Path(shutil.copytree(tmp_path / "run", tmp_path / "copy"))
    assert not (copy / "latest").is_symlink()
    assert load_run(copy).step == load_run(copy / "latest").step == 21
    assert load_run(copy / "best").step == 14
    save_run(_run(9.5, 8.5, 8.7, 8.6), copy)
    assert load_run(copy).step == 28
    assert load_run(copy / "best").step == 14
    # A checkpoint that was taken out of its run stands alone.
    shutil.copytree(copy / "best", tmp_path / "alone")
    assert load_run(tmp_path / "alone").step == 14


def test_a_checkpoint_that_a_kill_left_without_a_name_goes(tmp_path: Path) -> None:
    save_run(_run(9.0), tmp_path)
    save_run(_run(9.0, 8.0), tmp_path, keep=2)
    # As if the second had been killed before it was named, and its epoch were trained again, more slowly.
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").symlink_to("step-00000007")
    again = _run(9.0, 8.0, 7.0)
    first, second, third = again.position.epochs
    slower = (first, dataclasses.replace(second, tokens_per_second=1.0), third)
    again = dataclasses.replace(again, position=Position(21, slower))
    save_run(again, tmp_path)
    assert _checkpoints(tmp_path) == ["step-00000021"]


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    scores = [9.0, 7.0, 8.0, 8.5, 7.5, 7.0, 9.0]
    kept = []
    for count in range(1, len(scores) + 1):
        save_run(_run(*scores[:count]), tmp_path, keep=2)
        kept.append(_checkpoints(tmp_path))
        assert load_run(tmp_path).step == 7 * count
    assert kept == [
        ["step-00000007"],
        ["step-00000007", "step-00000014"],
        ["step-00000014", "step-00000021"],
        ["step-00000014", "step-00000021", "step-00000028"],
        ["step-00000014", "step-00000028", "step-00000035"],
        # As good as the best one: the older stays.
        ["step-00000014", "step-00000035", "step-00000042"],
        ["step-00000014", "step-00000042", "step-00000049"],
    ]
    assert load_run(tmp_path / "best").position.epochs[-1].val_perplexity == 7.0
    with pytest.raises(SpecError, match="keep is 0: it must be at least 1"):
        save_run(_run(), tmp_path, keep=0)


def test_inside_an_epoch_nothing_is_the_best(tmp_path: Path) -> None:
    for count in (1, 2):
        run = _run(*[9.0, 6.0][:count])
        save_run(run, tmp_path)
        position = dataclasses.replace(run.position, step=run.step + 3, part=_part("gru", "float32"))
        save_run(dataclasses.replace(run, position=position), tmp_path)
        assert load_run(tmp_path).position.part is not None
        assert load_run(tmp_path / "best").step == 7 * count
    assert _checkpoints(tmp_path) == ["step-00000014", "step-00000017"]


def test_another_run_in_the_same_folder_goes_only_where_that_is_asked_for(tmp_path: Path) -> None:
    for count in (1, 2):
        save_run(_run(*[9.0, 8.0][:count], identity="another run"), tmp_path, keep=5)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        OccupiedError, match=r"holds another run, or .*: choose another .*, or pass overwrite"
    ):
        save_run(_run(9.9, seed=1), tmp_path, keep=5)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / ".writing-orphan").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-00000001").mkdir()
    save_run(_run(9.9, seed=1), tmp_path, keep=5, overwrite=True)
    assert load_run(tmp_path).identity == load_run(tmp_path / "best").identity == "this run"
    np.testing.assert_array_equal(load_run(tmp_path).parameters["head.w"], _run(seed=1).parameters["head.w"])
    # What is not a checkpoint of ours is left alone.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best", "history.jsonl", "latest", "model.safetensors", "notes.txt", "run.json", "step-00000001",
        "step-00000007-2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["best", "latest"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_nothing_of_the_users_own_is_replaced(tmp_path: Path, name: str, kind: str) -> None:
    """A file, a folder or a link that the library did not make, but that has a name of its own files."""
    mine, kept = tmp_path / "run" / name, tmp_path / "kept"
    mine.parent.mkdir()
    if kind == "file":
        mine.write_text("the best of my poems")
    elif kind == "folder":
        mine.mkdir()
        for file in ("run.json", "model.safetensors", "notes.txt"):
            (mine / file).write_text("mine")
    else:
        kept.write_text("mine")
        mine.symlink_to(kept)
    before = mine.lstat()
    for overwrite in (False, True):
        with pytest.raises(RunError, match=f"{name} is no file of a saved run: choose another folder"):
            save_run(_run(9.5), mine.parent, overwrite=overwrite)
    assert os.path.samestat(mine.lstat(), before)
    assert mine.lstat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in mine.parent.iterdir()] == [name]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, value: float) -> None:
    save_run(_run(9.5), tmp_path)
    run = _run(9.5, 8.0)
    run.parameters["head.b"][1] = value
    with pytest.raises(
        RunError, match=r"head\.b is not finite: training has diverged, and such a run is not"
    ):
        save_run(run, tmp_path)
    assert load_run(tmp_path).step == 7
    assert not list(tmp_path.glob(".writing-*"))


def test_a_checkpoint_with_a_file_of_the_users_stays(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        save_run(_run(*[9.0, 8.0, 7.0][:count]), tmp_path)
        if count == 1:
            (tmp_path / "step-00000007" / "notes.txt").write_text("mine")
    assert _checkpoints(tmp_path) == ["step-00000007", "step-00000021"]
    assert (tmp_path / "step-00000007" / "notes.txt").read_text() == "mine"


def test_a_run_of_format_1_opens_and_goes_on(tmp_path: Path) -> None:
    """The folder beside this file was written by version 0.1.0."""
    folder = Path(shutil.copytree(Path(__file__).parent / "format-1", tmp_path / "run"))
    run = load_run(folder)
    assert (run.step, run.model.cell, run.num_epochs) == (18, "gru", 2)
    assert [record["epoch"] for record in run.history] == [1, 2]
    assert run.history[1]["val_perplexity"] == pytest.approx(7.052, abs=1e-3)
    save_run(dataclasses.replace(run, position=dataclasses.replace(run.position, step=27)), folder)
    assert load_run(folder).step == 27
    # It is known as the same run: its best checkpoint stays.
    assert _checkpoints(folder) == ["step-00000018", "step-00000027"]
    assert load_run(folder / "best").step == 18


def test_a_run_of_format_2_opens_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder beside this file was written by version 0.3.0, after a batch of the second epoch."""
    folder = Path(shutil.copytree(Path(__file__).parent / "format-2", tmp_path / "run", symlinks=True))
    run = load_run(folder)
    assert run.training == TrainingSpec(2.0, 0.5, 1)
    assert run.model == ModelSpec(28, "lstm", "concise", 4, 2, dropout=0.25)
    assert (run.optimizer_state, run.changes, len(run.history)) == ({}, (), 1)
    assert run.position.part is not None
    assert run.position.part.state is not None
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 0
    assert "validation" in capsys.readouterr().out
    again = load_run(folder)
    assert json.loads((folder / "run.json").read_text("utf-8"))["format"] == 3
    # What version 0.3.0 itself came to; another BLAS rounds otherwise.
    assert again.history[1]["train_bits_per_token"] == pytest.approx(FORMAT_2_GOES_ON_TO, rel=1e-5)


def test_a_cell_of_a_package_that_is_not_here(tmp_path: Path) -> None:
    """The run is whole, and the message does not say that it is damaged."""
    file = save_run(_run(9.5), tmp_path) / "run.json"
    file.write_text(file.read_text("utf-8").replace('"cell": "gru"', '"cell": "lstm-of-theirs"'), "utf-8")
    hostile.seal(file.parent)
    with pytest.raises(MissingCellError, match=r"run.json needs the cell 'lstm-of-theirs', which no package"):
        load_run(tmp_path)


def test_what_the_optimizer_remembers_comes_back(tmp_path: Path) -> None:
    backend = d2lrnn.backend("numpy")
    run = _run(9.5, training=TrainingSpec(0.1, 1.0, 3, Adam(weight_decay=0.1), Cosine(steps=50), 2),
               changes=(Change(5, TrainingSpec(2.0, None, 3, Adam())),))  # fmt: skip
    assert run.training is not None
    learner = backend.learner(run.build(backend), run.training)
    random = np.random.default_rng(0)
    tokens = random.integers(0, len(VOCAB), (2, BATCH_SIZE, 6)).astype(np.int32)
    learner.train_step(Batch(*tokens), learner.initial_state(BATCH_SIZE))
    run = dataclasses.replace(run, optimizer_state=learner.export_optimizer_state())
    checkpoint_folder = save_run(run, tmp_path)
    back = load_run(tmp_path)
    assert (back.training, back.changes) == (run.training, run.changes)
    assert list(back.optimizer_state) == list(run.optimizer_state)
    assert {"optimizer.m.rnn.0.w_x", "optimizer.v.head.b"} < set(back.optimizer_state)
    for name, value in back.optimizer_state.items():
        np.testing.assert_array_equal(value, run.optimizer_state[name])
    (checkpoint_folder / "optimizer.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"optimizer.safetensors is damaged"):
        load_run(tmp_path)


@pytest.mark.parametrize("broken", ["write_synced", "sync_folder", "_point"])
def test_a_write_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    save_run(_run(9.0), tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder if broken == "_point" else checkpoint, broken, full)
        with pytest.raises(RunError, match=r"cannot be written to .*: No space left on device\. Nothing"):
            save_run(_run(9.0, 8.0, seed=1), tmp_path)
    assert load_run(tmp_path).step == 7
    save_run(_run(9.0, 8.0, seed=1), tmp_path)
    assert load_run(tmp_path).step == 14
    assert not list(tmp_path.glob(".writing-*"))


def test_a_full_disk_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    """The system's own limit on the size of a file, met in the middle of the model."""
    save_run(_run(9.0), tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        with pytest.raises(RunError, match=r"cannot be written to .*: File too large\. Nothing was lost"):
            save_run(_run(9.0, 8.0, seed=1), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    np.testing.assert_array_equal(load_run(tmp_path).parameters["head.w"], _run().parameters["head.w"])
    assert _checkpoints(tmp_path) == ["step-00000007"]


def test_without_symbolic_links_a_file_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", none)
    for count in (1, 2, 3):
        save_run(_run(*[9.0, 7.0, 8.0][:count]), tmp_path)
    assert (tmp_path / "latest").read_text() == "step-00000021"
    assert load_run(tmp_path).step == load_run(tmp_path / "latest").step == 21
    assert load_run(tmp_path / "best").step == 14
    assert _checkpoints(tmp_path) == ["step-00000014", "step-00000021"]


def test_a_reader_does_not_mind_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint that is being read is replaced by the next."""
    save_run(_run(9.0), tmp_path)
    read = run_folder.read_checkpoint

    def late(folder: Path) -> Run:
        monkeypatch.setattr(run_folder, "read_checkpoint", read)
        save_run(_run(9.0, 8.0), tmp_path)
        return read(folder)

    monkeypatch.setattr(run_folder, "read_checkpoint", late)
    assert load_run(tmp_path).step == 14


def test_a_damaged_checkpoint_says_where_another_one_is(tmp_path: Path) -> None:
    save_run(_run(8.0), tmp_path)
    saved = save_run(_run(8.0, 9.0), tmp_path)
    (saved / "model.safetensors").write_bytes(b"x" * (saved / "model.safetensors").stat().st_size)
    other = tmp_path / "step-00000007"
    message = rf"{saved.name}/model.safetensors is damaged: .* There is another checkpoint: {other}$"
    with pytest.raises(RunError, match=message):
        load_run(tmp_path)
    assert load_run(other).step == 7


@pytest.mark.parametrize("pointer", ["missing", "empty", "nowhere"])
def test_a_run_is_found_where_its_pointers_are_gone(tmp_path: Path, pointer: str) -> None:
    """As after a power cut; the newest checkpoint is damaged, too."""
    for count in (1, 2, 3):
        saved = save_run(_run(*[8.0, 7.0, 9.0][:count]), tmp_path, keep=3)
    for name in ("latest", "best"):
        (tmp_path / name).unlink()
        if pointer != "missing":
            (tmp_path / name).write_text("" if pointer == "empty" else "step-00009999")
    assert load_run(tmp_path).step == load_run(tmp_path / "latest").step == 21
    assert load_run(tmp_path / "best").step == 14
    (saved / "run.json").write_bytes(b"")
    assert load_run(tmp_path).step == 14
    # Nor is it taken for an empty folder.
    with pytest.raises(OccupiedError):
        save_run(_run(8.0, identity="another run"), tmp_path)
    save_run(_run(8.0, 7.0, 6.0), tmp_path)
    assert load_run(tmp_path).step == load_run(tmp_path / "best").step == 21


def test_whoever_reads_during_saves_sees_one_whole_checkpoint(tmp_path: Path) -> None:
    """Parameters and description belong together, by whatever name they are found."""
    runs = [_run(*[9.0 - 0.01 * epoch for epoch in range(count)], seed=count) for count in (1, 2, 3, 4)]
    expected = {run.step: run.parameters["head.w"] for run in runs}
    save_run(runs[0], tmp_path)
    ended, steps = threading.Event(), set()

    def write() -> None:
        try:
            for number in range(200):
                save_run(runs[number % 4], tmp_path, overwrite=True)
        finally:
            ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not ended.is_set():
            for folder in (tmp_path, tmp_path / "best", tmp_path / "latest"):
                run = load_run(folder)
                steps.add(run.step)
                np.testing.assert_array_equal(run.parameters["head.w"], expected[run.step])
    finally:
        writer.join()
    assert len(steps) > 1


def test_what_cannot_be_pruned_is_said_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, and a checkpoint that is protected. What was written counts as written."""
    elsewhere = tmp_path / "elsewhere"
    run = tmp_path / "run"
    first = save_run(_run(9.0), run)
    shutil.move(first, elsewhere)
    first.symlink_to(elsewhere)
    with pytest.warns(LeftoverWarning, match=r"step-00000007 cannot be removed: it is a link\. It is left"):
        save_run(_run(9.0, 8.0), run)
    assert first.is_symlink()
    assert load_run(elsewhere).step == 7
    first.unlink()

    def protected(path: Path, **_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", protected)
        with pytest.warns(LeftoverWarning, match=r"step-00000014 cannot be removed: Operation not permitted"):
            save_run(_run(9.0, 8.0, 7.0), run)
    assert load_run(run).step == load_run(run / "best").step == 21
    assert _checkpoints(run) == ["step-00000014", "step-00000021"]
    save_run(_run(9.0, 8.0, 7.0, 6.0), run)
    assert _checkpoints(run) == ["step-00000028"]


def test_what_came_after_a_checkpoint_goes_only_where_that_is_asked_for(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        save_run(_run(*[8.0, 7.0, 9.0][:count]), tmp_path, keep=3)
    other = dataclasses.replace(_run(8.0, 7.0, 6.5), position=Position(20, _run(8.0, 7.0).position.epochs))
    with pytest.raises(OccupiedError, match="a later part of this one"):
        save_run(other, tmp_path, keep=3)
    assert _checkpoints(tmp_path) == ["step-00000007", "step-00000014", "step-00000021"]
    save_run(other, tmp_path, keep=3, overwrite=True)
    assert _checkpoints(tmp_path) == ["step-00000007", "step-00000014", "step-00000020"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"training": TrainingSpec(seed=1 << 70)}, "could not be read again, and is not saved: .*seed"),
    ({"num_epochs": 10**19}, "could not be read again, and is not saved: num_epochs"),
    ({"model": ModelSpec(len(VOCAB), num_layers=1025)}, "is not saved: the model has 1,025 layers"),
    ({"vocab": Vocab(["a" * 9_000, *"bcdefg "])}, "has 9,000 characters: at most 8,192 can be saved"),
    ({"data": DataSpec(source="/texts/caf\udce9")}, r"/texts/caf.* is not UTF-8, .*: rename the file"),
])  # fmt: skip
def test_what_could_not_be_read_again_is_refused_at_the_start(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    check_folder(tmp_path, _run(9.0))
    with pytest.raises(RunError, match=message):
        check_folder(tmp_path, _run(9.0, **changes))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no saved run: give the folder that d2lrnn train --out wrote"):
        load_run(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "latest").write_text("../../etc")
    with pytest.raises(RunError, match="which is no checkpoint"):
        load_run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        save_run(_run(), tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="cannot be written to: choose another"):
        save_run(_run(), tmp_path)
