"""Reading, normalising and encoding texts."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from d2lrnn.data import corpus as text_module
from d2lrnn.data.corpus import (
    Corpus,
    corpus_from_text,
    join_tokens,
    load_corpus,
    normalize,
    tokenize,
)
from d2lrnn.data.texts import read_text, sample_text
from d2lrnn.data.time_machine import time_machine_text
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError, TextError

# Letters and what separates them, much more often than chance would have it, and any other character.
mixed = st.lists(
    st.sampled_from([" ", "\n", "a", "Z", "é", "İ", "K", "한", "😀", "-"]) | st.characters(codec=None)
)
texts = mixed.map("".join)


# A busy machine is no failure.
quick = settings(deadline=None, max_examples=40)


def book_normalize(text: str) -> str:
    return re.sub("[^A-Za-z]+", " ", text).lower()


# ---- normalising and tokenising


@pytest.mark.parametrize("piece", [1, 2, 5, 1 << 16])
@quick
@given(text=texts)
@example(text="")
@example(text="--a--")
def test_normalize_is_the_books_regular_expression(piece: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_PIECE", piece)
        assert normalize(text) == book_normalize(text)


def test_normalize_over_real_pieces() -> None:
    text = ("Über  den Wolken,\r\n" * 20_000) + " " * 200_000 + "End"
    assert normalize(text) == book_normalize(text)


def test_tokenize_and_join() -> None:
    assert tokenize("to be", "char") == list("to be")
    assert tokenize(" to\n be ", "word") == ["to", "be"]
    assert join_tokens(list("to be")) == "to be"
    assert join_tokens(["to", "be"], "word") == "to be"


def test_unknown_units_are_refused() -> None:
    for call in (tokenize, load_corpus, corpus_from_text):
        with pytest.raises(SpecError, match="unknown unit 'line': choose one of char, word"):
            call("sample", unit="line")  # type: ignore[arg-type, operator]
    with pytest.raises(SpecError, match="unknown unit"):
        join_tokens(["a"], "line")  # type: ignore[arg-type]


# ---- files


def test_a_file_without_its_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xef\xbb\xbfEins\r\nzw\xc3\xb6lf\n\rdrei")
    assert read_text(file) == read_text(str(file)) == "Eins\nzwölf\n\rdrei"


@pytest.mark.parametrize("data", [b"", b" \n\t", b"\xef\xbb\xbf", "\u2003".encode()])
def test_an_empty_file_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    with pytest.raises(TextError, match=r"text\.txt has no text: it is empty"):
        read_text(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TextError,
        match=r"there is no file .*nothing\.txt: give the path of a text file, or one of the",
    ):
        load_corpus(tmp_path / "nothing.txt")
    with pytest.raises(TextError, match="cannot read"):
        load_corpus("a\0b")


def test_a_failing_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(TextError, match=r"cannot read .*text\.txt: Permission denied"):
        read_text(tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"one\ntwo\nth\xe9 end", r"the byte 0xe9 at offset 10 \(line 3\).*--encoding latin1"),
        (b"one\n\x93two\x94", r"the byte 0x93 at offset 4 \(line 2\).*--encoding windows-1252"),
        (b"\xef\xbb\xbfab\xff", r"the byte 0xff at offset 5 \(line 1\)"),
        ("wide".encode("utf-16"), r"the byte 0xf[ef] at offset 0 \(line 1\).*--encoding utf-16"),
        (b"cut \xe2\x82", r"the byte 0xe2 at offset 4"),
    ],
)
def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    with pytest.raises(TextError, match=rf"text\.txt is not UTF-8: {told}"):
        read_text(file)


# ---- corpora


def test_the_sample() -> None:
    corpus = load_corpus()
    text = book_normalize(sample_text())
    assert corpus.decode(corpus.tokens) == text
    assert corpus.vocab == Vocab(list(text))
    assert sorted(corpus.vocab.token_freqs) == sorted(Vocab(list(text)).token_freqs)
    assert len(corpus) == len(corpus.tokens) == len(text)
    assert len(corpus.vocab) == 28
    assert (corpus.unit, corpus.source, corpus.normalized) == ("char", "sample", True)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("Zwölf, 12!\n", encoding="utf-8")
    corpus = load_corpus(file)
    assert corpus.decode(corpus.tokens) == "Zwölf, 12!\n"
    assert (corpus.unit, corpus.source, corpus.normalized) == ("char", str(file), False)
    normalized = load_corpus(str(file), normalized=True)
    assert normalized.decode(normalized.tokens) == "zw lf "
    assert normalized.normalized


def test_a_built_in_text_need_not_be_normalised() -> None:
    corpus = load_corpus("sample", normalized=False)
    assert corpus.decode(corpus.tokens) == sample_text()
    assert not corpus.normalized


@pytest.mark.parametrize("piece", [1, 4, 1 << 16])
@quick
@given(text=texts, normalized=st.booleans(), min_freq=st.integers(0, 3))
def test_words_are_those_of_split(piece: int, text: str, normalized: bool, min_freq: int) -> None:
    words = (book_normalize(text) if normalized else text).split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "_PIECE", piece)
        if not words:
            with pytest.raises(TextError):
                corpus_from_text(text, unit="word", normalized=normalized)
            return
        corpus = corpus_from_text(text, unit="word", normalized=normalized, min_freq=min_freq)
    vocab = Vocab(words, min_freq)
    assert corpus.vocab == vocab
    assert corpus.vocab.token_freqs == vocab.token_freqs
    assert corpus.tokens.tolist() == vocab[words]
    assert corpus.tokens.dtype == vocab.index_dtype
    assert corpus.decode(corpus.tokens) == " ".join(vocab.to_tokens(vocab[words]))


@quick
@given(text=texts.filter(lambda text: bool(text.strip())), min_freq=st.integers(0, 3))
def test_characters_are_those_of_the_text(text: str, min_freq: int) -> None:
    corpus = corpus_from_text(text, min_freq=min_freq)
    assert corpus.vocab == Vocab(list(text), min_freq)
    assert corpus.tokens.tolist() == corpus.vocab[list(text)]
    assert dict(corpus.vocab.token_freqs) == Counter(text)


@pytest.mark.parametrize("unit", ["char", "word"])
def test_a_given_vocabulary_encodes(unit: text_module.Unit) -> None:
    vocab = Vocab(["a", "b"])
    corpus = corpus_from_text("b a z", unit=unit, vocab=vocab)
    assert corpus.vocab is vocab
    assert corpus.tokens.tolist() == ([2, 0, 1, 0, 0] if unit == "char" else [2, 1, 0])


def test_a_text_without_letters_cannot_be_normalised(tmp_path: Path) -> None:
    file = tmp_path / "ko.txt"
    file.write_text("안녕하세요 여러분", encoding="utf-8")
    for unit in ("char", "word"):
        with pytest.raises(
            TextError, match=r"nothing is left of .*ko\.txt.*안녕하세요 여러분.*normalized=False"
        ):
            load_corpus(file, unit=unit, normalized=True)  # type: ignore[arg-type]
    assert load_corpus(file).decode(load_corpus(file).tokens) == "안녕하세요 여러분"


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused(text: str) -> None:
    for normalized in (False, True):
        with pytest.raises(TextError, match="my text has no text: it is empty"):
            corpus_from_text(text, normalized=normalized, source="my text")


def test_tokens_are_read_only_and_the_callers_array_is_not() -> None:
    array = np.array([0, 1], np.uint8)
    corpus = Corpus(array, Vocab("a"), "char", "text", False)
    with pytest.raises(ValueError, match="read-only"):
        corpus.tokens[0] = 1
    array[0] = 1


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(
    ("unit", "size", "most"),
    [
        # Two texts, or one and its tokens; at any size, 15 MB for tables by code point and the pieces.
        ("char", 20_000_000, 2.1 * 20_000_000 + 15e6),
        # Three texts; a list of all its words would be ten and more.
        ("word", 3_000_000, 3.1 * 3_000_000 + 1e6),
    ],
)
def test_memory_stays_near_the_texts_own(
    tmp_path: Path, unit: text_module.Unit, size: int, most: float, normalized: bool
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(("He said: 'And now, what else?'\n" * (size // 20))[:size])
    tracemalloc.start()
    try:
        corpus = load_corpus(file, unit=unit, normalized=normalized)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corpus.tokens.itemsize == 1
    assert peak < most


@pytest.fixture
def novel() -> Corpus:
    if not (Path(os.environ.get("D2LRNN_DATA") or "/nonexistent") / "timemachine.txt").exists():
        pytest.skip("D2LRNN_DATA names no folder with timemachine.txt")
    return load_corpus("time-machine")


def test_the_novel_is_the_books(novel: Corpus) -> None:
    text = book_normalize(time_machine_text())
    assert len(novel) == len(text) == 173_428
    assert len(novel.vocab) == 28
    assert novel.decode(novel.tokens) == text
    assert novel.vocab == Vocab(list(text))
    assert text.startswith("the time machine by h g wells i the time traveller for so it will be convenient")
    words = load_corpus("time-machine", unit="word")
    assert words.decode(words.tokens) == " ".join(text.split())
    assert len(words.vocab) == 4580


def test_the_novel_of_the_first_edition(novel: Corpus) -> None:
    """The first edition strips every line and joins them with nothing between."""
    lines = [book_normalize(line).strip() for line in time_machine_text().splitlines()]
    corpus = corpus_from_text("".join(lines))
    assert (len(corpus), len(corpus.vocab)) == (170_580, 28)
