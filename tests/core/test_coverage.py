"""Bits per character and per byte: the same text in every unit, and a model whose figures are known."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_units import UNITS

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.batches import EvaluationText, RandomSampling, SequentialPartitioning, SlidingWindows
from d2lrnn.data.corpus import Corpus, corpus_from_text
from d2lrnn.data.coverage import Coverage, count_targets, coverage_of, validation_coverage
from d2lrnn.data.rows import parts_of
from d2lrnn.data.vocabulary import Unit, Vocab
from d2lrnn.saving.run_folder import load_run
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.trainer import Trainer

ALL = ["char", "word", *UNITS]
LINE = "der süße Fluß fließt über die weiße Brücke ins große 道 hinaus und weiter"
TEXT = " ".join([LINE] * 30)


def _corpus(unit: Unit, text: str = TEXT) -> Corpus:
    return corpus_from_text(text, unit=unit, vocab_size=300 if unit == "bpe" else None)


@pytest.mark.parametrize("unit", ALL)
@pytest.mark.parametrize("iterator", [RandomSampling, SequentialPartitioning])
def test_all_tokens_but_the_first_cover_the_text_behind_it(unit: Unit, iterator: Any) -> None:
    corpus = _corpus(unit)
    data = EvaluationText(iterator, corpus, batch_size=3, num_steps=7)
    first = corpus.decode(corpus.tokens[:1])
    covered = TEXT.removeprefix(first)
    assert validation_coverage(data) == Coverage(len(corpus) - 1, len(covered), len(covered.encode()))


@pytest.mark.parametrize("unit", ALL)
def test_a_target_counts_as_often_as_it_is_scored(unit: Unit) -> None:
    corpus = _corpus(unit)
    data = SlidingWindows(corpus, batch_size=4, num_steps=5, num_train=9, num_val=6)
    between = " " if unit == "word" else ""
    targets = [corpus.tokens[start + 1 : start + 6] for start in range(14, 20)]
    covered = validation_coverage(data)
    assert covered is not None
    assert covered.tokens == 30
    # A window can begin or end inside a character, but not that of 'char' and 'word'.
    if unit in ("char", "word"):
        texts = [between + corpus.decode(row) for row in targets]
        assert covered.characters == sum(map(len, texts))
        assert covered.bytes == sum(len(text.encode()) for text in texts)
    counts = np.bincount(np.concatenate(targets), minlength=len(corpus.vocab))
    assert coverage_of(corpus.vocab, counts) == covered


def test_what_several_workers_count_of_their_rows_is_all_of_it() -> None:
    corpus = _corpus("byte")
    data = SlidingWindows(corpus, batch_size=5, num_steps=7, num_train=90, num_val=33)
    found = []
    for rank in range(3):
        counts = np.zeros(len(corpus.vocab), np.int64)
        for part in parts_of(data.validation_batches(), rank, 3):
            count_targets(counts, part.batch.targets)
        found.append(coverage_of(corpus.vocab, counts))
    whole = validation_coverage(data)
    assert whole == Coverage(*(sum(numbers) for numbers in zip(*found, strict=True)))
    # As engines sum: in single precision.
    large = Coverage(3, (1 << 50) + 1, (1 << 51) - 1)
    assert large.summed(lambda array: np.float32(7) * array) == Coverage(*(7 * number for number in large))


def test_the_unknown_token_covers_nothing() -> None:
    assert coverage_of(Vocab(["so", "it"]), np.array([5, 2, 1])) == Coverage(8, 9, 9)  # "it" is the second
    assert coverage_of(Vocab("ab"), np.array([3, 0, 0])).per_character(1.0) is None
    assert validation_coverage(RandomSampling(np.arange(200), batch_size=2, num_steps=5)) is None
    pairs = corpus_from_text("so it goes so it goes so it goes", unit="word")
    pairs = Corpus(pairs.tokens, Vocab([("so", "it"), ("it", "goes"), ("goes", "so")]), "word", "", False)
    assert validation_coverage(EvaluationText(RandomSampling, pairs, batch_size=2, num_steps=2)) is None


@pytest.mark.parametrize("unit", ALL)
def test_a_model_that_guesses_has_the_bits_that_a_hand_computes(unit: Unit) -> None:
    corpus = _corpus(unit)
    spec = ModelSpec(len(corpus.vocab), num_hiddens=2)
    backend = d2lrnn.backend("numpy")
    zeros = {name: np.zeros_like(value) for name, value in initial_parameters(spec).items()}
    learner = backend.learner(backend.build(spec, zeros), TrainingSpec(learning_rate=1e-9))
    data = RandomSampling(corpus, batch_size=2, num_steps=6, val_fraction=0.5)
    record = Trainer(learner, data).fit(1).epochs[0]
    # All of the second half but its first token, with the space before a word.
    held = corpus.tokens[len(data.train_tokens) + 1 :]
    text = (" " if unit == "word" else "") + corpus.decode(held)
    total = len(held) * math.log2(len(corpus.vocab))
    assert record.val_bits_per_token == pytest.approx(total / len(held), rel=1e-5)
    assert "\ufffd" not in text
    assert record.val_bits_per_char == pytest.approx(total / len(text), rel=1e-5)
    assert record.val_bits_per_byte == pytest.approx(total / len(text.encode()), rel=1e-5)


def test_a_character_is_a_token_to_the_last_bit() -> None:
    corpus = _corpus("char")
    spec = ModelSpec(len(corpus.vocab), num_hiddens=2)
    backend = d2lrnn.backend("numpy")
    learner = backend.learner(backend.build(spec, initial_parameters(spec)), TrainingSpec())
    data = SlidingWindows(corpus, batch_size=32, num_steps=6, num_train=64, num_val=64)
    record = Trainer(learner, data).fit(1).epochs[0]
    assert record.val_bits_per_char == record.val_bits_per_token
    assert record.val_bits_per_byte is not None
    assert record.val_bits_per_byte < record.val_bits_per_token


@pytest.mark.parametrize("unit", ALL)
def test_every_command_reports_them(
    unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    command = ["train", "text.txt", "--tokens", unit, "--iterator", "random", "--steps", "5", "--batch-size",
               "4", "--hidden", "3", "--epochs", "1", "--out", "run", "--json", "result.json"]  # fmt: skip
    assert main([*command, *(["--vocab-size", "300"] if unit == "bpe" else [])]) == 0
    out = capsys.readouterr().out
    (epoch,) = json.loads(Path("result.json").read_text())["epochs"]
    char, byte, token = (epoch[f"val_bits_per_{per}"] for per in ("char", "byte", "token"))
    assert (token == char, token == byte) == (unit == "char", unit == "byte")
    own = {"char": "character", "word": "word", "byte": "byte", "bpe": "token"}[unit]
    expected = [f"{token:.3f} bits per {own}"]
    expected += [] if unit == "char" else [f"{char:.3f} per character"]
    expected += [] if unit == "byte" else [f"{byte:.3f} per byte"]
    assert f", {', '.join(expected)}\n" in out
    line = json.loads(Path("run/history.jsonl").read_text())
    assert (line["val_bits_per_char"], line["val_bits_per_byte"]) == (char, byte)
    assert main(["evaluate", "run", "--json", "result.json"]) == 0
    assert f", {', '.join(expected)}, " in capsys.readouterr().out
    result = json.loads(Path("result.json").read_text())
    assert result["val_bits_per_char"] == pytest.approx(char, rel=1e-6)
    total = result["val_bits_per_token"] * result["val_tokens"]
    assert total / result["val_characters"] == pytest.approx(char, rel=1e-6)
    assert total / result["val_bytes"] == pytest.approx(byte, rel=1e-6)
    # Of another text, all of it behind its first token.
    Path("other.txt").write_text(LINE, encoding="utf-8")
    assert main(["evaluate", "run", "other.txt", "--json", "result.json"]) == 0
    result = json.loads(Path("result.json").read_text())
    assert result["unknown_tokens"] == 0
    assert 0 < result["bytes"] < len(LINE.encode())
    assert load_run("run").history[0]["val_bits_per_byte"] == byte


def test_what_was_learned_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same text in other tokens: other perplexities, and about as many bits per character."""
    monkeypatch.chdir(tmp_path)
    how = ["--steps", "16", "--batch-size", "64", "--num-train", "1920", "--num-val", "640",
           "--optimizer", "adam", "--lr", "0.01", "--epochs", "3"]  # fmt: skip
    for unit in ("char", "byte"):
        assert main(["train", "sample", "--tokens", unit, *how, "--out", unit]) == 0
    assert main(["train", "sample", "--tokens", "word", *how, "--out", "word"]) == 0
    epochs = {unit: load_run(unit).history[-1] for unit in ("char", "byte", "word")}
    chars = {unit: epoch["val_bits_per_char"] for unit, epoch in epochs.items()}
    assert all(1.5 < bits < 4.5 for bits in chars.values())
    assert epochs["word"]["val_bits_per_token"] > 8
    capsys.readouterr()
    assert main(["compare", "char", "byte", "word", "--json", "table.json"]) == 0
    out = capsys.readouterr().out
    for per in ("char", "byte"):
        assert re.search(rf"bits/{per}( +\d\.\d\d\d){{3}}\n", out)
    assert "bits per character and per byte do" in json.loads(Path("table.json").read_text())["notes"][0]
