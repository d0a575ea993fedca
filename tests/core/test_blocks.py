"""A text that is read in blocks is the text that is read as a whole, wherever the blocks end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from d2lrnn.data import blocks
from d2lrnn.data.blocks import Place, TextBlocks, text_files
from d2lrnn.data.corpus import normalize
from d2lrnn.data.texts import read_source, source_of
from d2lrnn.data.vocabulary import Unit
from d2lrnn.errors import SpecError, TextError

#: What a border can cut, and what normalising and splitting look at.
PIECES = [
    "a",
    "B",
    "\r\n",
    "\r",
    "\n",
    " ",
    "  ",
    "é",
    "😀",
    "ß",
    "\u2028",
    "\x1c",
    "word",
    "\ufeff",
    "-",
    "漢",
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7", "gb18030", "iso2022_jp_2"]


def _content(
    source: str | tuple[str, ...], encoding: str, unit: Unit, *, normalized: bool, anew: bool
) -> object:
    """The text or the words in all blocks; `anew`, each of them read by another object."""
    files, found, place = text_files(source), [], Place()
    while True:
        reader = TextBlocks(files, encoding, unit, normalized=normalized, place=place)
        for content in reader:
            found.append(content)
            if anew:
                break
        else:
            break
        place = reader.place
    if unit == "word":
        return [word for words in found for word in words]
    return "".join(text if isinstance(text, str) else bytes(text).decode() for text in found)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_blocks_are_the_text(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(encoding)
    for _ in range(25):
        names = []
        for number in range(chance.randint(1, 3)):
            text = "".join(chance.choices(PIECES, k=chance.randint(1, 30))) + "x"
            text += chance.choice(["", "\r\n", "\n", "\r", " "])
            data = text.encode(encoding, "ignore")
            if encoding in ("utf-16", "utf-32") and chance.random() < 0.5:
                data = text.encode(f"{encoding}-le")  # without the mark of its order of bytes
            (tmp_path / f"{number}.txt").write_bytes(data)
            names.append(tmp_path / f"{number}.txt")
        source = source_of(names)
        whole = read_source(source, encoding)
        for block, piece in ((1, 1), (2, 5), (3, 2), (7, 1 << 16), (1 << 20, 1 << 16)):
            monkeypatch.setattr(blocks, "_BLOCK", block)
            monkeypatch.setattr(blocks, "_PIECE", piece)
            for normalized in (False, True):
                text = normalize(whole) if normalized else whole
                for anew in (False, True):
                    how = {"normalized": normalized, "anew": anew}
                    assert _content(source, encoding, "char", **how) == text
                    assert _content(source, encoding, "word", **how) == text.split()


@pytest.mark.parametrize("data", [b"ab\n\xff\nc", b"ab\n\xc3", b"\r\n\r\n\xe2\x82x", b" \n\t", b""])
@pytest.mark.parametrize("block", [1, 2, 1 << 20])
def test_what_is_no_text_is_said_as_ever(
    data: bytes, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", block)
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_bytes(data)
    with pytest.raises(TextError) as whole:
        read_source(str(tmp_path))
    with pytest.raises(TextError) as found:
        _content(str(tmp_path), "utf-8", "char", normalized=False, anew=False)
    assert str(found.value) == str(whole.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"has no \.txt file"):
        text_files(str(tmp_path))
    with pytest.raises(TextError, match=r"cannot read .*gone"):
        text_files(str(tmp_path / "gone"))
    with pytest.raises(TextError, match="not a regular file: pipe it in"):
        text_files("/dev/null")
    for encoding, told in (("punycode", "cannot be decoded in blocks"), ("nonsense", "unknown encoding")):
        with pytest.raises(SpecError, match=told):
            TextBlocks([], encoding, "char", normalized=False)


def test_a_word_without_an_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 1000)
    text = tmp_path / "text.txt"
    text.write_text("x" * 50_000)
    with pytest.raises(TextError, match=r"a word of more than 16,384 characters: encode its characters"):
        _content(str(text), "utf-8", "word", normalized=False, anew=False)
    assert _content(str(text), "utf-8", "char", normalized=False, anew=False) == "x" * 50_000
