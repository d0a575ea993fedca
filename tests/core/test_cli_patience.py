"""``d2lrnn train --patience``: a run that ends early, stops, and goes on."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli.main import main
from d2lrnn.saving import callbacks as saving
from d2lrnn.saving.run_folder import load_run
from d2lrnn.training.patience import Patience

QUICK = ["--num-train", "256", "--num-val", "128", "--batch-size", "64", "--steps", "8", "--hidden", "4"]
#: No parameter changes, and so no epoch is better than the first.
STUCK = [*QUICK, "--lr", "1e-20"]


def _train(*argv: str | Path) -> int:
    return main(["train", *map(str, argv)])


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    assert _train(*STUCK, "--epochs", "9", "--patience", "2", "--out", tmp_path / "run") == 0
    return tmp_path / "run"


def _num_epochs(run: Path) -> int:
    return len(load_run(run).history)


def test_it_ends_early_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = tmp_path / "run"
    assert _train(*STUCK, "--epochs", "9", "--patience", "2", "--out", stopped) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "stopped early after epoch 3 of 9: no better validation perplexity for 2 epochs" in lines
    assert any(line.startswith("best        epoch 1 of 3") for line in lines)
    assert f"saved       {stopped}; to go on: d2lrnn train --resume {stopped} --patience 4" in lines
    assert len(load_run(stopped / "best").history) == 1
    assert load_run(stopped).early_stopping == Patience(2)
    result = tmp_path / "a.json"
    assert _train(*STUCK, "--epochs", "9", "--patience", "2", "--json", result) == 0
    document = json.loads(result.read_text())
    assert (document["ended"], len(document["epochs"])) == ("stopped", 3)
    assert document["early_stopping"] == {"patience": 2, "since": 0}


@pytest.mark.parametrize(
    "words", [[], ["--epochs", "9"], ["--epochs", "9", "--patience", "2"], ["--lr", "1"]]
)
def test_the_same_command_again_trains_nothing(
    stopped: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a batch system repeats it."""
    assert _train("--resume", stopped, *words) == 0
    printed = capsys.readouterr().out
    assert "stopped  early: to train further, raise --patience, or give --epochs and more than 9" in printed
    assert "stopped early after epoch 3 of 9" in printed
    assert "validation  perplexity" in printed
    assert _num_epochs(stopped) == 3


def test_it_goes_on_with_more_patience(stopped: Path) -> None:
    assert _train("--resume", stopped, "--patience", "4") == 0
    assert _num_epochs(stopped) == 5
    assert load_run(stopped).early_stopping == Patience(4)


def test_it_goes_on_for_more_epochs_and_counts_anew(stopped: Path) -> None:
    assert _train("--resume", stopped, "--epochs", "20") == 0
    assert _num_epochs(stopped) == 5
    assert load_run(stopped).early_stopping == Patience(2, since=3)
    # And that run, again, is over.
    assert _train("--resume", stopped, "--epochs", "20") == 0
    assert _num_epochs(stopped) == 5


def test_a_run_that_is_interrupted_counts_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, save = tmp_path / "run", saving.save_run

    def interrupted(run: Any, *args: Any, **options: Any) -> None:
        save(run, *args, **options)
        if run.step == 6:  # the second step of the second epoch
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(saving, "save_run", interrupted)
    words = [*STUCK, "--epochs", "9", "--patience", "2", "--save-every", "1", "--out", out]
    assert _train(*words) == 130
    monkeypatch.undo()
    assert _num_epochs(out) == 1
    assert _train("--resume", out) == 0
    run = load_run(out)
    assert ([epoch["num_steps"] for epoch in run.history], run.early_stopping) == ([4, 4, 4], Patience(2))
    assert _train(*STUCK, "--epochs", "9", "--patience", "2", "--out", tmp_path / "whole") == 0
    whole = load_run(tmp_path / "whole").history
    assert [{**epoch, "tokens_per_second": 0} for epoch in run.history] == [
        {**epoch, "tokens_per_second": 0} for epoch in whole
    ]


def test_a_run_without_patience_can_be_given_some(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _train(*STUCK, "--epochs", "2", "--out", out) == 0
    assert load_run(out).early_stopping is None
    assert _train("--resume", out, "--epochs", "9", "--patience", "3") == 0
    assert _num_epochs(out) == 4


def test_a_run_that_came_to_its_end_was_not_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _train(*STUCK, "--epochs", "3", "--patience", "2", "--out", out) == 0
    assert _train("--resume", out) == 0
    printed = capsys.readouterr().out
    assert "stopped" not in printed
    assert "finished: to train further" in printed


@pytest.mark.parametrize("number", ["0", "-1"])
def test_patience_is_a_number_of_epochs(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(*QUICK, "--patience", number) == 2
    assert capsys.readouterr().err == f"d2lrnn: --patience is {number}: it must be at least 1\n"


def test_the_norms_are_in_every_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, table, result = tmp_path / "run", tmp_path / "a.csv", tmp_path / "compared.json"
    assert _train(*QUICK, "--clip", "0.05", "--epochs", "2", "--out", out, "--csv", table) == 0
    printed = capsys.readouterr().out
    first, second = load_run(out).position.epochs
    assert second.grad_norm is not None
    assert 0.05 < second.grad_norm < second.grad_norm_max  # type: ignore[operator]
    assert f"gradient    norm {second.grad_norm:.3g} on average" in printed
    assert table.read_text().splitlines()[0].endswith(",grad_norm,grad_norm_max,clipped")
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["clipped"] for line in lines] == [first.clipped, second.clipped]
    assert _train(*QUICK, "--clip", "none", "--epochs", "2", "--out", tmp_path / "other") == 0
    capsys.readouterr()
    assert main(["compare", str(out), str(tmp_path / "other"), "--json", str(result)]) == 0
    assert "clipped" in capsys.readouterr().out
    assert [run["clipped"] for run in json.loads(result.read_text())["runs"]] == [1.0, 0.0]


def test_a_run_of_an_earlier_version_has_no_norms_and_no_patience(tmp_path: Path) -> None:
    """Its description lacks the fields; what is trained from here on has them."""
    out = tmp_path / "run"
    assert _train(*QUICK, "--epochs", "1", "--out", out) == 0
    path = out / "latest" / "run.json"
    document = json.loads(path.read_text())
    del document["early_stopping"]
    for name in ("grad_norm", "grad_norm_max", "clipped"):
        del document["position"]["epochs"][0][name]
    sums, before = out / "latest" / "SHA256SUMS", path.read_bytes()
    path.write_text(json.dumps(document))
    digests = [hashlib.sha256(content).hexdigest() for content in (before, path.read_bytes())]
    sums.write_text(sums.read_text().replace(*digests))
    run = load_run(out)
    assert (run.early_stopping, run.position.epochs[0].grad_norm) == (None, None)
    assert _train("--resume", out, "--epochs", "2") == 0
    assert [each.grad_norm is None for each in load_run(out).position.epochs] == [True, False]
