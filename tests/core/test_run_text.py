"""The text that a saved run names: read again for its owner, and never for somebody who made the run up."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hostile
import pytest

from d2lrnn.cli.main import main
from d2lrnn.saving.run_folder import load_run

TEXT = "a rose is a rose is a rose. " * 40
OPTIONS = ["--batch-size", "64", "--steps", "8", "--hidden", "4", "--epochs", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(TEXT)
    assert main(["train", str(folder / "text.txt"), *OPTIONS, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "folder", symlinks=True))


def _change(run: Path, **values: Any) -> None:
    """Changes the description of a run, with digests that fit, as an attacker would."""
    checkpoint = (run / "latest").resolve()
    document = json.loads((checkpoint / "run.json").read_text())
    document["data"]["source"] = values.pop("source", document["data"]["source"])
    (checkpoint / "run.json").write_text(json.dumps(document | values))
    hostile.seal(checkpoint)


_opened: list[tuple[str, bool]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None:
        # Of a file that `open` has `os.open` open, both say so; the latter knows no mode.
        _opened.append((str(arguments[0]), arguments[1] is None))


sys.addaudithook(_audit)


@contextmanager
def opened_files() -> Iterator[list[tuple[str, bool]]]:
    global _opened
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None


def _commands(run: Path) -> list[list[str]]:
    return [["evaluate", str(run)], ["train", "--resume", str(run), "--epochs", "2"]]


@pytest.mark.parametrize("which", ["/dev/zero", "a pipe", "/etc/passwd", "a folder"])
@pytest.mark.parametrize("recorded", ["its own", "as if of an older version", "a guess"])
def test_a_text_that_somebody_else_named_is_not_opened(
    folder: Path, which: str, recorded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, named = folder / "run", which
    if which == "a pipe":
        named = str(folder / "pipe")
        os.mkfifo(named)
    elif which == "a folder":
        named = str(folder / "secrets")
        os.mkdir(named)
        (folder / "secrets" / "secret.txt").write_text("secret")
    _change(run, source=named)
    if recorded != "its own":
        _change(run, text_size=None if recorded.startswith("as if") else 0)
    for command in _commands(run):
        with opened_files() as opened:
            assert main(command) == 2
        paths = [path for path, _ in opened]
        assert paths
        assert named not in paths
        assert not any("secret" in path for path in paths)
        log = capsys.readouterr().err
        assert named in log
        assert f"d2lrnn {command[0]} " in log
        assert log.count("\n") == 1


def test_every_file_of_a_run_is_opened_once(folder: Path) -> None:
    with opened_files() as opened:
        load_run(folder / "run")
    names = [Path(path).name for path, by_the_system in opened if by_the_system]
    assert sorted(names) == ["SHA256SUMS", "model.safetensors", "run.json"]


@pytest.mark.parametrize("digest", ["0" * 64, None])
def test_of_a_text_whose_size_was_guessed_nothing_is_shown(
    folder: Path, digest: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run, secret = folder / "run", folder / "secret"
    secret.write_text("the password is rose " * 20)
    _change(run, source=str(secret), text_size=secret.stat().st_size, text_digest=digest)
    for command in _commands(run):
        assert main(command) == 2
        printed, log = capsys.readouterr()
        assert "password" not in printed + log
        assert "perplexity" not in printed


def test_one_s_own_text_needs_no_word_and_another_one_does(
    folder: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "run"
    assert load_run(run).text_size == len(TEXT)
    for command in _commands(run):
        assert main(command) == 0
    # As of an earlier version: to name the text is enough, and the run records its size from then on.
    _change(run, text_size=None)
    assert main(["train", str(made / "text.txt"), "--resume", str(run), "--epochs", "3"]) == 0
    assert main(["evaluate", str(run / "latest")]) == 0
    # The user's word is for any text, a pipe too.
    assert main(["evaluate", str(run), "/etc/passwd"]) == 0
    capsys.readouterr()


def test_a_text_of_the_same_size_that_has_changed(
    folder: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = folder / "text.txt"
    text.write_text(TEXT.replace("rose", "nose"))
    _change(folder / "run", source=str(text))
    for command in _commands(folder / "run"):
        assert main(command) == 2
        assert (
            f"{text} is not the text that the run was trained on: its tokens have" in capsys.readouterr().err
        )


def test_a_built_in_text_needs_no_size(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick = ["--num-train", "64", "--num-val", "32", "--hidden", "4", "--batch-size", "32", "--epochs", "1"]
    assert main(["train", "sample", *quick, "--out", str(run)]) == 0
    _change(run, text_size=None)
    for command in _commands(run):
        assert main(command) == 0
