"""``d2lrnn train --resume`` on the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli.main import main
from d2lrnn.contract.optimizers import OPTIMIZERS
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.saving.run_folder import load_run
from d2lrnn.training.schedules import Cosine

QUICK = ["--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16", "--hidden", "8"]


def _train(*argv: str) -> int:
    return main(["train", *argv])


def _epochs(path: Path) -> list[dict[str, Any]]:
    epochs: list[dict[str, Any]] = json.loads(path.read_text())["epochs"]
    return [{**epoch, "tokens_per_second": 0} for epoch in epochs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    result = tmp_path_factory.mktemp("whole") / "result.json"
    assert _train("sample", *QUICK, "--epochs", "4", "--json", str(result)) == 0
    return _epochs(result)


@pytest.fixture(scope="module")
def half_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "run"
    assert _train("sample", *QUICK, "--epochs", "2", "--out", str(folder)) == 0
    return folder


@pytest.fixture
def half(half_made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half_made, tmp_path / "half", symlinks=True))


def test_a_resumed_run_gives_the_same_numbers(
    half: Path, tmp_path: Path, whole: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.json"
    assert _train("--resume", str(half), "--epochs", "4", "--json", str(result)) == 0
    assert _epochs(result) == whole
    assert "2 of 4 epochs, step 10, trained with numpy" in capsys.readouterr().out
    assert [{**epoch, "tokens_per_second": 0} for epoch in load_run(half).history] == whole


def test_it_can_be_saved_elsewhere(half: Path, tmp_path: Path) -> None:
    assert _train("--resume", str(half), "--epochs", "3", "--out", str(tmp_path / "other")) == 0
    assert (load_run(half).step, load_run(tmp_path / "other").step) == (10, 15)


def test_a_finished_run_has_nothing_to_do(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--resume", str(half)) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 epochs" in printed
    assert "finished: to train further, give --epochs and more than 2" in printed
    assert "validation  perplexity" in printed
    assert load_run(half).step == 10


def test_the_options_of_the_first_command_may_be_repeated(
    half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cell", "rnn", "--normalize", "--lr", "1", "--clip", "1", "--schedule", "constant"]
    assert _train("sample", *QUICK, *options, "--epochs", "3", "--resume", str(half)) == 0
    assert (load_run(half).step, load_run(half).changes) == (15, ())
    assert "changed" not in capsys.readouterr().out


def test_another_rate_schedule_and_clipping_norm_are_reported_and_recorded(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.json"
    assert _train("--resume", str(half), "--lr", "0.1", "--epochs", "3") == 0
    assert "\nchanged  learning rate 1.0 -> 0.1 from step 10\n" in capsys.readouterr().out
    options = ["--clip", "none", "--schedule", "cosine", "--schedule-final", "0.5", "--warmup", "2"]
    assert _train("--resume", str(half), *options, "--epochs", "4", "--json", str(result)) == 0
    expected = (
        "clipping norm 1.0 -> none, schedule constant -> cosine (warmup 2, steps 20, final 0.5) from step 15"
    )
    assert f"\nchanged  {expected}\n" in capsys.readouterr().out
    # One parameter alone changes the schedule that there is.
    assert _train("--resume", str(half), "--schedule-final", "0.25", "--epochs", "5") == 0
    run = load_run(half)
    assert run.training == TrainingSpec(0.1, clip=None, schedule=Cosine(warmup=2, steps=20, final=0.25))
    assert [change.step for change in run.changes] == [10, 15, 20]
    assert [change.before.learning_rate for change in run.changes] == [1.0, 0.1, 0.1]
    assert run.changes[0].before == TrainingSpec()
    assert [change["step"] for change in json.loads(result.read_text())["changes"]] == [10, 15]
    assert _train("--resume", str(half), "--schedule", "constant", "--epochs", "6") == 0
    assert load_run(half).training == TrainingSpec(0.1, clip=None)


def test_the_rate_that_was_changed_is_the_one_that_trains(half: Path, tmp_path: Path) -> None:
    begun = load_run(half).parameters
    moved = {}
    for rate in ("1", "1e-6"):
        folder = str(tmp_path / rate)
        assert _train("--resume", str(half), "--lr", rate, "--epochs", "3", "--out", folder) == 0
        after = load_run(folder).parameters
        moved[rate] = max(float(abs(after[name] - begun[name]).max()) for name in begun)
    assert moved["1e-6"] < 1e-4 < 1e-2 < moved["1"]


def test_a_cosine_that_ends_before_the_run_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, options = str(tmp_path / "run"), ["--schedule", "cosine", "--warmup", "2"]
    assert _train(*QUICK, *options, "--epochs", "2", "--out", run) == 0
    assert "learning rate 1.0, schedule cosine (warmup 2, steps 10)" in capsys.readouterr().out
    assert _train("--resume", run, "--epochs", "3") == 0
    assert "the cosine schedule ends at step 10 of 15" in capsys.readouterr().out
    assert _train("--resume", run, "--epochs", "4", "--schedule-steps", "20") == 0
    assert "the cosine schedule ends" not in capsys.readouterr().out


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizers_state_is_resumed_to_the_last_bit(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        *QUICK,
        "--optimizer",
        name,
        "--weight-decay",
        "0.01",
        "--schedule",
        "plateau",
        "--accumulate",
        "2",
    ]
    if "momentum" in {field.name for field in fields(OPTIMIZERS[name])}:
        options += ["--momentum", "0.9"]
    run, results = str(tmp_path / "run"), [tmp_path / "a.json", tmp_path / "b.json"]
    assert _train(*options, "--epochs", "4", "--json", str(results[0])) == 0
    assert _train(*options, "--epochs", "2", "--out", run) == 0
    assert set(load_run(run).optimizer_state)
    assert _train("--resume", run, "--epochs", "4", "--json", str(results[1])) == 0
    assert _epochs(results[0]) == _epochs(results[1])
    assert f"training {name} (weight decay 0.01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--hidden", "9"], "half was begun with 8. Leave it out, or begin a new run"),
        (["--cell", "gru"], "d2lrnn: --cell gru does not fit: "),
        (["--cell", "gruh"], "--cell gruh does not fit"),
        (["--embedding", "16"], "half was begun without it."),
        (["--tied"], "half was begun without --tied."),
        (["--no-normalize"], "--no-normalize does not fit: "),
        (["--batch-size", "64"], "--batch-size 64 does not fit: "),
        (["--accumulate", "2"], "--accumulate 2 does not fit: "),
        (["--num-val", "7"], "half was begun with 200."),
        (["--seed", "1"], "--seed 1 does not fit: "),
        (["--optimizer", "adam"], "--optimizer adam does not fit: "),
        (["--momentum", "0.9"], "half was begun with 0.0."),
        (["--beta1", "0.9"], "--beta1 does not apply to the optimizer sgd"),
        (["--schedule-gamma", "0.9"], "--schedule-gamma does not apply to the schedule constant"),
        (["--lr", "-3"], "--lr is -3.0"),
        (["time-machine.txt"], "time-machine.txt"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--keep", "0"], "--keep is 0"),
        (["--save-every", "0"], "--save-every is 0: it must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    half: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(*argv, "--resume", str(half)) == 2
    log = capsys.readouterr().err
    assert message in log
    assert log.count("\n") == 1


def test_another_text_is_refused_and_a_moved_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a rose is a rose is a rose. " * 40)
    argv = ["--batch-size", "64", "--steps", "8", "--hidden", "4"]
    run = str(tmp_path / "run")
    assert _train(str(text), *argv, "--epochs", "1", "--out", run) == 0
    moved = text.rename(tmp_path / "moved.txt")
    assert _train("--resume", run, "--epochs", "2") == 2
    err = capsys.readouterr().err
    assert (
        f"the text of the run, {text}, is not there any more: give its new path with d2lrnn train TEXT" in err
    )
    assert _train(str(moved), "--resume", run, "--epochs", "2") == 0
    moved.write_text("a rose is a nose is a rose. " * 40)
    assert _train("--resume", run, "--epochs", "3") == 2
    assert "is not the text that" in capsys.readouterr().err


def test_the_best_is_resumed_where_the_run_is(
    half_made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never inside the checkpoint; and what came after it goes only where that is asked for."""
    run = Path(shutil.copytree(half_made, tmp_path / "run", symlinks=True))
    number = len(load_run(run).history)
    assert _train("--resume", str(run), "--epochs", str(number + 1), "--keep", "9") == 0
    older = min(run.glob("step-*"))
    inside = sorted(path.name for path in older.iterdir())
    capsys.readouterr()
    assert _train("--resume", str(older), "--epochs", str(number + 1)) == 2
    err = capsys.readouterr().err
    assert f"--resume {older} is not the newest checkpoint of {run}: --overwrite goes on from there" in err
    assert _train("--resume", str(older), "--epochs", str(number + 1), "--out", str(tmp_path / "other")) == 0
    assert len(list(run.glob("step-*"))) == 2
    capsys.readouterr()
    assert _train("--resume", str(older), "--epochs", str(number + 1), "--keep", "9", "--overwrite") == 0
    assert f"saved       {run}\n" in capsys.readouterr().out
    assert sorted(path.name for path in older.iterdir()) == inside
    assert len(load_run(run).history) == number + 1
    assert _train("--resume", str(run / "latest"), "--epochs", str(number + 2)) == 0
    assert len(load_run(run).history) == number + 2


def test_a_copy_of_one_checkpoint_is_not_part_of_the_folder_that_it_lies_in(
    half_made: Path, tmp_path: Path
) -> None:
    """Else its folder would be taken for a run's, and written to."""
    checkpoint = (half_made / "latest").resolve()
    alone = Path(shutil.copytree(checkpoint, tmp_path / checkpoint.name))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert _train("--resume", str(alone), "--epochs", "3") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert len(load_run(alone).history) == 3


@pytest.mark.parametrize("words", [["--seed", str(1 << 70)], ["--epochs", str(10**19)]])
def test_numbers_that_could_not_be_read_again(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(*words, "--out", str(tmp_path / "run")) == 2
    assert capsys.readouterr().err == f"d2lrnn: {words[0]} is {words[1]}: it must be below 2**63\n"
    assert not (tmp_path / "run").exists()


def test_save_every_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--save-every", "2") == 2
    assert "needs a folder to save to" in capsys.readouterr().err


def test_save_every_saves_inside_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2lrnn.saving import callbacks as saving

    steps: list[int] = []
    save = saving.save_run
    monkeypatch.setattr(
        saving, "save_run", lambda run, out, **how: (steps.append(run.step), save(run, out, **how))
    )
    argv = [*QUICK, "--epochs", "2", "--save-every", "3", "--keep", "3"]
    assert _train(*argv, "--out", str(tmp_path / "run")) == 0
    assert steps == [3, 5, 6, 9, 10]
    assert len(list((tmp_path / "run").glob("step-*"))) in (3, 4)


def test_sigterm_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped by a batch system in the middle of a long run, at no particular moment."""
    out, argv = tmp_path / "run", ["--cell", "gru", "--iterator", "sequential", "--batch-size", "16"]
    command = [sys.executable, "-m", "d2lrnn", "train", *argv, "--epochs", "100000", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        deadline = time.monotonic() + 60
        while not (out / "latest").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"saved       {out}; to go on: d2lrnn train --resume {out}" in printed
    epochs = str(len(load_run(out).history) + 2)
    assert _train("--resume", str(out), "--epochs", epochs, "--json", str(tmp_path / "a.json")) == 0
    assert _train(*argv, "--epochs", epochs, "--json", str(tmp_path / "b.json")) == 0
    assert _epochs(tmp_path / "a.json") == _epochs(tmp_path / "b.json")


def test_a_full_disk_ends_training_and_keeps_the_run(half: Path) -> None:
    """No file may grow beyond a few hundred bytes, as if the disk were full."""
    before = {path: path.read_bytes() for path in half.rglob("*") if path.is_file()}
    code = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
    code += "from d2lrnn.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "train", "--resume", str(half), "--epochs", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert "cannot be written to" in done.stderr
    assert "Nothing was lost" in done.stderr
    assert {path: path.read_bytes() for path in half.rglob("*") if path.is_file()} == before
