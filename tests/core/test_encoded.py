"""An encoded text in its file is the text in memory; a longer one takes no more memory."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lrnn.data import encoder
from d2lrnn.data.batches import (
    DataModule,
    EvaluationText,
    RandomSampling,
    SequentialPartitioning,
    SlidingWindows,
)
from d2lrnn.data.corpus import load_corpus
from d2lrnn.data.encoded import Header, Origin, check_encoded, open_encoded, read_header
from d2lrnn.data.encoder import encode_texts
from d2lrnn.data.mapped import rows_at, span
from d2lrnn.data.texts import is_encoded, source_of
from d2lrnn.data.vocabulary import Unit, Vocab
from d2lrnn.errors import SpecError, TextError
from d2lrnn.saving.run import text_digest

TEXT = "Some say the world will end in fire,\r\nsome say in ice. From what I've tasted of desire — 😀.\n" * 30
CHARACTERS, WORDS = Origin("char", False, "utf-8", 0), Origin("word", True, "utf-8", 0)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.fixture
def file(text: Path) -> Path:
    path = text.with_name("text.enc")
    encode_texts(str(text), path, CHARACTERS)
    return path


def _same_as_in_memory(source: Any, file: Path, origin: Origin) -> Header:
    header, tokens = open_encoded(file)
    corpus = load_corpus(
        source,
        unit=origin.unit,
        normalized=origin.normalized,
        min_freq=origin.min_freq,
        encoding=origin.encoding,
    )
    np.testing.assert_array_equal(tokens, corpus.tokens)
    assert tokens.dtype == corpus.tokens.dtype
    assert header.vocab == corpus.vocab
    assert (header.vocab.unit, header.vocab.lower) == (corpus.vocab.unit, corpus.vocab.lower)
    assert header.digest == text_digest(corpus)
    np.testing.assert_array_equal(header.counts, corpus.frequencies())
    assert check_encoded(file).origin == origin
    mapped = load_corpus(file, unit=origin.unit)
    assert text_digest(mapped) == text_digest(corpus)
    assert mapped.source == str(file)
    assert not mapped.tokens.flags.writeable
    return header


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("min_freq", [0, 31])
def test_the_tokens_are_those_in_memory(unit: Unit, normalized: bool, min_freq: int, text: Path) -> None:
    other = text.with_name("other.txt")
    other.write_text("nothing gold can stay")
    file, origin = text.with_name("file"), Origin(unit, normalized, "utf-8", min_freq)
    encode_texts(source_of([other, text, text]), file, origin)
    _same_as_in_memory([other, text, text], file, origin)
    assert sorted(path.name for path in text.parent.iterdir()) == ["file", "other.txt", "text.txt"]


@pytest.mark.parametrize(("num_words", "dtype"), [(200, "uint8"), (300, "uint16"), (70_000, "int32")])
def test_tokens_have_the_smallest_type(num_words: int, dtype: str, tmp_path: Path) -> None:
    text, file = tmp_path / "text.txt", tmp_path / "file"
    text.write_text(" ".join(f"w{number}" for number in range(num_words)) + " w1 w7")
    encode_texts(str(text), file, Origin("word", False, "utf-8", 0))
    header = _same_as_in_memory(text, file, Origin("word", False, "utf-8", 0))
    assert header.dtype == np.dtype(dtype)
    assert file.stat().st_size == header.num_bytes


def test_built_in_texts_folders_and_other_encodings(text: Path) -> None:
    (text.parent / "b.txt").write_text("été", encoding="latin1")
    text.write_text("naïve", encoding="latin1")
    for source, name in ((str(text.parent), "a"), (("sample", str(text)), "b")):
        origin = Origin("char", False, "latin1", 0)
        encode_texts(source, text.with_name(name), origin)
        _same_as_in_memory(source, text.with_name(name), origin)


def test_another_vocabulary(text: Path) -> None:
    vocab = Vocab(list("some say"))
    header = encode_texts(str(text), text.with_name("file"), CHARACTERS, vocab=vocab)
    assert header.vocab == vocab
    corpus = load_corpus(text, vocab=vocab)
    np.testing.assert_array_equal(open_encoded(text.with_name("file"))[1], corpus.tokens)
    np.testing.assert_array_equal(header.counts, corpus.frequencies())
    assert load_corpus(text.with_name("file"), vocab=vocab).vocab == vocab
    with pytest.raises(SpecError, match="another vocabulary than the model"):
        load_corpus(text.with_name("file"), vocab=Vocab(list("some")))


def test_what_does_not_fit_the_file_is_said(file: Path) -> None:
    for how, told in (
        ({"unit": "word"}, "the tokens of .* are of the unit char: --tokens or unit must be char"),
        ({"normalized": True}, "was not normalised: --normalize or normalized must be False"),
        ({"min_freq": 3}, "encoded with the least frequency 0, not 3"),
    ):
        with pytest.raises(SpecError, match=told):
            load_corpus(file, **how)  # type: ignore[arg-type]
    # It stands alone: its bytes are no text, in any encoding.
    file.rename(file.with_name("encoded.txt"))
    for source in (str(file.parent), ["sample", file.with_name("encoded.txt")]):
        with pytest.raises(TextError, match="is an encoded text, and stands alone"):
            load_corpus(source, encoding="latin1")


# ---- batches


def _modules(corpus: Any) -> list[DataModule]:
    how = {"batch_size": 5, "num_steps": 7}
    return [
        SlidingWindows(corpus, num_train=1200, num_val=500, seed=1, **how),
        RandomSampling(corpus, seed=1, **how),
        SequentialPartitioning(corpus, seed=1, **how),
        *(
            EvaluationText(kind, corpus, **how)
            for kind in (SlidingWindows, RandomSampling, SequentialPartitioning)
        ),
    ]


@pytest.mark.parametrize("without", [[], ["pread"]], ids=["read", "mapped"])
@pytest.mark.parametrize("limit", [1 << 23, 10], ids=["shuffled", "permuted"])
def test_batches_are_those_in_memory(
    without: list[str], limit: int, text: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in without:
        monkeypatch.delattr(os, name)
    monkeypatch.setattr("d2lrnn.data.orders.LARGEST_SHUFFLE", limit)
    for mapped, loaded in zip(_modules(load_corpus(file)), _modules(load_corpus(text)), strict=True):
        assert mapped.describe() == loaded.describe()
        assert mapped.num_validation_batches == len(list(mapped.validation_batches()))
        for epoch in (1, 2):
            _same_batches(list(mapped.train_batches(epoch)), list(loaded.train_batches(epoch)))
        _same_batches(list(mapped.validation_batches()), list(loaded.validation_batches()))


def _same_batches(found: Sequence[Any], expected: Sequence[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for array, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, same)
            assert array.dtype == np.int32
            assert array.flags.owndata


def test_rows_of_parts_of_the_tokens(file: Path) -> None:
    tokens = open_encoded(file)[1]
    loaded = np.array(tokens)
    starts = np.array([3, 0, 9, 3])
    for part in (slice(None), slice(11, 60), slice(5, None, 2)):
        np.testing.assert_array_equal(rows_at(tokens[part], starts, 4), rows_at(loaded[part], starts, 4))
        for start, stop in ((0, 5), (3, 3), (20, 10_000), (9_000, 10_000)):
            np.testing.assert_array_equal(span(tokens[part], start, stop), loaded[part][start:stop])


# ---- memory

_PEAK = """
import re, sys
import numpy as np
from d2lrnn.data.batches import SlidingWindows, RandomSampling, SequentialPartitioning, shares_of_whole_text
from d2lrnn.data.corpus import load_corpus
from d2lrnn.data.encoded import Origin
from d2lrnn.data.encoder import encode_texts
from d2lrnn.data.batches import EvaluationText
from d2lrnn.saving.run import text_digest
from d2lrnn.training.metrics import unigram_perplexity

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])

text, file, unit = sys.argv[1:]
encode_texts(text, file, Origin(unit, False, "utf-8", 0))
encoded = peak()
corpus = load_corpus(file, unit=unit)
text_digest(corpus), unigram_perplexity(corpus.frequencies())
train, val = shares_of_whole_text(len(corpus), 32)
for data in (
    SlidingWindows(corpus, num_train=train, num_val=val),
    RandomSampling(corpus),
    SequentialPartitioning(corpus),
    EvaluationText(SlidingWindows, corpus, batch_size=1024, num_steps=32),
):
    data.num_validation_batches
    for batches in (data.train_batches(1), data.validation_batches()):
        for _, batch in zip(range(100), batches):
            pass
print(encoded, peak())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
@pytest.mark.parametrize("unit", ["char", "word"])
def test_memory_is_that_of_a_short_text(unit: str, tmp_path: Path) -> None:
    """50 MB of text take less than 8 MB more than 5 MB do; their tokens alone are 50 MB, or 18 MB of words.

    That is with an order that is permuted for both: one that is shuffled has up to 32 MB.
    """
    peaks = []
    for megabytes in (5, 50):
        text = tmp_path / f"{megabytes}.txt"
        text.write_bytes(b"some say the world will end in fire " * (megabytes * 1_000_000 // 36))
        code = "import d2lrnn.data.orders as orders; orders.LARGEST_SHUFFLE = 1000\n" + _PEAK
        command = [sys.executable, "-c", code, str(text), str(text) + ".enc", unit]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append([int(number) for number in done.stdout.split()])
    (short_encoded, short_read), (long_encoded, long_read) = peaks
    assert long_encoded - short_encoded < 8e6, peaks
    assert long_read - short_read < 8e6, peaks


# ---- damaged files


def _damaged(file: Path, change: Callable[[bytearray], Any]) -> Path:
    content = bytearray(file.read_bytes())
    path = file.with_name("damaged")
    path.write_bytes(bytes(change(content) or content))
    return path


@pytest.mark.parametrize("seed", range(3))
def test_every_changed_byte_is_found(seed: int, file: Path) -> None:
    """In the header when the file is opened, in the tokens when all of it is checked."""
    header, chance = read_header(file), random.Random(seed)
    described = file.read_bytes().rstrip(b"\0")
    for _ in range(150):
        # Between header and tokens there are zeros that mean nothing.
        end = len(file.read_bytes()[: header.start].rstrip(b"\0"))
        place = chance.choice([chance.randrange(end), chance.randrange(header.start, len(described))])
        bit = 1 << chance.randrange(8)

        def flip(content: bytearray, place: int = place, bit: int = bit) -> None:
            content[place] ^= bit

        path = _damaged(file, flip)
        if place >= header.start:
            assert read_header(path).digest == header.digest
        elif not 32 <= place < 64:  # the digest of the tokens is within that of the header
            with pytest.raises(TextError, match=r"is damaged: |cannot read"):
                read_header(path)
        with pytest.raises(TextError, match="is damaged: "):
            check_encoded(path)
    assert check_encoded(file).num_tokens == len(TEXT.replace("\r\n", "\n"))


def test_files_of_another_length_are_refused(file: Path) -> None:
    size = file.stat().st_size
    for length in (0, 5, 95, 96, 500, size - 1):
        with pytest.raises(TextError, match="is damaged: it "):
            read_header(_damaged(file, lambda content, length=length: content[:length] or b"\0"))
    with pytest.raises(TextError, match=r"it has [\d,]+ bytes, and not those of"):
        read_header(_damaged(file, lambda content: content + b"\0"))


def _sealed(origin: Any, symbols: Sequence[Any], tokens: bytes, **fixed: Any) -> bytes:
    """A file whose digests fit, as somebody makes it who wants to do damage."""
    lines = [origin if isinstance(origin, bytes) else json.dumps(origin).encode()]
    lines += [line if isinstance(line, bytes) else json.dumps(line).encode() for line in symbols]
    description = b"".join(line + b"\n" for line in lines)
    values = {"format": 1, "itemsize": 1, "num_tokens": len(tokens), "length": len(description), **fixed}
    packed = struct.pack("<IIQQ32s", *values.values(), hashlib.sha256(tokens).digest())
    content = b"\x89d2lrnn\n" + packed + hashlib.sha256(packed + description).digest() + description
    return content + bytes(-len(content) % 4096) + tokens


ORIGIN = {"unit": "char", "normalized": False, "encoding": "utf-8", "min_freq": 0, "symbols": 2}
SYMBOLS = [["<unk>", 0], ["a", 3]]


def test_a_file_by_the_description_of_the_format(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(_sealed(ORIGIN, SYMBOLS, b"\1\1\1"))
    assert load_corpus(tmp_path / "file").decode(load_corpus(tmp_path / "file").tokens) == "aaa"
    check_encoded(tmp_path / "file")


@pytest.mark.parametrize(("content", "told"), [
    (_sealed(ORIGIN, SYMBOLS, b"\1\1\1", format=2), "it is of format 2, and this version"),
    (_sealed(ORIGIN, SYMBOLS, b"\1\1\1", itemsize=3), "its tokens have 3 bytes"),
    (_sealed(ORIGIN, SYMBOLS, b"\1\1" * 3, itemsize=2, num_tokens=3), "2 bytes, which do not fit 2 symbols"),
    (_sealed(ORIGIN, SYMBOLS, b"\1\1\1", num_tokens=1 << 63), "and not those of 9,223,372,036,854,775,808"),
    (_sealed(ORIGIN, SYMBOLS, b"\1\1\1", length=1 << 63), "bytes, and not those of"),
    (_sealed(ORIGIN, SYMBOLS, b"", num_tokens=0), "not those of 0 tokens"),
    (_sealed(ORIGIN, SYMBOLS[:1], b"\1\1\1"), "its vocabulary is not as long as it says"),
    (_sealed(ORIGIN, [["<unk>", 0], ["a", 2]], b"\1\1\1"), "its vocabulary is not as long as it says"),
    (_sealed(ORIGIN, [["<unk>", -1], ["a", 4]], b"\1\1\1"), "no token with its count"),
    (_sealed(ORIGIN, [["<unk>", 0], ["a", 1e300]], b"\1\1\1"), "no token with its count"),
    (_sealed(ORIGIN, [["<unk>", 0], [7, 3]], b"\1\1\1"), "holds 7, which is not a string"),
    (_sealed(ORIGIN, [["a", 0], ["b", 3]], b"\1\1\1"), "lacks the token '<unk>'"),
    (_sealed(ORIGIN, [["<unk>", 0], ["<unk>", 3]], b"\1\1\1"), "more than once"),
    (_sealed(ORIGIN, [["<unk>", 0], b"[" * 100_000], b"\1\1\1"), "is damaged: "),
    (_sealed(ORIGIN, [["<unk>", 0], b'["' + b"a" * 140_000 + b'",3]'], b"\1\1\1"), "a line that is too long"),
    (_sealed(ORIGIN, [b'["<unk>", 0],["a", 3]'], b"\1\1\1"), "a line that is not one value"),
    (_sealed(ORIGIN, [["<unk>", 0], b"\xff"], b"\1\1\1"), "is damaged: "),
    (_sealed(ORIGIN | {"unit": "byte"}, SYMBOLS, b"\1\1\1"), "does not begin with all bytes"),
    (_sealed(ORIGIN | {"vocab_size": 300}, SYMBOLS, b"\1\1\1"), "other values than there are"),
    (_sealed(ORIGIN | {"unit": "bpe"}, SYMBOLS, b"\1\1\1"), "other values than there are"),
    (_sealed(ORIGIN | {"unit": "bits"}, SYMBOLS, b"\1\1\1"), "other values than there are"),
    (_sealed(ORIGIN | {"unit": ["char"]}, SYMBOLS, b"\1\1\1"), "other values than there are"),
    (_sealed(ORIGIN | {"more": 1}, SYMBOLS, b"\1\1\1"), "does not say what it was made of"),
    (_sealed(b"[]", SYMBOLS, b"\1\1\1"), "does not say what it was made of"),
])  # fmt: skip
def test_hostile_files_are_refused(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    for read in (load_corpus, read_header, check_encoded):
        with pytest.raises(TextError, match=told) as found:
            read(tmp_path / "file")  # type: ignore[operator]
        assert len(str(found.value)) < 400


@pytest.mark.parametrize("kind", [SlidingWindows, RandomSampling, SequentialPartitioning])
def test_a_token_that_there_is_not_is_found_by_its_batch(kind: Any, tmp_path: Path) -> None:
    tokens = bytearray(b"\1" * 400)
    symbols = [["<unk>", 0], ["a", 400]]
    (tmp_path / "good").write_bytes(_sealed(ORIGIN, symbols, bytes(tokens)))
    tokens[30] = 2
    (tmp_path / "file").write_bytes(_sealed(ORIGIN, symbols, bytes(tokens)))
    how = {"num_train": 300, "num_val": 50} if kind is SlidingWindows else {}
    good, bad = (
        kind(load_corpus(tmp_path / name), batch_size=4, num_steps=5, **how) for name in ("good", "file")
    )
    list(good.train_batches(1))
    list(bad.validation_batches())
    with pytest.raises(TextError, match=r"file is damaged: it holds the token 2, and has 2 symbols"):
        list(bad.train_batches(1))
    with pytest.raises(TextError, match="it holds the token 2, and has 2 symbols"):
        check_encoded(tmp_path / "file")


def test_a_file_that_becomes_shorter_ends_no_process(file: Path) -> None:
    data = SlidingWindows(load_corpus(file), batch_size=4, num_steps=5)
    os.truncate(file, 4096 + 100)
    with pytest.raises(TextError, match="became shorter while it was read"):
        list(data.train_batches(1))


def test_nothing_but_regular_files_is_looked_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opened, it would wait for somebody who writes to it
    assert not is_encoded(str(tmp_path / "pipe"))
    assert not is_encoded(str(tmp_path))
    assert not is_encoded("sample")


# ---- unfinished files

_KILLED = """
import os, signal, sys
from d2lrnn.data import blocks, encoder
from d2lrnn.data.encoded import Origin

text, file, unit, number = sys.argv[1:]
blocks._BLOCK, encoder._RECORD_BYTES, encoder._RECORD_TIMES = 1000, 2500, 0
left, save = int(number), encoder._Work._save

def save_and_die(work, record):
    global left
    save(work, record)
    left -= 1
    if left == 0:
        work.partial.write(b"half a block")
        work.partial.flush()
        os.kill(os.getpid(), signal.SIGKILL)

encoder._Work._save = save_and_die
encoder.encode_texts(text, file, Origin(unit, True, "utf-8", 2))
"""


@pytest.mark.parametrize("unit", ["char", "word"])
def test_a_process_that_is_killed_is_followed_by_another(unit: Unit, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(TEXT * 2 + f"the end of {number}")
    whole, file, origin = tmp_path / "whole", tmp_path / "file", Origin(unit, True, "utf-8", 2)
    encode_texts(str(folder), whole, origin)
    num_kills, seen = 0, set()
    for number in range(1, 30):
        # Each time from where the one before it was killed, and a record further.
        command = [sys.executable, "-c", _KILLED, str(folder), str(file), unit, "2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        assert not file.exists()
        num_kills = number
        record = json.loads(file.with_name("file.partial.json").read_text())
        seen.add((record["counts"] is None, record["place"]["file"], record["place"]["offset"]))
    assert num_kills >= 6
    assert len(seen) == num_kills
    assert {counted for counted, _, _ in seen} == {False, True}
    assert file.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "texts", "whole"]


@pytest.fixture
def begun(text: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that an interrupted process has left, with half of its tokens."""
    monkeypatch.setattr("d2lrnn.data.blocks._BLOCK", 500)
    monkeypatch.setattr(encoder, "_RECORD_BYTES", 500)
    monkeypatch.setattr(encoder, "_RECORD_TIMES", 0)

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "encoding" and done > total / 2:
            raise KeyboardInterrupt

    file = text.with_name("file")
    with pytest.raises(KeyboardInterrupt):
        encode_texts(str(text), file, CHARACTERS, progress=interrupt)
    assert file.with_name("file.partial").stat().st_size > 4096 + 1000
    assert not is_encoded(str(file.with_name("file.partial")))
    return file


def test_it_goes_on_where_it_stood(begun: Path, text: Path, file: Path) -> None:
    done: list[tuple[str, int]] = []
    encode_texts(str(text), begun, CHARACTERS, progress=lambda what, now, total: done.append((what, now)))
    assert done[0][0] == "encoding"
    assert done[0][1] > len(TEXT) / 3
    assert begun.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("change", ["text", "time", "origin", "vocabulary"])
def test_what_was_begun_otherwise_is_not_gone_on_with(change: str, begun: Path, text: Path) -> None:
    origin, vocab = CHARACTERS, None
    if change == "text":
        text.write_text(TEXT + "x")
    elif change == "time":
        os.utime(text, (1, 1))
    elif change == "origin":
        origin = WORDS
    else:
        vocab = Vocab(list("abc"))
    with pytest.raises(TextError, match=r"begun from other texts, .* --overwrite begins anew"):
        encode_texts(str(text), begun, origin, vocab=vocab)
    encode_texts(str(text), begun, origin, vocab=vocab, overwrite=True)
    if vocab is None:
        _same_as_in_memory(text, begun, origin)


@pytest.mark.parametrize("what", ["tokens", "header", "record", "shorter"])
def test_unfinished_files_that_were_damaged(what: str, begun: Path, text: Path) -> None:
    partial, record = (begun.with_name(f"file.partial{suffix}") for suffix in ("", ".json"))
    content = bytearray(partial.read_bytes())
    if what == "record":
        record.write_text('{"task": 1}')
    elif what == "shorter":
        partial.write_bytes(content[:4200])
    else:
        content[5000 if what == "tokens" else 100] ^= 1
        partial.write_bytes(content)
    with pytest.raises(TextError, match="is damaged: "):
        encode_texts(str(text), begun, CHARACTERS)
    record.unlink()
    if what != "record":
        with pytest.raises(TextError, match="and not of d2lrnn encode: remove it"):
            encode_texts(str(text), begun, CHARACTERS)
    encode_texts(str(text), begun, CHARACTERS, overwrite=True)
    _same_as_in_memory(text, begun, CHARACTERS)


def test_a_record_that_outlived_its_file(begun: Path, text: Path) -> None:
    begun.with_name("file.partial").unlink()
    encode_texts(str(text), begun, CHARACTERS)
    _same_as_in_memory(text, begun, CHARACTERS)


def test_files_that_are_there_stay(file: Path, text: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(TextError, match="is there already: --overwrite replaces it"):
        encode_texts("sample", file, CHARACTERS)
    assert file.read_bytes() == before
    encode_texts("sample", file, CHARACTERS, overwrite=True)
    _same_as_in_memory("sample", file, CHARACTERS)
    with pytest.raises(TextError, match="cannot be written: it is a folder"):
        encode_texts(str(text), file.parent, CHARACTERS)
    with pytest.raises(TextError, match="there is no folder"):
        encode_texts(str(text), file.parent / "none" / "file", CHARACTERS)


def test_a_text_that_is_wrong_leaves_nothing(text: Path) -> None:
    file = text.with_name("file")
    for data, origin, told in (
        (b"fine\xff", CHARACTERS, "not UTF-8"),
        ("素晴らしい".encode(), WORDS, "nothing is left of .* after normalising.*素晴らしい"),
        (b"x" * 20_000 + b" y", Origin("word", False, "utf-8", 0), "a word of more than 16,384"),
    ):
        text.write_bytes(data)
        with pytest.raises(TextError, match=told):
            encode_texts(str(text), file, origin)
    assert [path.name for path in text.parent.iterdir()] == ["text.txt"]


def test_a_text_that_changes_meanwhile(text: Path) -> None:
    def change(what: str, done: int, total: int) -> None:
        if what == "encoding":
            text.write_bytes(TEXT.encode()[::-1].replace(b"\n", b" ")[:-1] + b"y")

    file = text.with_name("file")
    text.write_text("x" * len(TEXT.encode()))
    with pytest.raises(TextError, match="has changed while it was read"):
        encode_texts(str(text), file, Origin("char", False, "latin1", 0), progress=change)
    assert [path.name for path in text.parent.iterdir()] == ["text.txt"]


def test_one_process_at_a_time(text: Path) -> None:
    file = text.with_name("file")

    def another(what: str, done: int, total: int) -> None:
        with pytest.raises(TextError, match="another process is writing"):
            encode_texts(str(text), file, CHARACTERS)

    encode_texts(str(text), file, CHARACTERS, progress=another)
    _same_as_in_memory(text, file, CHARACTERS)
