"""``d2lrnn compare`` and ``d2lrnn plot``: tables that fit, pictures that show what was trained."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli import curves
from d2lrnn.cli.comparison import Compared, differences, notes, read_runs, specification
from d2lrnn.cli.main import main
from d2lrnn.cli.text_table import text_table
from d2lrnn.contract.optimizers import SGD, Adam
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.saving.run import Change, Run
from d2lrnn.saving.run_folder import save_run
from d2lrnn.training import pictures
from d2lrnn.training.history import EpochPart, EpochRecord, Position
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.schedules import Cosine

VOCAB = Vocab(list("abcdefg "))


def _run(*val: float, **changes: Any) -> Run:
    """A run with an epoch for every validation perplexity; training is half a unit better."""
    epochs = tuple(
        EpochRecord(number, each - 0.5, each, math.log2(each), math.log2(each), 1000.0 * number, 7)
        for number, each in enumerate(val, start=1)
    )
    values: dict[str, Any] = {
        "model": ModelSpec(len(VOCAB), num_hiddens=4),
        "vocab": VOCAB,
        "data": DataSpec(),
        "training": TrainingSpec(),
        "position": Position(7 * len(epochs), epochs),
        "num_epochs": len(epochs),
        "text_digest": "ab" * 32,
        "backend": "numpy",
        **changes,
    }
    return Run(parameters=initial_parameters(values["model"], 0), **values)


def _saved(folder: Path, *val: float, **changes: Any) -> str:
    save_run(_run(*val, **changes), folder)
    return str(folder)


def _gru(**fields: Any) -> ModelSpec:
    return ModelSpec(len(VOCAB), "gru", num_hiddens=4, **fields)


def _compared(*runs: Run) -> list[Compared]:
    return [Compared(f"runs/{number}", f"run {number}", run) for number, run in enumerate(runs)]


def test_only_what_differs_is_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = _saved(tmp_path / "a", 9.0, 8.0, 8.5)
    b = _saved(tmp_path / "b", 7.0, model=_gru(), training=TrainingSpec(0.5), num_epochs=3, backend="torch")
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["compare", a, b]) == 0
    heading, *rows = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert heading == [
        "run", "cell", "lr", "backend", "epochs", "best perplexity", "in epoch", "bits/char", "tokens/s"
    ]  # fmt: skip
    # The epochs have the same tokens, so the speed of all is the harmonic mean.
    assert rows == [
        ["a", "rnn", "1", "numpy", "3", "8.000", "2", "3.000", "1,636"],
        ["b", "gru", "0.5", "torch", "1 of 3", "7.000", "1", "2.807", "1,000"],
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_it_fits_the_terminal(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    adam = TrainingSpec(0.002, optimizer=Adam(beta1=0.8), schedule=Cosine(steps=100, warmup=4))
    folders = [
        _saved(tmp_path / "a", 9.0, 8.0),
        _saved(
            tmp_path / "b", 7.0, model=_gru(), training=adam, data=DataSpec(source=("/x/" + "y " * 60, "z"))
        ),
        _saved(tmp_path / ("name " * 12), 7.0, model=_gru(embedding_size=4, tied=True), text_digest="0" * 64),
    ]
    for given in (folders[:2], folders):
        assert main(["compare", *given]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        shown = " ".join(" ".join(lines).split())
        for value in ("rnn", "gru", "adam", "cosine", "0.8", "7.000", "best perplexity"):
            assert value in shown
    assert "name name name" in shown
    assert "note: the runs have different texts" in shown


@pytest.mark.parametrize(("width", "num_lines"), [(32, 3), (31, 4), (23, 4), (22, 8), (1, 8)])
def test_a_table_is_transposed_and_then_taken_apart(width: int, num_lines: int) -> None:
    rows = [["run", "cell", "optimizer", "perplexity"], ["a", "rnn", "sgd", "12.10"]]
    rows.append(["b", "gru", "adam", "9.85"])
    lines = text_table(rows, width).splitlines()
    assert (len(lines), max(map(len, lines)) <= max(width, 22)) == (num_lines, True)
    words = sorted(" ".join(lines).split())
    names = rows[0] if len(lines) < 8 else 2 * rows[0][1:]
    assert words == sorted([*names, *rows[1], *rows[2]])


def test_json_has_all_of_it(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    a, b = _saved(tmp_path / "a", 9.0, 8.0), _saved(tmp_path / "b", 7.0, model=_gru())
    assert main(["compare", a, b, "--json", str(result)]) == 0
    document = json.loads(result.read_text())
    assert document["differences"] == {"cell": ["rnn", "gru"], "reset-after": ["none", "no"]} or document[
        "differences"
    ] == {"cell": ["rnn", "gru"]}
    assert document["notes"] == []
    first, second = document["runs"]
    assert (first["run"], first["name"], first["epochs"]) == (a, "a", 2)
    assert (first["best"]["epoch"], first["best"]["val_perplexity"]) == (2, 8.0)
    assert first["tokens_per_second"] == pytest.approx(2 / (1 / 1000 + 1 / 2000))
    assert second["model"]["cell"] == "gru"
    assert first["data"]["num_steps"] == 32


def test_a_run_before_its_first_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = Position(3, (), EpochPart(3, 1.5, 77, 1.0))
    a, b = _saved(tmp_path / "a", position=part, num_epochs=5), _saved(tmp_path / "b", 7.0)
    assert main(["compare", a, b]) == 0
    assert re.search(r"^a +0 of 5( +-){4}$", capsys.readouterr().out, re.MULTILINE)
    assert main(["plot", a, "--out", str(tmp_path / "a.png")]) == 2
    assert "no epoch has ended yet" in capsys.readouterr().err
    assert main(["plot", a, b, "--out", str(tmp_path / "a.png")]) == 0


def test_parameters_of_an_optimizer_differ_where_they_are_not_its_defaults() -> None:
    def fields(*optimizers: Any) -> dict[str, list[str]]:
        return differences([_run(9.0, training=TrainingSpec(optimizer=each)) for each in optimizers])

    assert fields(SGD(), Adam()) == {"optimizer": ["sgd", "adam"]}
    assert fields(SGD(momentum=0.9), Adam()) == {"momentum": ["0.9", "-"], "optimizer": ["sgd", "adam"]}
    assert fields(SGD(), SGD(momentum=0.9)) == {"momentum": ["0", "0.9"]}
    # Not rounded: these are two rates.
    rates = [_run(9.0, training=TrainingSpec(rate)) for rate in (0.1234567, 0.12345671)]
    assert differences(rates) == {"lr": ["0.1234567", "0.12345671"]}


def test_the_reset_of_a_gru_differs_where_it_was_chosen() -> None:
    assert differences([_run(9.0), _run(9.0, model=_gru())]) == {"cell": ["rnn", "gru"]}
    scratch = [_run(9.0, model=_gru(reset_after=reset)) for reset in (False, True)]
    assert differences(scratch) == {"reset-after": ["no", "yes"]}


def test_what_was_changed_on_the_way_is_shown() -> None:
    changed = _run(
        9.0, training=TrainingSpec(0.1, clip=None),
        changes=(Change(7, TrainingSpec(1.0)), Change(9, TrainingSpec(0.1))),
    )  # fmt: skip
    assert differences([_run(9.0), changed]) == {"lr": ["1", "1 -> 0.1"], "clip": ["1", "1 -> none"]}


def test_all_fields_of_the_specifications_are_compared() -> None:
    named = specification(_run(9.0, training=TrainingSpec(schedule=Cosine())))
    fields = dataclasses.fields
    spec = {
        *ModelSpec.__dataclass_fields__,
        *DataSpec.__dataclass_fields__,
        *TrainingSpec.__dataclass_fields__,
    }
    # Data and training have a seed each, model and data a size of the vocabulary.
    assert len(named) == len([*spec, "data-seed", "symbols"]) + len(fields(SGD)) + len(fields(Cosine)) + len(
        ["patience", "backend"]
    )
    seeds = [_run(9.0, data=DataSpec(seed=seed)) for seed in (0, 3)]
    assert differences(seeds) == {"data-seed": ["0", "3"]}
    assert differences([_run(9.0), _run(9.0, data=DataSpec(min_freq=2))]) == {"min-freq": ["0", "2"]}


def test_notes_say_what_does_not_compare() -> None:
    plain = _run(9.0)
    other_vocabulary = _run(9.0, vocab=Vocab(list("hijklmn ")), text_digest="1" * 64)
    other_text = _run(9.0, text_digest="1" * 64)
    other_part = _run(9.0, data=DataSpec(num_steps=16))
    assert notes([plain, _run(7.0, model=_gru())]) == []
    assert "different vocabularies" in notes([plain, plain, other_vocabulary])[0]
    assert "different texts" in notes([plain, other_text])[0]
    assert "different parts" in notes([plain, other_part])[0]


def test_names_tell_the_runs_apart(tmp_path: Path) -> None:
    folders = [_saved(tmp_path / name / "run", 9.0) for name in ("a", "b")]
    assert [each.name for each in read_runs(folders)] == ["a/run", "b/run"]
    assert read_runs([folders[0], f"{folders[1]}/latest"])[1].name == "run/latest"


@pytest.mark.parametrize(("words", "message"), [
    (["compare", "{a}"], "one run alone has nothing to be compared with: name two or more"),
    (["compare", "{a}", "{a}/"], "is given twice: leave one of them out"),
    (["compare", "{a}", "{none}"], "does not exist"),
    (["plot", "{none}", "--out", "x.png"], "does not exist"),
    (["plot", "{a}", "--out", "x.pdf"], "--out is x.pdf: its name must end in .png or .svg"),
    (["plot", "{a}", "--out", "-"], "--out is -: its name must end in .png or .svg"),
    (["plot", "{a}", "--out", "{none}/x.png"], "cannot be written: there is no folder"),
    (["compare", "{a}", "{model}"], "holds a model alone, without the training that made it"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = _run(9.0, data=None, training=None, vocab=None, position=Position())
    save_run(alone, tmp_path / "model")
    assert not (tmp_path / "model" / "history.jsonl").exists()
    named = {
        "a": _saved(tmp_path / "a", 9.0),
        "none": str(tmp_path / "none"),
        "model": str(tmp_path / "model"),
    }
    assert main([word.format(**named) for word in words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_the_curves_are_those_of_the_run() -> None:
    first, second = _run(9.0, 8.0, 8.5), _run(7.0, 6.0, model=_gru(), num_epochs=5)
    figure = curves.draw(_compared(first, second))
    (axes,) = figure.axes
    solid = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 1]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    best = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in solid] == [[9.0, 8.0, 8.5], [7.0, 6.0]]
    assert [list(line.get_ydata()) for line in dashed] == [[8.5, 7.5, 8.0], [6.5, 5.5]]
    assert [list(line.get_xdata()) for line in solid] == [[1, 2, 3], [1, 2]]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in best] == [([2], [8.0]), ([2], [6.0])]
    assert [line.get_color() for line in solid] == [line.get_color() for line in dashed] == ["C0", "C1"]
    texts = [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for legend in figure.legends
             for text in legend.get_texts()]  # fmt: skip
    assert texts == [
        "validation", "training", "best epoch", "run 0 (best 8.00 in epoch 2): cell rnn",
        "run 1 (best 6.00 in epoch 2, 2 of 5 epochs): cell gru",
    ]  # fmt: skip
    assert axes.get_yscale() == "linear"


def test_the_axis_is_logarithmic_where_that_helps() -> None:
    overflowed = dataclasses.replace(_run(9.0).position.epochs[0], train_perplexity=math.inf)
    steep = _run(900.0, 80.0, 20.0)
    infinite = _run(9.0, position=Position(7, (overflowed,)))
    for run, scale in ((steep, "log"), (_run(20.0, 10.0), "linear"), (infinite, "linear")):
        (axes,) = curves.draw(_compared(run)).axes
        assert axes.get_yscale() == scale


def test_more_runs_than_a_cycle_has_colours() -> None:
    (axes,) = curves.draw(_compared(*[_run(9.0 + number, 8.0) for number in range(14)])).axes
    solid = [str(line.get_color()) for line in axes.lines if line.get_linestyle() == "-"]
    assert len(set(solid)) == 14


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")])
def test_a_picture_is_written_whole_and_the_same_every_time(kind: str, begins: bytes, tmp_path: Path) -> None:
    # What matplotlib would take for a formula, and for a label to be hidden.
    folders = [_saved(tmp_path / name, 9.0, 8.0) for name in ("_a$x_{1$", "b")]
    pictures = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.{kind.upper()}"
        out.write_text("an older picture")
        assert main(["plot", *folders, "--out", str(out)]) == 0
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(begins)
    if kind == "svg":
        ElementTree.fromstring(pictures[0])


def test_the_users_settings_of_matplotlib_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: nonsense\n")
    out = tmp_path / "a.svg"
    command = [sys.executable, "-m", "d2lrnn", "plot", _saved(tmp_path / "a", 9.0), "--out", str(out)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert b"<svg" in out.read_bytes()


def test_without_matplotlib_the_command_that_installs_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert main(["plot", _saved(tmp_path / "a", 9.0), "--out", str(tmp_path / "a.png")]) == 2
    message = "a picture needs matplotlib, which is not installed here: pip install matplotlib"
    assert capsys.readouterr().err == f"d2lrnn: {message}\n"
    assert not (tmp_path / "a.png").exists()
