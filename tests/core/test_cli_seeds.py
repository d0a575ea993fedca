"""``d2lrnn train --seed 1,2,3``."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from d2lrnn.cli.main import main
from d2lrnn.errors import RunError
from d2lrnn.saving import callbacks as saving
from d2lrnn.saving.run_folder import load_run

QUICK = ["--num-train", "128", "--num-val", "64", "--batch-size", "64", "--steps", "8", "--hidden", "4"]


def _train(*argv: str | Path) -> int:
    return main(["train", *QUICK, *map(str, argv)])


def test_each_seed_is_a_run_and_the_table_has_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, out = tmp_path / "all.json", tmp_path / "runs"
    assert _train("--seed", "3,1,2", "--epochs", "2", "--out", out, "--json", result) == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if ", run " in line] == [
        "seed     3, run 1 of 3", "seed     1, run 2 of 3", "seed     2, run 3 of 3",
    ]  # fmt: skip
    document = json.loads(result.read_text())
    assert [(run["seed"], run["folder"]) for run in document["runs"]] == [
        (seed, str(out / f"seed-{seed}")) for seed in (3, 1, 2)
    ]
    finals = []
    for run in document["runs"]:
        saved = load_run(run["folder"])
        assert saved.training is not None
        assert saved.training.seed == run["seed"]
        assert [epoch["val_perplexity"] for epoch in run["epochs"]] == [
            each.val_perplexity for each in saved.position.epochs
        ]
        finals.append(run["epochs"][-1]["val_perplexity"])
    assert len(set(finals)) == 3
    assert document["summary"]["runs"] == 3
    assert document["summary"]["final"] == {
        "median": median(finals), "lowest": min(finals), "highest": max(finals),
    }  # fmt: skip
    table = printed[printed.rindex("\nseed  ") :].split()
    for value in (*finals, median(finals)):
        assert f"{value:.3f}" in table
    # One seed alone gives the same run.
    assert _train("--seed", "1", "--epochs", "2", "--json", result) == 0
    assert json.loads(result.read_text())["epochs"][-1]["val_perplexity"] == finals[1]


def test_ctrl_c_in_the_second_ends_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, out, save = tmp_path / "all.json", tmp_path / "runs", saving.save_run
    sent: list[bool] = []  # a second one would end the program at once

    def interrupted(run: Any, folder: Any, **options: Any) -> None:
        save(run, folder, **options)
        if Path(folder).name == "seed-2" and run.step == 3 and not sent:
            sent.append(True)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(saving, "save_run", interrupted)
    words = ["--seed", "1,2,3", "--epochs", "2", "--out", out, "--save-every", "1", "--json", result]
    assert _train(*words) == 130
    document = json.loads(result.read_text())
    assert [(run["seed"], run["ended"]) for run in document["runs"]] == [(1, "finished"), (2, "interrupted")]
    assert document["summary"]["runs"] == 1
    assert not (out / "seed-3").exists()
    printed = capsys.readouterr().out
    assert f"to go on: d2lrnn train --resume {out / 'seed-2'}" in printed
    assert "best perplexity" in printed.splitlines()[-3]
    assert "interrupted" in printed.splitlines()[-1]


def test_an_error_in_the_second_ends_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = saving.save_run

    def failing(run: Any, folder: Any, **options: Any) -> None:
        if Path(folder).name == "seed-2":
            raise RunError("the disk is full")
        save(run, folder, **options)

    monkeypatch.setattr(saving, "save_run", failing)
    assert _train("--seed", "1,2", "--epochs", "1", "--out", tmp_path / "runs") == 2
    printed = capsys.readouterr()
    assert printed.err.endswith("d2lrnn: the disk is full\n")
    assert "best perplexity" in printed.out.splitlines()[-2]


def test_what_holds_a_run_is_found_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert _train("--seed", "2", "--epochs", "1", "--out", out / "seed-2") == 0
    capsys.readouterr()
    assert _train("--seed", "1,2", "--epochs", "1", "--out", out) == 2
    printed = capsys.readouterr()
    assert f"d2lrnn: {out / 'seed-2'} of --out holds a run: --overwrite replaces it" in printed.err
    assert printed.out == ""
    assert not (out / "seed-1").exists()
    assert _train("--seed", "1,2", "--epochs", "1", "--out", out, "--overwrite") == 0


def test_a_slash_gives_all_runs_a_folder_of_their_own(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for _ in range(2):
        assert _train("--seed", "1,2", "--epochs", "1", "--out", f"{runs}/") == 0
    folders = [runs / f"000{number}-rnn-scratch-sample" for number in (1, 2)]
    assert sorted(runs.iterdir()) == folders
    for folder in folders:
        assert [load_run(folder / f"seed-{seed}").step for seed in (1, 2)] == [2, 2]
    # With them it is a folder of runs all the same; more seeds join those of their folder.
    assert _train("--epochs", "1", "--out", runs) == 0
    assert (runs / "0003-rnn-scratch-sample" / "run.json").exists()
    assert _train("--seed", "3,4", "--epochs", "1", "--out", folders[0]) == 0
    assert {path.name for path in folders[0].iterdir()} == {f"seed-{seed}" for seed in (1, 2, 3, 4)}


def test_seeds_go_before_that_of_a_file_and_each_run_has_its_own_in_its_file(tmp_path: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "runs"
    file.write_text("epochs = 1\nseed = 7\npatience = 3\n")
    assert _train("--config", file, "--seed", "1,2", "--out", out) == 0
    for seed in (1, 2):
        text = (out / f"seed-{seed}" / "config.toml").read_text("utf-8")
        assert f"\nseed = {seed} " in text
        assert "\npatience = 3 " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1,1"], "--seed has 1 twice"),
        (["--seed", "1,-2"], "--seed is -2: it must be 0 or above"),
        (["--seed", f"1,{1 << 70}"], f"--seed is {1 << 70}: it must be below 2**63"),
        (["--seed", "1,2", "--resume", "runs/a"], "--resume goes on with one run, which has a seed"),
        (["--seed", "1,2", "--csv", "a.csv"], "--csv is a table of one run"),
        (["--seed", "1,2", "-"], "standard input can be read by one run alone"),
    ],
)
def test_what_does_not_go_with_several(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(*words) == 2
    assert capsys.readouterr().err.startswith(f"d2lrnn: {message}")


@pytest.mark.parametrize("seeds", ["1,", "1,two", ","])
def test_a_seed_is_a_whole_number(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        _train("--seed", seeds)
    assert info.value.code == 2
    assert "argument --seed: " in capsys.readouterr().err


def test_json_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert _train("--seed", "1,2", "--epochs", "1", "--json", "-") == 0
    printed = capfd.readouterr()
    assert [run["seed"] for run in json.loads(printed.out)["runs"]] == [1, 2]
    assert "median" in printed.err
