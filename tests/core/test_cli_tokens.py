"""Runs on tokens that are bytes, from the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from byte_units import UNITS, needs_tokenizers

from d2lrnn.cli.main import main
from d2lrnn.data.byte_level import ByteLevelVocab
from d2lrnn.saving.run_folder import load_run

TEXT = "Ein süßer Fluß fließt hier, and the river goes on and on. " * 40
SHORT = ["--steps", "4", "--batch-size", "16", "--hidden", "4"]


@pytest.fixture
def how(unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options for a unit, in a folder with a text."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    return ["--tokens", unit, *(["--vocab-size", "300"] if unit == "bpe" else [])]


def _same(one: str, other: str) -> None:
    a, b = load_run(one), load_run(other)
    assert (a.vocab, a.text_digest, a.prompt) == (b.vocab, b.text_digest, b.prompt)
    for name, value in a.parameters.items():
        np.testing.assert_array_equal(value, b.parameters[name])
    assert [{**epoch, "tokens_per_second": 0} for epoch in a.history] == [
        {**epoch, "tokens_per_second": 0} for epoch in b.history
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_a_run_is_resumed_on_the_text_and_on_its_file(unit: str, how: list[str]) -> None:
    assert main(["train", "text.txt", *how, *SHORT, "--epochs", "2", "--out", "whole"]) == 0
    assert main(["train", "text.txt", *how, *SHORT, "--epochs", "1", "--out", "a"]) == 0
    run = load_run("a")
    assert isinstance(run.vocab, ByteLevelVocab)
    assert run.vocab.unit == unit
    assert len(run.vocab) == 256 if unit == "byte" else 256 < len(run.vocab) <= 300
    assert main(["train", "--resume", "a", *how, "--epochs", "2"]) == 0
    _same("a", "whole")
    assert main(["encode", "text.txt", *how, "--out", "file"]) == 0
    assert main(["train", "file", *SHORT, "--epochs", "1", "--out", "b"]) == 0
    assert main(["train", "text.txt", "--resume", "b", "--epochs", "2"]) == 0
    _same("b", "whole")
    assert main(["encode", "text.txt", "--like", "a", "--out", "like"]) == 0
    assert Path("like").read_bytes() == Path("file").read_bytes()
    assert main(["encode", "--check", "like"]) == 0


@pytest.mark.parametrize("unit", UNITS)
def test_any_beginning_is_continued(
    unit: str, how: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", "text.txt", *how, *SHORT, "--epochs", "1", "--out", "run"]) == 0
    assert load_run("run").prompt == "Ein süßer Fluß"
    capsys.readouterr()
    for prefix in ("道可道 😀", "Ein süß"):
        assert main(["generate", "run", "--prefix", prefix, "--num", "50", "--no-unknown"]) == 0
        written = capsys.readouterr()
        assert written.out.startswith(prefix)
        assert written.err == ""  # nothing is unknown
        assert main(["generate", "run", "--prefix", prefix, "--num", "50", "--stream"]) == 0
        assert capsys.readouterr().out == written.out
        monkeypatch.setattr(sys, "stdin", io.StringIO(prefix + "\n"))
        assert main(["chat", "run", "--num", "50", "--no-unknown"]) == 0
        assert capsys.readouterr().out.startswith(prefix)
    Path("other.txt").write_text("道" * 300, encoding="utf-8")
    assert main(["evaluate", "run", "other.txt", "--json", "result.json"]) == 0
    result = json.loads(Path("result.json").read_text())
    assert result["unknown_tokens"] == 0
    assert result["bits_per_byte"] == pytest.approx(result["bits_per_char"] / 3, rel=0.02)


@pytest.mark.parametrize("unit", [pytest.param("bpe", marks=needs_tokenizers)])
def test_a_run_of_pairs_says_which_package_is_missing(
    unit: str, how: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "text.txt", *how, *SHORT, "--epochs", "1", "--out", "run"]) == 0
    assert main(["encode", "text.txt", *how, "--out", "file"]) == 0
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    capsys.readouterr()
    for words in (
        ["train", "text.txt", "--tokens", unit],
        ["train", "file"],  # its samples would fail behind the last epoch
        ["train", "--resume", "run", "--epochs", "2"],
        ["generate", "run"],
        ["generate", "run", "--stream"],
        ["evaluate", "run"],
        ["encode", "text.txt", "--tokens", unit, "--out", "x"],
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "tokenizers, which is not installed here: pip install 'd2lrnn[bpe]'" in err
        assert err.count("\n") == 1
    assert main(["encode", "--check", "file"]) == 0
    assert load_run("run").history


@pytest.mark.parametrize("unit", UNITS)
def test_a_run_keeps_its_unit(unit: str, how: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "text.txt", *how, *SHORT, "--epochs", "1", "--out", "run"]) == 0
    assert main(["encode", "text.txt", *how, "--out", "file"]) == 0
    capsys.readouterr()
    for words, told in (
        (["train", "--resume", "run", "--tokens", "char"], f"char does not fit: run was begun with {unit}"),
        (["train", "--resume", "run", "--vocab-size", "999"], "--vocab-size 999 does not fit: "),
        (["train", "file", "--tokens", "word"], "--tokens does not fit: "),
        (["train", "file", "--vocab-size", "999"], "--vocab-size does not fit: "),
        (["encode", "text.txt", "--like", "run", "--tokens", "word", "--out", "x"], "--tokens does not fit"),
    ):  # fmt: skip
        assert main(words) == 2
        assert told in capsys.readouterr().err
