"""Reading, fetching, normalising and encoding texts. Nothing here touches the network."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from d2lrnn import text as text_module
from d2lrnn.errors import SpecError, TextError
from d2lrnn.text import (
    Corpus,
    corpus_from_text,
    join_tokens,
    load_corpus,
    normalize,
    read_text,
    sample_text,
    time_machine_text,
    tokenize,
)
from d2lrnn.vocab import Vocab

# Letters and what separates them, much more often than chance would have it, and any other character.
mixed = st.lists(
    st.sampled_from([" ", "\n", "a", "Z", "é", "İ", "K", "한", "😀", "-"]) | st.characters(codec=None)
)
texts = mixed.map("".join)


# A busy machine is no failure.
quick = settings(deadline=None, max_examples=50)


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
    with pytest.raises(TextError, match=r"text\.txt is empty"):
        read_text(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TextError, match=r"there is no file .*nothing\.txt; the built-in texts are sample and time"
    ):
        load_corpus(tmp_path / "nothing.txt")
    with pytest.raises(TextError, match="is a folder: name a text file in it"):
        load_corpus(tmp_path)
    with pytest.raises(TextError, match="cannot read"):
        load_corpus("a\0b")


def test_a_failing_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(TextError, match=r"cannot read .*text\.txt: Permission denied"):
        read_text(tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"one\ntwo\nth\xe9 end", r"the byte 0xe9 at offset 10 \(line 3\).*iconv -f latin1"),
        (b"\xef\xbb\xbfab\xff", r"the byte 0xff at offset 5 \(line 1\)"),
        ("wide".encode("utf-16"), r"the byte 0xf[ef] at offset 0 \(line 1\).*iconv -f utf-16"),
        (b"cut \xe2\x82", r"the byte 0xe2 at offset 4"),
    ],
)
def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    with pytest.raises(TextError, match=rf"text\.txt is not UTF-8: {told}"):
        read_text(file)


# ---- the novel

NOVEL = b"The Time Machine, a stand-in\n"
OLD = b"some other text"
PAGE = b"\n<!DOCTYPE html><html>Please log in</html>"


class Network:
    """An opener that answers the same every time and counts how often it was asked."""

    def __init__(self, answer: bytes | Exception = NOVEL) -> None:
        self.answer, self.calls = answer, 0

    def __call__(self, url: str, *, timeout: float) -> AbstractContextManager[io.BytesIO]:
        assert url == "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
        assert 0 < timeout < 60
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the novel is kept, empty at first; the novel is `NOVEL`."""
    monkeypatch.setattr(text_module, "TIME_MACHINE_SHA1", hashlib.sha1(NOVEL).hexdigest())
    monkeypatch.delenv("D2LRNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "d2lrnn" / "timemachine.txt"


@pytest.fixture
def named(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the novel would be in the folder of D2LRNN_DATA; the folder is empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("D2LRNN_DATA", str(folder))
    return folder / "timemachine.txt"


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def test_the_novel_is_fetched_once_and_kept(cached: Path) -> None:
    network = Network()
    assert time_machine_text(network) == time_machine_text(network) == NOVEL.decode()
    assert network.calls == 1
    assert cached.read_bytes() == NOVEL
    assert os.listdir(cached.parent) == ["timemachine.txt"], "a temporary file was left"


def test_the_named_folder_comes_first(named: Path, cached: Path) -> None:
    put(named, NOVEL)
    put(cached, OLD)
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 0
    assert cached.read_bytes() == OLD


@pytest.mark.parametrize("missing", ["file", "folder", "setting"])
def test_without_a_file_in_the_named_folder_the_search_goes_on(
    named: Path, cached: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "folder":
        named.parent.rmdir()
    if missing == "setting":
        monkeypatch.setenv("D2LRNN_DATA", "")
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 1
    assert cached.read_bytes() == NOVEL


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (PAGE, "looks like a web page"),
        (OLD, f"its 15 bytes have the SHA-1 checksum {hashlib.sha1(OLD).hexdigest()}"),
        (b"", "its 0 bytes have"),
    ],
)
def test_another_file_in_the_named_folder_is_refused(named: Path, data: bytes, told: str) -> None:
    put(named, data)
    network = Network()
    with pytest.raises(
        TextError, match=rf"timemachine\.txt, in the folder of D2LRNN_DATA, is not the novel.*{told}"
    ):
        time_machine_text(network)
    assert network.calls == 0


def test_a_folder_in_the_file_s_place_is_refused(named: Path) -> None:
    named.mkdir()
    with pytest.raises(TextError, match=r"cannot read .*timemachine\.txt, in the folder of D2LRNN_DATA"):
        time_machine_text(Network())


@pytest.mark.parametrize(
    ("answer", "told"),
    [(PAGE, "looks like a web page, as the log-in page of a network"), (OLD, "its 15 bytes")],
)
def test_another_answer_is_refused_and_never_kept(cached: Path, answer: bytes, told: str) -> None:
    with pytest.raises(
        TextError, match=rf"http://d2l-data\S+ answered is not the novel: .*{told}.*D2LRNN_DATA"
    ):
        time_machine_text(Network(answer))
    assert not cached.parent.exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (URLError("Name or service not known"), "Name or service not known"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (text_module.HTTPException(), "HTTPException"),
    ],
)
def test_without_a_network_there_is_a_way_out(cached: Path, error: Exception, told: str) -> None:
    with pytest.raises(TextError) as caught:
        time_machine_text(Network(error))
    message = str(caught.value)
    for part in (text_module.TIME_MACHINE_URL, told, "timemachine.txt", "D2LRNN_DATA", "sample"):
        assert part in message


def test_an_answer_without_end_is_cut_off(cached: Path) -> None:
    class Endless:
        read_so_far = 0

        def read(self, size: int) -> bytes:
            assert self.read_so_far < 2_000_000
            self.read_so_far += min(size, 10_000)
            return b"x" * min(size, 10_000)

        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    with pytest.raises(TextError, match="it has more than 1,048,576 bytes"):
        time_machine_text(lambda url, timeout: Endless())


def test_a_connection_that_breaks_off_in_the_answer(cached: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise text_module.HTTPException("IncompleteRead")

    with pytest.raises(TextError, match=r"cannot fetch The Time Machine .*IncompleteRead"):
        time_machine_text(lambda url, timeout: Broken())


def test_a_corrupt_file_in_the_cache_is_replaced(cached: Path) -> None:
    put(cached, PAGE)
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 1
    assert cached.read_bytes() == NOVEL


@pytest.mark.parametrize("answer", [TimeoutError("timed out"), OLD])
def test_a_corrupt_file_in_the_cache_without_a_fresh_copy(cached: Path, answer: bytes | Exception) -> None:
    put(cached, PAGE)
    with pytest.raises(
        TextError, match=r"timemachine\.txt is not the novel: it looks like a web page.*D2LRNN_DATA"
    ):
        time_machine_text(Network(answer))
    assert cached.read_bytes() == PAGE


def test_a_cache_that_cannot_be_written_is_no_error(cached: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 2


def test_a_write_that_fails_leaves_nothing_behind(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert time_machine_text(Network()) == NOVEL.decode()
    assert os.listdir(cached.parent) == []


def test_a_user_without_a_home_has_no_cache(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert time_machine_text(Network()) == NOVEL.decode()


@pytest.mark.parametrize(("platform", "home"), [("linux", ".cache"), ("win32", "AppData")])
def test_where_the_cache_is(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, home: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    time_machine_text(Network())
    assert (tmp_path / home / "d2lrnn" / "timemachine.txt").read_bytes() == NOVEL


# ---- corpora


def test_the_sample() -> None:
    corpus = load_corpus()
    text = book_normalize(sample_text())
    assert corpus.decode(corpus.tokens) == text
    assert corpus.vocab == Vocab(list(text))
    assert corpus.vocab.token_freqs == Vocab(list(text)).token_freqs
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
        with pytest.raises(TextError, match="my text is empty"):
            corpus_from_text(text, normalized=normalized, source="my text")


def test_tokens_are_read_only_and_the_callers_array_is_not() -> None:
    array = np.array([0, 1], np.uint8)
    corpus = Corpus(array, Vocab("a"), "char", "text", False)
    with pytest.raises(ValueError, match="read-only"):
        corpus.tokens[0] = 1
    array[0] = 1


@pytest.mark.parametrize("load", [load_corpus, lambda file, **how: corpus_from_text(file.read_text(), **how)])
@pytest.mark.parametrize("normalized", [False, True])
def test_memory_stays_near_the_texts_own(
    tmp_path: Path, normalized: bool, load: Callable[..., Corpus]
) -> None:
    size = 20_000_000
    file = tmp_path / "text.txt"
    file.write_text(("He said: 'And now, what?'\n" * (size // 20))[:size])
    tracemalloc.start()
    try:
        corpus = load(file, normalized=normalized)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert corpus.tokens.itemsize == 1
    # Tables by code point and the pieces worked on are 15 MB, whatever the size of the text.
    assert peak < 3.1 * size + 15e6


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
