"""Tokens that are bytes: alone, and by byte-pair encoding. Nothing is unknown, and decoding is exact."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_units import UNITS, needs_tokenizers

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.data import byte_pairs
from d2lrnn.data.byte_level import ALPHABET, ByteLevelVocab, bytes_of, read_vocab, text_of
from d2lrnn.data.byte_pairs import LONGEST_TOKEN, cut_pieces
from d2lrnn.data.corpus import corpus_from_text, load_corpus
from d2lrnn.data.encoded import Origin, check_encoded, open_encoded
from d2lrnn.data.encoder import encode_texts
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import sample_text
from d2lrnn.data.vocabulary import Unit, Vocab
from d2lrnn.errors import RunError, SpecError, TextError
from d2lrnn.generation import beam_search, continue_prefix, generate, stream
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.initialization import initial_parameters

TEXT = (
    "Some say the world will end in fire,\nsome say in ice — 道可道 😀 naïve\tway\n\n  so  it's said. " * 40
)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package tokenizers were not installed."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)


def _corpus(unit: Unit, text: str = TEXT) -> Any:
    return corpus_from_text(text, unit=unit, vocab_size=400 if unit == "bpe" else None)


def test_bytes_are_their_own_indices() -> None:
    corpus = _corpus("byte")
    assert corpus.tokens.tobytes() == TEXT.encode()
    assert corpus.tokens.dtype == np.uint8
    assert bytes_of(corpus.vocab.idx_to_token) == bytes(range(256))
    assert load_corpus("sample", unit="byte").decode(range(97, 100)) == "abc"
    assert corpus_from_text("A!b", unit="byte", normalized=True).tokens.tobytes() == b"a b"


@pytest.mark.parametrize("unit", UNITS)
def test_decoding_is_exact_for_every_text(unit: Unit) -> None:
    vocab = _corpus(unit).vocab
    chance = random.Random(0)
    alphabet = [*"ab \n\t\r'é道😀\x00\x1c\u2028\u0301", "say", "  ", "\ufeff"]
    for _ in range(300):
        text = "".join(chance.choices(alphabet, k=chance.randint(0, 30)))
        tokens = vocab.tokenize(text)
        assert text_of(tokens) == text
        assert vocab.encode(tokens).tolist() == vocab.encode_text(text).tolist()
    assert _corpus(unit).decode(_corpus(unit).tokens) == TEXT
    # Half of a surrogate pair is in no text in UTF-8.
    assert text_of(vocab.tokenize("a\ud800道")) == "a?道"


@needs_tokenizers
def test_learned_tokens_are_those_that_occur_often_and_the_same_in_every_process() -> None:
    text = sample_text()
    corpus = _corpus("bpe", text)
    assert len(corpus.vocab) == 400
    assert {"Ġthe", "Ġand"} <= {*corpus.vocab.idx_to_token}
    assert len(corpus) < len(text) / 2
    assert 256 < len(_corpus("bpe").vocab) < 400  # of a short text no more are learned
    code = (
        "import json, sys; from d2lrnn.data.corpus import corpus_from_text\n"
        "corpus = corpus_from_text(sys.argv[1], unit='bpe', vocab_size=400)\n"
        "print(json.dumps([corpus.vocab.to_json(), corpus.tokens.tolist()]))"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [corpus.vocab.to_json(), corpus.tokens.tolist()]
        assert done.stderr == ""


@needs_tokenizers
def test_of_two_neighbours_those_are_joined_first_whose_token_stands_first() -> None:
    def tokens(*merged: str) -> list[str]:
        return ByteLevelVocab(merged).tokenize("abc")

    assert tokens("ab", "bc") == ["ab", "c"]
    assert tokens("bc", "ab") == ["a", "bc"]
    assert tokens("ab", "bc", "abc") == ["abc"]
    assert tokens("abc") == ["a", "b", "c"]  # no pair leads there
    assert len(_corpus("bpe", "abc").vocab) == 256  # nothing occurs twice
    assert _corpus("bpe", "abc").tokens.tobytes() == b"abc"
    assert 32 < max(map(len, ByteLevelVocab.learned(["-" * 1000] * 9, 1000).idx_to_token)) <= LONGEST_TOKEN


def test_a_text_is_cut_at_the_same_places_however_it_is_read() -> None:
    chance = random.Random(1)
    longest = byte_pairs._LONGEST
    for _ in range(60):
        text = "".join(
            chance.choice(["x" * chance.randint(1, 2 * longest), " ", "\n", "道 ", " a" * longest])
            for _ in range(chance.randint(1, 6))
        )
        pieces, rest = cut_pieces(text)
        assert (rest, "".join(pieces)) == ("", text)
        assert max(map(len, pieces)) <= longest
        found, rest, at = [], "", 0
        while at < len(text):
            size = chance.randint(1, longest)
            some, rest = cut_pieces(rest + text[at : at + size], final=False)
            found, at = found + some, at + size
        assert found + cut_pieces(rest)[0] == pieces
    words = "say " * longest
    assert {piece.strip() for piece in cut_pieces(words)[0]}.isdisjoint({"s", "sa"})
    assert all(piece.endswith("say") for piece in cut_pieces(words.strip())[0])


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("normalized", [False, True])
def test_an_encoded_file_has_the_tokens_in_memory(
    unit: Unit, normalized: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2lrnn.data.blocks._BLOCK", 997)
    names = [tmp_path / "a.txt", tmp_path / "b.txt"]
    names[0].write_text(TEXT + "x" * 9000 + "é", encoding="utf-8")
    names[1].write_text(TEXT.replace("\n", " "), encoding="utf-8")
    source, vocab_size = tuple(map(str, names)), 400 if unit == "bpe" else None
    origin = Origin(unit, normalized, "utf-8", 0, vocab_size)
    encode_texts(source, tmp_path / "file", origin)
    header, tokens = open_encoded(tmp_path / "file")
    corpus = load_corpus(source, unit=unit, normalized=normalized, vocab_size=vocab_size)
    np.testing.assert_array_equal(tokens, corpus.tokens)
    np.testing.assert_array_equal(header.counts, corpus.frequencies())
    assert isinstance(header.vocab, ByteLevelVocab)
    assert (header.vocab, header.vocab.unit, header.vocab.lower) == (corpus.vocab, unit, normalized)
    assert check_encoded(tmp_path / "file").origin == origin
    # With the vocabulary of a run, another text.
    encode_texts(source[1], tmp_path / "other", origin, vocab=corpus.vocab)
    other = load_corpus(source[1], unit=unit, normalized=normalized, vocab=corpus.vocab)
    np.testing.assert_array_equal(open_encoded(tmp_path / "other")[1], other.tokens)


@needs_tokenizers
@pytest.mark.parametrize("stage", ["learning", "counting", "encoding"])
def test_an_encoding_that_was_ended_goes_on(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2lrnn.data.blocks._BLOCK", 997)
    monkeypatch.setattr("d2lrnn.data.encoder._RECORD_BYTES", 1)
    monkeypatch.setattr("d2lrnn.data.encoder._RECORD_TIMES", 0)
    text, origin = tmp_path / "text.txt", Origin("bpe", False, "utf-8", 0, 400)
    text.write_text(TEXT, encoding="utf-8")
    encode_texts(str(text), tmp_path / "whole", origin)

    def end(what: str, done: int, total: int) -> None:
        if what == stage and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_texts(str(text), tmp_path / "file", origin, progress=end)
    seen: list[str] = []
    encode_texts(str(text), tmp_path / "file", origin, progress=lambda what, *_: seen.append(what))
    assert (tmp_path / "file").read_bytes() == (tmp_path / "whole").read_bytes()
    assert ("learning" in seen) == (stage == "learning")
    text.write_text(" \n")
    with pytest.raises(TextError, match="has no text"):
        encode_texts(str(text), tmp_path / "none", origin)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "text.txt", "whole"]


class Writer:
    """Writes a text, whatever is fed to it."""

    def __init__(self, vocab: Vocab, indices: list[int], num_fed: int) -> None:
        self.vocab, self.indices, self.at = vocab, indices, 1 - num_fed

    def initial_state(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def predict_step(self, tokens: Any, state: None) -> tuple[Any, None]:
        logits = np.zeros((len(tokens), len(self.vocab)), np.float32)
        if 0 <= self.at < len(self.indices):
            logits[:, self.indices[self.at]] = 9
        self.at += 1
        return logits, None

    def export_state(self, state: None) -> tuple[()]:
        return ()

    def import_state(self, arrays: tuple[()]) -> None: ...


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_written_is_text_and_half_a_character_is_held_back(unit: Unit) -> None:
    vocab = _corpus(unit).vocab
    written = [*" 道 é".encode(), 0xE9, *b" so", 0xF0, 0x9F]
    indices = [int(each) for each in written]  # the first tokens are the bytes

    def writer() -> Any:
        return Writer(vocab, indices, len(vocab.tokenize("née")))

    expected = "née" + bytes(written).decode("utf-8", "replace")
    assert expected.endswith("é\ufffd so\ufffd")
    assert generate(writer(), vocab, "née", len(indices)) == expected
    assert generate(writer(), vocab, ["née"], len(indices), forbid=["<unk>"]) == [expected]
    assert continue_prefix(writer(), vocab, ["née"], len(indices)) == [expected]
    assert beam_search(writer(), vocab, "née", len(indices), beam=1) == expected
    pieces = list(stream(writer(), vocab, "née", len(indices)))
    assert pieces == ["née", " ", "道", " ", "é", "\ufffd ", "s", "o", "\ufffd"]


def test_nothing_is_unknown() -> None:
    vocab = ByteLevelVocab()
    with pytest.raises(SpecError, match="there is no such token"):
        vocab["Ġso"]
    with pytest.raises(SpecError, match="there is no such token"):
        vocab.encode(["道"])
    with pytest.raises(SpecError, match="not a token of bytes"):
        text_of(["道"])
    with pytest.raises(SpecError, match="not one of bytes"):
        corpus_from_text("so", unit="byte", vocab=Vocab("so"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"unit": "bytes"}, "unknown unit 'bytes': choose one of char, word, byte, bpe"),
        ({"unit": "bpe", "vocab_size": 256}, "vocab_size is 256: it must be at least 257"),
        ({"unit": "bpe", "vocab_size": 3e2}, "vocab_size is 300.0: it must be a whole number"),
        ({"unit": "word", "vocab_size": 300}, "vocab_size applies to the unit bpe only"),
        ({"vocab_size": 300}, "vocab_size applies to the unit bpe only, and this is char"),
        ({"unit": "byte", "min_freq": 2}, "min_freq does not apply to the unit byte"),
        ({"unit": "bpe", "min_freq": 2}, "min_freq does not apply to the unit bpe"),
    ],
)
def test_what_does_not_fit_a_unit_is_said(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        DataSpec(**values)
    if values.get("unit") != "bpe":  # whose package may be missing
        with pytest.raises(SpecError, match=told):
            load_corpus("sample", **values)
        with pytest.raises(SpecError, match=told):
            corpus_from_text("so it goes", **values)


@pytest.mark.usefixtures("missing")
def test_the_package_that_is_missing_is_said(tmp_path: Path) -> None:
    told = r"tokenizers, which is not installed here: pip install 'd2lrnn\[bpe\]'"
    vocab = ByteLevelVocab(["th", "the"])
    with pytest.raises(SpecError, match=told):
        load_corpus("gone.txt", unit="bpe")  # before a text is read
    with pytest.raises(SpecError, match=told):
        encode_texts("sample", tmp_path / "file", Origin("bpe", True, "utf-8", 0))
    with pytest.raises(SpecError, match=told):
        generate(Writer(vocab, [], 1), vocab, "the", 3)
    assert list(tmp_path.iterdir()) == []
    # A run opens all the same: its parameters need no tokens.
    spec = ModelSpec(len(vocab), num_hiddens=2)
    save_run(Run(spec, initial_parameters(spec), vocab), tmp_path / "run")
    found = load_run(tmp_path / "run").vocab
    assert isinstance(found, ByteLevelVocab)
    assert (found, found.unit) == (vocab, "bpe")


MERGED = [*ALPHABET, "th", "the"]


@pytest.mark.parametrize(
    ("tokens", "unit", "told"),
    [
        (MERGED, "byte", "has 258 tokens: there are 256 bytes"),
        (MERGED[1:], "bpe", "does not begin with all bytes"),
        (MERGED[::-1], "bpe", "does not begin with all bytes"),
        ([*MERGED, "t道"], "bpe", "holds 't道', which is not 2 to 64 bytes"),
        ([*MERGED, "<unk> "], "bpe", "which is not 2 to 64 bytes"),
        ([*MERGED, ""], "bpe", "holds '', which is not 2 to 64 bytes"),
        ([*MERGED, "t" * 65], "bpe", "which is not 2 to 64 bytes"),
        ([*MERGED, "the"], "bpe", "'the' more than once"),
        ([*MERGED, 7], "bpe", "holds 7, which is not a string"),
        ({"the": 1}, "bpe", "is a dict"),
        (MERGED, "word", "lacks the token '<unk>'"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(tokens: Any, unit: Unit, told: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=told):
        read_vocab(tokens, unit)
    assert len(read_vocab(MERGED, "bpe")) == 258


def test_a_run_with_tokens_that_are_no_bytes_is_refused(tmp_path: Path) -> None:
    vocab = ByteLevelVocab(["th", "the"])
    vocab.idx_to_token[-1] = "t道"
    spec = ModelSpec(len(vocab), num_hiddens=2)
    save_run(Run(spec, initial_parameters(spec), vocab), tmp_path / "run")
    with pytest.raises(RunError, match="which is not 2 to 64 bytes"):
        load_run(tmp_path / "run")
