"""``d2lrnn config`` and ``train --config``: a run as a file, which gives the same run again."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.config import _toml, config_of, default_config
from d2lrnn.cli.config_file import TABLES, read_config, tomllib
from d2lrnn.cli.main import main
from d2lrnn.cli.new_run import new_run
from d2lrnn.cli.parser import parse
from d2lrnn.cli.train_options import OPTIONS, SETTINGS
from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import SpecError
from d2lrnn.registry import backend
from d2lrnn.saving.run import Change, Run
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.patience import Patience
from d2lrnn.training.schedules import Cosine

SHORT = ["--num-train", "60", "--num-val", "20", "--steps", "8", "--batch-size", "30", "--hidden", "4"]
TEXT = "it was so, and so it was. " * 60


def _parsed(*argv: str) -> TrainRequest:
    request = parse(["train", *argv])
    assert isinstance(request, TrainRequest)
    return request


def _file(folder: Path, text: str, name: str = "run.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def _uncommented(text: str) -> str:
    """All lines that have a value give it."""
    return re.sub(r"^#(\S+ = [^#\s])", r"\1", text, flags=re.MULTILINE)


@pytest.mark.parametrize("change", [str, _uncommented])
def test_the_printed_file_is_the_default_run(
    change: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config"]) == 0
    printed = change(capsys.readouterr().out)
    assert ("\nlr = 1.0" in printed) == (change is _uncommented)
    given_ = _parsed("--config", _file(tmp_path, printed))
    run, plain = (new_run(each, backend("numpy"))[0] for each in (given_, _parsed()))
    for field in ("model", "training", "num_epochs"):
        assert getattr(run, field) == getattr(plain, field)
    normalized = None if change is str else True  # which of a built-in text is the same
    assert run.data == dataclasses.replace(plain.data, normalized=normalized)
    assert all(np.array_equal(run.parameters[name], values) for name, values in plain.parameters.items())


def test_every_option_is_in_it_with_its_help_on_its_line() -> None:
    table, found = "", {}
    for line in default_config().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            table = heading[1]
        elif line.strip() and not line.startswith("# "):
            key, comment = re.fullmatch(r"#?([\w-]+) = .*?  # (.+)", line).groups()
            found[table, key] = comment
    expected = {(name, key): option.help for name, keys in TABLES.items() for key, option in keys.items()}
    assert found == expected
    assert {*OPTIONS, *SETTINGS} <= {option for keys in TABLES.values() for option in keys.values()}
    # What the parser knows and the file does not is where results go, or who trains.
    fields = {field.name for field in dataclasses.fields(TrainRequest)}
    described = {option.group or option.field for keys in TABLES.values() for option in keys.values()}
    assert fields - described == {
        "debug", "out", "overwrite", "resume", "keep", "save_every", "json", "csv", "plot", "tensorboard",
        "workers", "restart",
    }  # fmt: skip


RUNS: dict[str, list[str]] = {
    "plain": ["sample"],
    "all of a text": ["TEXT", "--steps", "4", "--batch-size", "500", "--hidden", "3", "--normalize"],
    "adam": ["sample", "--cell", "gru", "--embedding", "4", "--tied", "--input-dropout", "0.1", "--optimizer",
             "adam", "--beta2", "0.99", "--schedule", "cosine", "--warmup", "2", "--clip", "none", "--seed",
             "3", "--patience", "7"],
    "nesterov": ["TEXT", "--momentum", "0.5", "--nesterov", "--accumulate", "2", "--layers", "2", "--dropout",
                 "0.2", "--tokens", "word", "--min-freq", "1", "--schedule", "step", "--schedule-every", "2"],
    "sequential": ["TEXT", "sample", "--iterator", "sequential", "--impl", "concise", "--hidden", "3"],
}  # fmt: skip


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_a_saved_run_is_trained_again_by_its_file(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A path that TOML must escape.
    text = tmp_path / 'a "text" \\ü' / "it.txt"
    text.parent.mkdir()
    text.write_text(TEXT)
    argv = [str(text) if word == "TEXT" else word for word in words]
    if not {"--iterator", "--normalize"} & {*words}:
        argv += SHORT
    first, again = str(tmp_path / "first"), str(tmp_path / "again")
    assert main(["train", *argv, "--epochs", "2", "--out", first]) == 0
    capsys.readouterr()
    assert main(["config", first]) == 0
    file = tmp_path / "first" / "config.toml"
    assert capsys.readouterr().out == file.read_text("utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", "--config", str(file), "--out", again]) == 0
    runs = load_run(first), load_run(again)
    for field in ("model", "data", "training", "num_epochs", "early_stopping", "text_digest"):
        assert getattr(runs[0], field) == getattr(runs[1], field)
    histories = [
        [
            {name: value for name, value in epoch.items() if name != "tokens_per_second"}
            for epoch in run.history
        ]
        for run in runs
    ]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 2
    for name, values in runs[0].parameters.items():
        assert np.array_equal(values, runs[1].parameters[name])
    assert (tmp_path / "again" / "config.toml").read_text("utf-8") == file.read_text("utf-8")


def test_what_is_given_beside_the_file_goes_before(tmp_path: Path) -> None:
    path = _file(tmp_path, """
        text = ["time-machine", "book.txt", "/else/where.txt", "-"]
        epochs = 5
        [model]
        cell = "GRU"
        tied = true
        embedding = 4
        [data]
        num-train = 50
        [training]
        clip = "none"
        [optimizer]
        lr = 3
        momentum = 0.5
        [schedule]
        name = "step"
        every = 7
        """)  # fmt: skip
    book = str(tmp_path / "book.txt")
    request = _parsed("--config", path)
    assert request == TrainRequest(
        text=["time-machine", book, "/else/where.txt", "-"], epochs=5,
        model={"cell": "gru", "tied": True, "embedding_size": 4}, data={"num_train": 50},
        training={"clip": None, "learning_rate": 3.0}, optimizer={"momentum": 0.5},
        schedule={"name": "step", "every": 7},
    )  # fmt: skip
    assert isinstance(request.training["learning_rate"], float)
    other = _parsed("sample", "--no-tied", "--config", path, "--epochs", "2", "--momentum", "0.1")
    assert (other.text, other.epochs, other.optimizer) == (["sample"], 2, {"momentum": 0.1})
    assert other.model["tied"] is False
    # Of another optimizer the rate is another, and of another iterator there are no windows to count.
    adam = _parsed("--config", path, "--optimizer", "adam", "--iterator", "random")
    assert (adam.optimizer, adam.training, adam.data) == (
        {"name": "adam"}, {"clip": None}, {"iterator": "random"},
    )  # fmt: skip
    assert adam.schedule == request.schedule
    assert _parsed("--config", path, "--schedule", "cosine").schedule == {"name": "cosine"}
    assert _parsed("--config", path, "--optimizer", "sgd").optimizer == {"momentum": 0.5, "name": "sgd"}


@pytest.mark.parametrize(("text", "message"), [
    ('[model]\n\nhiden = 3', ", line 3: there is no hiden in the table [model]: did you mean hidden?"),
    ('[training]\nhidden = 3',
     ", line 2: hidden belongs in the table [model], and stands in the table [training]"),
    ('hidden = 3', ", line 1: hidden belongs in the table [model], and stands before the first table"),
    ('[model]\nepochs = 3',
     ", line 2: epochs belongs before the first table, and stands in the table [model]"),
    ('epochs = 3\n[modle]\nhidden = 3', ", line 2: there is no table [modle]: did you mean model?"),
    ('epoch = 3', ", line 1: there is no epoch before the first table: did you mean epochs?"),
    ('zzz = 3', ", line 1: there is no zzz before the first table: d2lrnn config prints what there is"),
    ('model = 3', ", line 1: model is 3: it must be a table, [model]"),
    ('[seed]\nx = 3', ", line 1: seed is a table: it must be a whole number"),
    ('out = "runs"', ", line 1: out does not describe the run: give --out on the command line"),
    ('save-every = 3',
     ", line 1: save-every does not describe the run: give --save-every on the command line"),
    ('[model]\nhidden = "many"', ", line 2: hidden is 'many': it must be a whole number"),
    ('[model]\nhidden = 3.0', ", line 2: hidden is 3.0: it must be a whole number"),
    ('[model]\nhidden = true', ", line 2: hidden is True: it must be a whole number"),
    ('[model]\n"tied" = 1', ", line 2: tied is 1: it must be true or false"),
    ('[model]\ncell = 3', ", line 2: cell is 3: it must be a name in quotes"),
    ('[optimizer]\nlr = "fast"', ", line 2: lr is 'fast': it must be a number"),
    (f'[optimizer]\nlr = 1{"0" * 400}', "it must be a number"),
    ('[optimizer]\n[model]\n[optimizer.lr]', "lr is a table: it must be a number"),
    ('[training]\nclip = "no"', ", line 2: clip is 'no': it must be a number or \"none\""),
    ('text = []', ", line 1: text is []: it must be a name in quotes, or a list of them"),
    ('text = ["a", 3]', ", line 1: text is ['a', 3]: it must be a name in quotes, or a list of them"),
    ('[model]\nhidden =', " is not TOML: Invalid value (at end of document)"),
    ('seed = 1\nseed = 2\n[model]', " is not TOML: Cannot overwrite a value (at line 2, column 9)"),
    ('a = ' + "[" * 100_000, " is not TOML"),
    ('[model]\nhidden = 0', "--hidden is 0: it must be at least 1"),
    ('[optimizer]\nname = "adam"\nmomentum = 0.9', "--momentum does not apply to the optimizer adam"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", _file(tmp_path, text)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin").write_bytes(b'text = "\xe9"')
    for path, reason in (
        (tmp_path / "none", "No such file"), (tmp_path, "Is a directory"), ("", "Is a directory"),
        (tmp_path / "latin", "can't decode byte 0xe9"),
    ):  # fmt: skip
        assert main(["train", "--config", str(path)]) == 2
        error = capsys.readouterr().err
        assert f"--config {path} cannot be read: " in error
        assert reason in error
        assert error.count("\n") == 1
    # A byte order mark and line ends of Windows are no mistake.
    (tmp_path / "windows").write_bytes("\ufeff# ü\r\n[model]\r\nhidden = 3\r\n".encode())
    assert read_config(str(tmp_path / "windows")) == {"model.num_hiddens": 3}


def test_a_run_is_resumed_with_its_file_and_a_change_in_it_counts_as_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", *SHORT, "--epochs", "1", "--out", str(out)]) == 0
    file = out / "config.toml"
    mine = Path(shutil.copy(file, tmp_path / "mine.toml"))
    assert main(["train", "--config", str(mine), "--resume", str(out), "--epochs", "2"]) == 0
    assert load_run(out).changes == ()
    assert "epochs = 2 " in file.read_text()
    text = file.read_text()
    mine.write_text(text.replace("lr = 1.0", "lr = 0.5").replace("epochs = 2", "epochs = 3"))
    assert main(["train", "--config", str(mine), "--resume", str(out)]) == 0
    run = load_run(out)
    assert (len(run.history), [change.before.learning_rate for change in run.changes]) == (3, [1.0])
    assert "# Changed on the way: learning rate 1.0 -> 0.5 from step 4." in file.read_text()
    capsys.readouterr()
    mine.write_text(text.replace("hidden = 4", "hidden = 5"))
    assert main(["train", "--config", str(mine), "--resume", str(out), "--epochs", "4"]) == 2
    assert "--hidden 5 does not fit" in capsys.readouterr().err


def test_somebody_elses_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    out.mkdir()
    file = out / "config.toml"
    # Also what `d2lrnn config` printed, and somebody may have changed.
    for text in ("[model]\n", "", default_config()):
        file.write_text(text)
        assert main(["train", *SHORT, "--epochs", "1", "--out", str(out), "--overwrite"]) == 2
        assert f"{file} is no file of a saved run" in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["config.toml"]
        assert file.read_text() == text
    file.unlink()
    for _ in range(2):  # its own it is
        assert main(["train", *SHORT, "--epochs", "1", "--out", str(out), "--overwrite"]) == 0
    file.unlink()
    file.symlink_to(tmp_path / "other")
    (tmp_path / "other").write_text("mine")
    assert main(["train", *SHORT, "--epochs", "1", "--out", str(out), "--overwrite"]) == 2


def _run(**changes: Any) -> Run:
    values: dict[str, Any] = {
        "model": ModelSpec(28), "data": DataSpec(), "training": TrainingSpec(), "num_epochs": 3, **changes
    }  # fmt: skip
    return Run(parameters={}, **values)


def test_what_no_option_gives_is_said() -> None:
    assert "# Set in Python" not in config_of(_run())
    run = _run(
        model=ModelSpec(28, "gru", reset_after=True, dtype="float64"), data=DataSpec(seed=3, batch_size=7),
        training=TrainingSpec(accumulate=2, optimizer=Adam(), schedule=Cosine(steps=5)),
    )  # fmt: skip
    text = config_of(run)
    said = "reset_after True, dtype float64, seed 3 of the order of the batches, batches of 7."
    assert f"# Set in Python, where no option sets it: {said}\n" in text
    document = tomllib.loads(text)
    assert document["optimizer"] == {
        "name": "adam", "lr": 1.0, "weight-decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
    }  # fmt: skip
    assert document["schedule"] == {"name": "cosine", "warmup": 0, "steps": 5, "final": 0.0}


def test_each_change_is_said() -> None:
    before = (TrainingSpec(learning_rate=1.0), TrainingSpec(learning_rate=0.5))
    changes = tuple(Change(step, training) for step, training in zip((10, 2000), before, strict=True))
    text = config_of(_run(training=TrainingSpec(learning_rate=0.5, clip=None), changes=changes))
    assert "# Changed on the way: learning rate 1.0 -> 0.5 from step 10.\n" in text
    assert "# Changed on the way: clipping norm 1.0 -> none from step 2,000.\n" in text


def test_the_patience_of_a_run_is_in_its_file() -> None:
    assert "\npatience = 3 " in config_of(_run(early_stopping=Patience(3)))
    text = config_of(_run(early_stopping=Patience(3, since=5)))
    assert "# Went on after epoch 5, with which its patience was over.\n" in text
    assert "\n#patience = " in config_of(_run())


def test_a_model_alone_has_no_specification(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(_parsed(*SHORT), backend("numpy"))[0]
    save_run(dataclasses.replace(run, data=None, training=None), tmp_path / "model")
    assert main(["config", str(tmp_path / "model")]) == 2
    assert "a model alone" in capsys.readouterr().err
    assert main(["config", str(tmp_path / "none")]) == 2


@given(
    st.text() | st.lists(st.text(), min_size=1) | st.booleans() | st.integers() | st.floats(allow_nan=False)
)
def test_values_are_read_as_they_were_written(value: Any) -> None:
    document = tomllib.loads(f"value = {_toml(value)}  # help\n")
    assert document == {"value": value}
    assert type(document["value"]) is type(value)


def test_reading_needs_no_package_on_this_python() -> None:
    assert tomllib.__name__ == ("tomllib" if sys.version_info >= (3, 11) else "tomli")


def test_a_file_of_its_own_for_every_key(tmp_path: Path) -> None:
    """Each key alone is read as its option is."""
    values = {int: ("3", "3"), float: ("0.5", "0.5"), str: ('"x"', "x"), bool: ("true", None)}
    for table, keys in TABLES.items():
        for key, option in keys.items():
            if option.field == "text":
                continue
            in_file, word = values.get(option.kind, ("0.5", "0.5"))
            path = _file(tmp_path, f"{f'[{table}]' if table else ''}\n{key} = {in_file}\n")
            argv = [option.flag] if word is None else [option.flag, word]
            assert _parsed("--config", path) == _parsed(*argv), option


def test_no_such_spec_error_is_lost(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--epochs is 9223372036854775808: it must be below"):
        _parsed("--config", _file(tmp_path, f"epochs = {1 << 63}"))
