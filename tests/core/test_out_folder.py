"""``train --out runs/``: a folder for every run, and DIR itself wherever DIR is one run's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.main import main
from d2lrnn.cli.out_folder import own_folder, title_of
from d2lrnn.errors import SpecError
from d2lrnn.saving import numbered_folders
from d2lrnn.saving.numbered_folders import is_folder_of_runs, make_numbered_folder
from d2lrnn.saving.run_folder import load_run

SHORT = ["--num-train", "60", "--num-val", "20", "--steps", "8", "--batch-size", "30", "--hidden", "4",
         "--epochs", "1"]  # fmt: skip


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_run_gets_a_folder_and_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, result = tmp_path / "runs", tmp_path / "result.json"
    words = [[], ["--cell", "gru"], ["--impl", "concise"]]
    names = ["0001-rnn-scratch-sample", "0002-gru-scratch-sample", "0003-rnn-concise-sample"]
    for number, (more, name) in enumerate(zip(words, names, strict=True)):
        # The slash is needed for the first one only.
        out = f"{runs}/" if number < 2 else str(runs)
        assert main(["train", *SHORT, *more, "--out", out, "--json", str(result)]) == 0
        printed = capsys.readouterr().out
        assert f"folder   {runs / name}\n" in printed
        assert f"saved       {runs / name}\n" in printed
        assert json.loads(result.read_text())["saved"] == str(runs / name)
        assert _names(runs) == names[: number + 1]
    assert load_run(runs / names[1]).model.cell == "gru"
    paths = [str(runs / name) for name in names]
    assert main(["compare", *paths]) == 0
    assert names[2] in capsys.readouterr().out


def test_resumed_elsewhere_a_run_is_called_by_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["train", *SHORT, "--cell", "lstm", "--out", out]) == 0
    assert main(["train", "--resume", out, "--epochs", "2", "--out", f"{tmp_path}/runs/"]) == 0
    assert _names(tmp_path / "runs") == ["0001-lstm-scratch-sample"]
    assert len(load_run(tmp_path / "runs" / "0001-lstm-scratch-sample").history) == 2
    assert len(load_run(out).history) == 1


def test_a_folder_of_one_run_is_that_runs_own_as_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh, empty, notes = tmp_path / "fresh", tmp_path / "empty", tmp_path / "notes"
    empty.mkdir()
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    for folder in (fresh, empty, notes):
        assert main(["train", *SHORT, "--out", str(folder)]) == 0
        assert load_run(folder).step == 2
        assert {name for name in _names(folder) if name.startswith("0")} == set()
    # A run is no folder of runs, whatever follows its name: a shell completes the slash.
    capsys.readouterr()
    assert main(["train", *SHORT, "--out", f"{fresh}/"]) == 2
    assert f"--out {fresh}/ holds another run: --resume" in capsys.readouterr().err
    assert main(["train", *SHORT, "--out", f"{fresh}/", "--overwrite", "--seed", "3"]) == 0
    assert load_run(fresh).training.seed == 3


def test_what_counts_as_a_folder_of_runs(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert main(["train", *SHORT, "--out", f"{runs}/a"]) == 0
    assert is_folder_of_runs(str(runs))
    assert not is_folder_of_runs(str(runs / "a"))
    assert not is_folder_of_runs(str(runs / "a") + "/")
    (runs / ".DS_Store").touch()
    (runs / "0002-made-a-moment-ago").mkdir()
    assert is_folder_of_runs(str(runs))
    (runs / "other").mkdir()
    assert not is_folder_of_runs(str(runs))
    assert is_folder_of_runs(f"{runs}/")
    # A training that has not saved yet is a run.
    (runs / "other" / ".d2lrnn-lock").touch()
    assert is_folder_of_runs(str(runs))
    assert not is_folder_of_runs(f"{runs}/other/")


@pytest.mark.parametrize("words", [["--hidden", "0"], ["--cell", "nonsense"], ["no such text"]])
def test_an_error_leaves_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--out", f"{tmp_path}/runs/"]) == 2
    assert _names(tmp_path) == []
    (tmp_path / "kept").mkdir()
    assert main(["train", *words, "--out", f"{tmp_path}/kept/"]) == 2
    assert _names(tmp_path) == ["kept"]
    assert _names(tmp_path / "kept") == []
    (tmp_path / "file").touch()
    assert main(["train", *SHORT, "--out", f"{tmp_path}/file/"]) == 2
    assert capsys.readouterr().err.endswith("cannot be made: File exists\n")


def test_the_number_follows_the_highest(tmp_path: Path) -> None:
    for name in ("0007-gru", "notes", "12-x", "0003-a-b"):
        (tmp_path / name).mkdir()
    assert make_numbered_folder(str(tmp_path), "x") == str(tmp_path / "0008-x")
    (tmp_path / "9999-last").mkdir()
    assert make_numbered_folder(str(tmp_path), "x") == str(tmp_path / "10000-x")
    assert make_numbered_folder(str(tmp_path), "x") == str(tmp_path / "10001-x")


def test_no_number_is_given_twice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = [*threads.map(lambda n: make_numbered_folder(str(tmp_path), f"run-{n}"), range(60))]
    numbers = sorted(int(Path(folder).name[:4]) for folder in made)
    assert numbers == sorted(set(numbers))
    assert _names(tmp_path) == sorted(Path(folder).name for folder in made)


@pytest.mark.parametrize("when", ["before", "between"])
def test_who_comes_second_gets_the_next_number(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the number after it was looked for: before it is claimed, or just then."""
    real, seen = numbered_folders._numbers, []

    def numbers(root: Path) -> list[int]:
        found = real(root)
        if not seen:
            seen.append(True)
            (tmp_path / ("0001-theirs" if when == "before" else ".0001")).mkdir()
        return found

    monkeypatch.setattr(numbered_folders, "_numbers", numbers)
    assert make_numbered_folder(str(tmp_path), "mine") == str(tmp_path / "0002-mine")
    assert not (tmp_path / ".0002").exists()


def test_two_trainings_that_start_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "d2lrnn", "train", *SHORT, "--out", f"{tmp_path}/runs/"]
    both = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folders = {re.search(r"saved +(\S+)", out)[1] for out, _ in said}
    assert folders == {f"{tmp_path}/runs/000{number}-rnn-scratch-sample" for number in (1, 2)}
    for folder in folders:
        assert load_run(folder).step == 2


def test_workers_of_a_launcher_must_name_the_folder(tmp_path: Path) -> None:
    request = TrainRequest(out=f"{tmp_path}/runs/")
    with pytest.raises(SpecError, match="cannot agree on a number"), own_folder(request, launched=True):
        pass
    assert _names(tmp_path) == []
    with own_folder(TrainRequest(out=f"{tmp_path}/run"), launched=True) as same:
        assert same.out == f"{tmp_path}/run"


@pytest.mark.parametrize(("text", "title"), [
    ((), "rnn-scratch-sample"),
    (("time-machine",), "rnn-scratch-time-machine"),
    (("-",), "rnn-scratch-standard-input"),
    (("/texts/My Book_2.txt", "b", "c"), "rnn-scratch-my-book-2-and-2-more"),
    (("../été/\x1b[31m\nx",), "rnn-scratch-31m-x"),
    (("/texts/Œuvre",), "rnn-scratch-œuvre"),
    (("/",), "rnn-scratch"),
    (("x" * 300,), f"rnn-scratch-{'x' * 40}"),
])  # fmt: skip
def test_a_run_is_called_by_what_is_trained(text: tuple[str, ...], title: str) -> None:
    assert title_of(TrainRequest(text=text)) == title


def test_a_long_name_of_a_cell_is_cut() -> None:
    title = title_of(TrainRequest(model={"cell": "../" + "y" * 300}))
    assert re.fullmatch("y{59}", title)
    assert os.sep not in title
