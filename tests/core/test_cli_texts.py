"""Texts of one's own on the command line: several, folders, standard input, and other ones to evaluate on."""

from __future__ import annotations

import io
import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from d2lrnn.cli.main import main
from d2lrnn.data.corpus import corpus_from_text, load_corpus
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation.prompts import prompt_from, prompt_of
from d2lrnn.registry import backend
from d2lrnn.saving.run_folder import load_run

SHORT = ["--epochs", "1", "--steps", "8", "--batch-size", "64", "--hidden", "8"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("the cat sat on the mat. " * 20)
    (tmp_path / "texts" / "two.txt").write_text("the dog lay in the fog. " * 20)
    return tmp_path


def _pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_files_and_their_folder_are_the_same_text(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for words, out in ((["texts/one.txt", "texts/two.txt"], "a"), (["texts"], "b")):
        assert main(["train", *words, *SHORT, "--out", out]) == 0
        assert "all 961 tokens" in capsys.readouterr().out
    a, b = load_run("a"), load_run("b")
    assert a.text_digest == b.text_digest
    assert a.data is not None
    assert a.data.source == tuple(str(folder / "texts" / name) for name in ("one.txt", "two.txt"))
    # Read again from wherever one stands, and refused where a text was added.
    monkeypatch.chdir("texts")
    assert main(["train", "--resume", "../a", "--epochs", "2"]) == 0
    (folder / "texts" / "three.txt").write_text("more")
    assert main(["train", "--resume", "../a", "--epochs", "3"]) == 0
    assert main(["train", "--resume", "../b", "--epochs", "2"]) == 2
    assert "is not the text that" in capsys.readouterr().err


def test_a_text_that_is_piped_in(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, run = "a pipe is not a file, said the magritte. " * 20, str(folder / "run")
    _pipe(monkeypatch, text)
    assert main(["train", "-", *SHORT, "--out", run]) == 0
    assert "text     standard input: all 820 tokens" in capsys.readouterr().out
    for words in (["evaluate", run], ["train", "--resume", run, "--epochs", "2"]):
        assert main(words) == 2
        told = "the text of the run came from standard input: give it anew with d2lrnn " + words[0]
        assert told in capsys.readouterr().err
    _pipe(monkeypatch, text)
    assert main(["train", "-", "--resume", run, "--epochs", "2"]) == 0
    (folder / "text.txt").write_text(text)
    assert main(["train", str(folder / "text.txt"), "--resume", run, "--epochs", "3"]) == 0
    assert main(["evaluate", run]) == 0


@pytest.mark.parametrize("iterator", ["sliding", "random", "sequential"])
def test_another_text_is_evaluated_as_a_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], iterator: str
) -> None:
    """Compared with the loss that is added up here, token by token."""
    run, other, result = folder / "run", folder / "other.txt", folder / "result.json"
    other.write_text("the fox ate the hen, and sat.")
    text, options = str(folder / "texts" / "one.txt"), ["--iterator", iterator, "--out", str(run)]
    assert main(["train", text, *SHORT, "--batch-size", "2", *options]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), str(other), "--json", str(result)]) == 0
    printed = capsys.readouterr().out
    unknown = sum(character in "fxd," for character in other.read_text())
    assert f"all 29 tokens, 8 steps at a time, {unknown} of them unknown to the model\n" in printed
    assert "\nwhole text  perplexity " in printed
    loaded = load_run(run)
    assert loaded.training is not None
    assert loaded.vocab is not None
    numpy = backend("numpy")
    learner = numpy.learner(loaded.build(numpy), loaded.training)
    tokens = np.array([loaded.vocab[character] for character in other.read_text()], np.int32)
    windows = {
        "sliding": [tokens[start : start + 9] for start in range(29 - 8)],
        "random": [tokens[start : start + 9] for start in range(0, 28, 8)],
        "sequential": [tokens[:15], tokens[14:]],
    }[iterator]
    nats = []
    for window in windows:
        state = learner.initial_state(1)
        for token, target in pairwise(window):
            logits, state = learner.predict_step(np.array([token]), state)
            logits = logits[0].astype(float)
            nats.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target])
    found = json.loads(result.read_text())
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-5)
    assert (found["tokens"], found["unknown_tokens"]) == (len(nats), unknown)


def test_another_text_is_normalised_as_the_runs_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = str(folder / "run"), folder / "other.txt"
    other.write_bytes("It WAS so, s\xe9!".encode("latin1"))
    assert main(["train", *SHORT, "--num-train", "100", "--num-val", "50", "--out", run]) == 0
    assert main(["evaluate", run, str(other)]) == 2
    capsys.readouterr()
    assert main(["evaluate", run, str(other), "--encoding", "latin1"]) == 0
    assert "other.txt: all 12 tokens, 8 steps at a time\n" in capsys.readouterr().out
    other.write_text("so")
    assert main(["evaluate", run, str(other)]) == 2
    assert "the text has 2 tokens: to evaluate a model it needs at least 9" in capsys.readouterr().err


def test_what_is_continued_comes_from_the_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder / "run")
    assert main(["train", str(folder / "texts"), *SHORT, "--out", run]) == 0
    assert "\nsample      the cat sat on" in capsys.readouterr().out
    assert main(["generate", run, "--num", "5"]) == 0
    assert capsys.readouterr().out.startswith("the cat sat on")
    assert main(["generate", run, "--num", "5", "--prefix", "fog"]) == 0
    assert capsys.readouterr().out.startswith("fog")


@pytest.mark.parametrize(
    ("text", "unit", "prompt"),
    [
        ("Call me Ishmael. Some years ago", "char", "Call me Ishmael."),
        ("  \n\nAlice was beginning to get very tired", "char", "Alice was"),
        ("I\nam the second line", "char", "I"),
        ("道可道,非常道。名可名,非常名。無名天地之始", "char", "道可道,非常道。名可名,非常名。"),
        ("das Haus und der Garten", "word", "das Haus und"),
        ("one", "word", "one"),
    ],
)
def test_the_beginning_of_a_text(text: str, unit: str, prompt: str) -> None:
    assert prompt_of(corpus_from_text(text, unit=unit)) == prompt  # type: ignore[arg-type]


def test_a_beginning_that_the_vocabulary_lacks() -> None:
    assert prompt_of(load_corpus("sample")) == "it has"
    vocab = Vocab(list("ab"))
    assert prompt_of(corpus_from_text("cd", vocab=vocab)) == "a"
    assert prompt_of(corpus_from_text("cabdab", vocab=vocab)) == "abab"
    assert prompt_from(Vocab([])) == "<unk>"
