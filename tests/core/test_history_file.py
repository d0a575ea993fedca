"""``history.jsonl`` in a run's folder and the file of ``--csv``: each epoch once, whatever happened."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli.history_csv import HistoryCSV
from d2lrnn.cli.main import main
from d2lrnn.errors import LeftoverWarning, RunError
from d2lrnn.saving import run_folder
from d2lrnn.saving.history_file import COLUMNS, HISTORY, history_row, is_history
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.history import EpochRecord

QUICK = ["--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16", "--hidden", "8"]


def _train(*argv: str | Path) -> int:
    return main(["train", *map(str, argv)])


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / HISTORY).read_text("ascii").splitlines()]


def _expected(folder: Path) -> list[dict[str, Any]]:
    return [history_row(record) for record in load_run(folder).position.epochs]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    schedule = ["--schedule", "exponential", "--schedule-every", "5", "--schedule-gamma", "0.5"]
    assert _train(*QUICK, *schedule, "--epochs", "3", "--keep", "9", "--out", folder) == 0
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run", symlinks=True))


def test_a_line_an_epoch_with_rate_and_seconds(run: Path) -> None:
    lines = _lines(run)
    assert lines == _expected(run)
    assert [tuple(line) for line in lines] == [COLUMNS] * 3
    assert COLUMNS[:10] == (
        "epoch", "train_perplexity", "val_perplexity", "train_bits_per_token", "val_bits_per_token",
        "tokens_per_second", "num_steps", "num_tokens", "learning_rate", "seconds",
    ), "a column stays where it was"  # fmt: skip
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    # The rate of the last of five steps an epoch.
    assert [line["learning_rate"] for line in lines] == [0.5 ** (step / 5) for step in (4, 9, 14)]
    for line in lines:
        assert line["num_tokens"] == 600 * 16
        assert line["seconds"] == pytest.approx(line["num_tokens"] / line["tokens_per_second"])


def test_the_learning_rate_of_a_constant_schedule_and_after_a_change(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _train(*QUICK, "--epochs", "1", "--out", out) == 0
    assert _train("--resume", out, "--epochs", "2", "--lr", "0.25") == 0
    assert [line["learning_rate"] for line in _lines(out)] == [1.0, 0.25]


def test_it_is_there_while_the_run_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2lrnn.saving import callbacks as saving

    out, table, seen = tmp_path / "run", tmp_path / "a.csv", []
    save = saving.save_run

    def watched(*args: Any, **options: Any) -> None:
        save(*args, **options)
        seen.append((len(_lines(out)), len(table.read_text().splitlines())))

    monkeypatch.setattr(saving, "save_run", watched)
    assert _train(*QUICK, "--epochs", "3", "--out", out, "--csv", table) == 0
    # The line of the table follows the checkpoint.
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert len(table.read_text().splitlines()) == 4


def test_saving_inside_an_epoch_adds_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2lrnn.saving import callbacks as saving

    out, seen = tmp_path / "run", []
    save = saving.save_run

    def watched(*args: Any, **options: Any) -> None:
        save(*args, **options)
        seen.append(len(_lines(out)) if (out / HISTORY).exists() else None)

    monkeypatch.setattr(saving, "save_run", watched)
    assert _train(*QUICK, "--epochs", "2", "--save-every", "3", "--out", out) == 0
    assert seen == [None, 1, 1, 1, 2]


def test_an_epoch_that_was_cut_short_has_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is done to its end when the run goes on."""
    from d2lrnn.saving import callbacks as saving

    out = tmp_path / "run"
    save = saving.save_run

    def interrupted(run: Any, *args: Any, **options: Any) -> None:
        save(run, *args, **options)
        if run.step == 7:  # the second step of the second epoch
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(saving, "save_run", interrupted)
    words = [*QUICK, "--save-every", "7", "--out", out, "--csv", "-"]
    assert _train(*words, "--epochs", "3") == 130
    assert [line["epoch"] for line in _lines(out)] == [1]
    assert [row["epoch"] for row in csv.DictReader(io.StringIO(capfd.readouterr().out))] == ["1"]
    monkeypatch.undo()
    assert _train("--resume", out, "--csv", "-") == 0
    assert [line["num_steps"] for line in _lines(out)] == [5, 5, 5]
    assert [row["epoch"] for row in csv.DictReader(io.StringIO(capfd.readouterr().out))] == ["1", "2", "3"]


@pytest.mark.parametrize("state", ["missing", "behind", "ahead", "twice", "empty", "newer"])
def test_resuming_makes_it_the_runs_own(run: Path, state: str) -> None:
    """After a kill between a checkpoint and its history, or of a run from before there was one."""
    path = run / HISTORY
    lines = path.read_text().splitlines(keepends=True)
    if state == "missing":
        path.unlink()
    elif state == "ahead":
        fourth = json.dumps({**json.loads(lines[-1]), "epoch": 4}) + "\n"
        path.write_text("".join([*lines, fourth]))
    elif state == "newer":  # of a later version
        path.write_text("".join(line.replace('"num_tokens"', '"new": 1, "num_tokens"') for line in lines))
    else:
        path.write_text("".join({"behind": lines[:2], "twice": lines * 2, "empty": []}[state]))
    assert _train("--resume", run) == 0  # nothing is left to train
    assert path.read_text() == "".join(lines)
    assert _train("--resume", run, "--epochs", "4") == 0
    assert _lines(run) == _expected(run)
    assert [line["epoch"] for line in _lines(run)] == [1, 2, 3, 4]


def test_a_kill_before_the_history_is_replaced(run: Path) -> None:
    """The process ends where the new history would take the old one's place."""
    code = "import os, signal, sys\n"
    code += "from d2lrnn import atomic_files\n"
    code += "from d2lrnn.cli.main import main\n"
    code += "atomic_files.os = type('OS', (), dict(vars(os)))\n"
    code += "atomic_files.os.replace = staticmethod(lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
    code += "main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "train", "--resume", str(run), "--epochs", "5"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert (len(load_run(run).history), len(_lines(run))) == (4, 3)
    assert list(run.glob(".writing-*"))
    assert _train("--resume", run, "--epochs", "5") == 0
    assert _lines(run) == _expected(run)
    assert [line["epoch"] for line in _lines(run)] == [1, 2, 3, 4, 5]
    assert list(run.glob(".*")) == []


def test_going_on_from_an_earlier_checkpoint_keeps_it_until_the_first_save(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = min(run.glob("step-*"))
    before = (run / HISTORY).read_bytes()
    assert _train("--resume", first, "--epochs", "2") == 2
    assert (run / HISTORY).read_bytes() == before
    seen = []
    write = run_folder.write_checkpoint
    monkeypatch.setattr(
        run_folder, "write_checkpoint",
        lambda *args: (seen.append((run / HISTORY).read_bytes()), write(*args)),
    )  # fmt: skip
    assert _train("--resume", first, "--epochs", "2", "--overwrite") == 0
    assert seen == [before]
    assert _lines(run) == _expected(run)
    assert len(_lines(run)) == 2


def test_another_run_in_its_place_and_elsewhere(run: Path, tmp_path: Path) -> None:
    before = (run / HISTORY).read_bytes()
    assert _train(*QUICK, "--epochs", "1", "--out", run) == 2
    assert (run / HISTORY).read_bytes() == before
    elsewhere = tmp_path / "elsewhere"
    assert _train("--resume", run, "--epochs", "4", "--out", elsewhere) == 0
    assert (run / HISTORY).read_bytes() == before
    assert [line["epoch"] for line in _lines(elsewhere)] == [1, 2, 3, 4]
    assert _lines(elsewhere)[:3] == _lines(run)
    assert _train(*QUICK, "--epochs", "1", "--out", run, "--overwrite") == 0
    assert _lines(run) == _expected(run)
    assert len(_lines(run)) == 1


@pytest.mark.parametrize("kind", ["text", "object", "list", "nested", "folder", "link", "pipe"])
def test_a_file_of_the_users_own_with_its_name_is_not_replaced(run: Path, tmp_path: Path, kind: str) -> None:
    path, kept = run / HISTORY, tmp_path / "kept"
    shutil.copy(path, kept)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(kept)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(
            {"text": "my notes", "object": '{"epoch": 1}\n', "list": "[1]\n"}.get(kind, "[" * 4096)
        )
    before = path.lstat()
    assert not is_history(path)
    for words in (["--resume", run, "--epochs", "4"], [*QUICK, "--out", run, "--overwrite"]):
        assert _train(*words) == 2
    with pytest.raises(RunError, match=r"history\.jsonl is no file of a saved run: give it another name, or"):
        save_run(load_run(run), run)
    assert os.path.samestat(path.lstat(), before)
    assert path.lstat().st_mtime_ns == before.st_mtime_ns
    assert len(load_run(run).history) == 3


def test_one_that_cannot_be_replaced_costs_no_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_history", full)
    saved = load_run(run)
    with pytest.warns(LeftoverWarning, match=r"history\.jsonl cannot be replaced: No space left on device"):
        save_run(dataclasses.replace(saved, num_epochs=9), run)
    assert load_run(run).num_epochs == 9


def test_runs_that_did_not_record_rate_and_tokens_open_and_go_on(run: Path) -> None:
    """As every run from before there were such fields."""
    import hostile

    for checkpoint in run.glob("step-*"):
        document = json.loads((checkpoint / "run.json").read_text())
        for record in document["position"]["epochs"]:
            for name in ("num_tokens", "learning_rate", "val_bits_per_char", "val_bits_per_byte"):
                del record[name]
        (checkpoint / "run.json").write_text(json.dumps(document))
        hostile.seal(checkpoint)
    (run / HISTORY).unlink()
    assert _train("--resume", run, "--epochs", "4") == 0
    lines = _lines(run)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["seconds"] is None for line in lines] == [True, True, True, False]
    assert [line["learning_rate"] is None for line in lines] == [True, True, True, False]
    assert [line["val_bits_per_byte"] is None for line in lines] == [True, True, True, False]


def test_csv_has_the_whole_history_of_a_resumed_run(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "history.csv"
    table.write_text("of another run\n")
    assert _train("--resume", run, "--epochs", "4", "--csv", table) == 0
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert table.read_text().count("epoch,") == 1
    for row, line in zip(rows, _lines(run), strict=True):
        assert list(row) == list(line)
        assert {name: json.loads(value) for name, value in row.items()} == line


def test_csv_needs_no_folder_and_can_be_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _train(*QUICK, "--epochs", "2", "--csv", "-") == 0
    printed, log = capfd.readouterr()
    assert printed.splitlines()[0] == ",".join(COLUMNS)
    assert [line.partition(",")[0] for line in printed.splitlines()[1:]] == ["1", "2"]
    assert "validation  perplexity" in log
    assert _train(*QUICK, "--epochs", "2", "--csv", "-", "--json", "-") == 2
    assert "only one result can go to standard output" in capfd.readouterr().err


@pytest.mark.parametrize("path", ["missing/a.csv", "."])
def test_a_csv_that_cannot_be_written_is_found_before_training(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(*QUICK, "--csv", tmp_path / path, "--out", tmp_path / "run") == 2
    assert "--csv" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is full")
def test_a_full_device_is_found_at_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(*QUICK, "--csv", "/dev/full") == 2
    assert "--csv /dev/full cannot be written: No space left on device" in capsys.readouterr().err


def test_what_cannot_be_written_later_costs_no_epoch(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    record = EpochRecord(1, 9.0, 8.0, 3.2, 3.0, 500.0, 4)
    table = HistoryCSV(str(folder / "a.csv"), [])
    shutil.rmtree(folder)
    table.epoch([record])
    table.epoch([record, record])
    with pytest.raises(RunError, match=r"a\.csv cannot be written: No such file or directory"):
        table.close()


def test_a_pipe_gets_each_epoch_once(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    records = [EpochRecord(number, 9.0, float("inf"), 3.2, 3.0, 500.0, 4) for number in (1, 2)]
    table = HistoryCSV(str(pipe), records[:1])
    table.epoch(records)
    table.close()
    reader.join(10)
    assert read[0].splitlines()[1:] == [f"{number},9.0,,3.2,3.0,500.0,4,,,,,,,," for number in (1, 2)]
