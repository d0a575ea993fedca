r"""The file of an encoded text: its vocabulary, what it was made of, and its tokens, which are mapped.

Format 1, all numbers little-endian:

=========  ==========  ================================================================================
at         bytes
=========  ==========  ================================================================================
0          8           ``\x89d2lrnn\n`` (`d2lrnn.data.texts.ENCODED_MAGIC`); zeros where it is unfinished
8          4           the format, 1
12         4           the bytes of a token: 1 (uint8), 2 (uint16) or 4 (int32), as the vocabulary needs
16         8           n, how many tokens
24         8           m, the bytes of the description
32         32          SHA-256 of the tokens
64         32          SHA-256 of bytes 8 to 63 and of the description
96         m           the description, lines of JSON in UTF-8
4096 · k   n · bytes   the tokens, from the first multiple of 4,096 behind the description to the end
=========  ==========  ================================================================================

The first line of the description is an object with the fields of `Origin` and ``symbols``, the size V of the
vocabulary. V lines follow, ``["token", count]`` each, in the order of the indices: how often a token occurs.
A line has at most `LONGEST_LINE` bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO, get_args

import numpy as np
import numpy.typing as npt

from d2lrnn.data.byte_level import read_vocab
from d2lrnn.data.mapped import map_tokens
from d2lrnn.data.texts import ENCODED_MAGIC, PathLike
from d2lrnn.data.vocabulary import TokenArray, Unit, Vocab
from d2lrnn.errors import RunError, TextError, reason_of

FORMAT = 1
#: More bytes than any line of the description has.
LONGEST_LINE = 1 << 17

_FIXED = struct.Struct("<IIQQ32s")
_DESCRIPTION = len(ENCODED_MAGIC) + _FIXED.size + 32
_ALIGNMENT = 4096
_DTYPES = {dtype.itemsize: dtype for dtype in map(np.dtype, ("u1", "<u2", "<i4"))}
#: How many bytes are hashed at once.
_PIECE = 1 << 20


@dataclass(frozen=True)
class Origin:
    """What an encoded text was made of.

    Attributes:
        unit: what a token is, as for `d2lrnn.data.corpus.load_corpus`.
        normalized: whether the text went through `d2lrnn.data.corpus.normalize`.
        encoding: that of the text files.
        min_freq: tokens that occurred less often are the unknown one.
        vocab_size: of the unit bpe, how many tokens were to be learned; else None.
    """

    unit: Unit
    normalized: bool
    encoding: str
    min_freq: int
    vocab_size: int | None = None


@dataclass(frozen=True, eq=False)
class Header:
    """All of an encoded text but its tokens.

    Attributes:
        origin: what it was made of.
        vocab: what the tokens mean.
        counts: how often each of them occurs, int64 (V,).
        num_tokens: n.
        digest: SHA-256 of the tokens, as `d2lrnn.saving.run.text_digest` has it.
        start: where the tokens begin in the file, in bytes.
    """

    origin: Origin
    vocab: Vocab
    counts: npt.NDArray[np.int64]
    num_tokens: int
    digest: str
    start: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the tokens, little-endian."""
        return self.vocab.index_dtype.newbyteorder("<")

    @property
    def num_bytes(self) -> int:
        """The size of the file."""
        return self.start + self.num_tokens * self.dtype.itemsize


def read_header(path: PathLike) -> Header:
    """All of an encoded text but its tokens, checked.

    Raises:
        TextError: the file cannot be read, is unfinished, of another format, or damaged.
    """
    return _opened(Path(path))[0]


def open_encoded(path: PathLike) -> tuple[Header, TokenArray]:
    """An encoded text, its tokens as a read-only array (n,) that is mapped into memory.

    The tokens are not read, and so not checked: those of a batch are when it is made, all of them by
    `check_encoded`.

    Raises:
        TextError: see `read_header`.
    """
    return _opened(Path(path))


def check_encoded(path: PathLike) -> Header:
    """Reads all of an encoded text, and compares it with what its header says of it.

    Raises:
        TextError: see `read_header`; or the tokens are not those that were written.
    """
    header = read_header(path)
    counts, found = np.zeros(len(header.vocab), np.int64), hashlib.sha256()
    try:
        with open(path, "rb") as file:
            file.seek(header.start)
            while piece := file.read(_PIECE):
                found.update(piece)
                whole = len(piece) - len(piece) % header.dtype.itemsize
                tokens = np.frombuffer(piece[:whole], f"<u{header.dtype.itemsize}")
                if tokens.size and tokens.max() >= len(counts):
                    raise TextError(
                        f"{path} is damaged: it holds the token {tokens.max():,}, and has {len(counts):,} "
                        "symbols. Encode the text anew"
                    )
                counts += np.bincount(tokens, minlength=len(counts))
    except OSError as error:
        raise TextError(f"cannot read {path}: {reason_of(error)}") from error
    if found.hexdigest() != header.digest:
        raise TextError(
            f"{path} is damaged: its tokens are not those that were written. Encode the text anew"
        )
    if not np.array_equal(counts, header.counts):
        raise TextError(f"{path} is damaged: its tokens occur otherwise than it says. Encode the text anew")
    return header


def describe_text(origin: Origin, vocab: Vocab, counts: npt.NDArray[np.int64]) -> bytes:
    """The description of a file.

    Args:
        origin: what the text was made of.
        vocab: the vocabulary, V tokens.
        counts: how often each of them occurs, (V,).

    Raises:
        RunError: a token of the vocabulary is not a string.
    """
    first = json.dumps({**asdict(origin), "symbols": len(vocab)}, ensure_ascii=False)
    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines = [
        f"[{encode(token)}, {count}]" for token, count in zip(vocab.to_json(), counts.tolist(), strict=True)
    ]
    return "".join(f"{line}\n" for line in [first, *lines]).encode()


def header_content(description: bytes, itemsize: int, num_tokens: int, digest: str | None = None) -> bytes:
    """The bytes of a file up to the tokens.

    Args:
        description: what `describe_text` gives.
        itemsize: the bytes of a token.
        num_tokens: n.
        digest: of the tokens; None while the file is unfinished.
    """
    fixed = _FIXED.pack(FORMAT, itemsize, num_tokens, len(description), bytes.fromhex(digest or "00" * 32))
    magic = ENCODED_MAGIC if digest else bytes(len(ENCODED_MAGIC))
    content = magic + fixed + hashlib.sha256(fixed + description).digest() + description
    return content + bytes(_tokens_start(len(description)) - len(content))


def finish_file(file: BinaryIO, digest: str) -> None:
    """Gives an unfinished file, which is whole, the digest of its tokens and the mark of a finished one.

    Args:
        file: open for reading and writing; its header has been read.
        digest: SHA-256 of the tokens.
    """
    file.seek(len(ENCODED_MAGIC))
    _, itemsize, num_tokens, length, _ = _FIXED.unpack(file.read(_FIXED.size))
    file.seek(_DESCRIPTION)
    content = header_content(file.read(length), itemsize, num_tokens, digest)
    file.seek(0)
    file.write(content)


def _tokens_start(num_bytes: int) -> int:
    return -(-(_DESCRIPTION + num_bytes) // _ALIGNMENT) * _ALIGNMENT


def _opened(path: Path) -> tuple[Header, TokenArray]:
    try:
        with open(path, "rb") as file:
            header = _read(file, path)
            tokens = map_tokens(file, path, header.dtype, header.start, header.num_tokens, len(header.vocab))
    except OSError as error:
        raise TextError(f"cannot read {path}: {reason_of(error)}") from error
    return header, tokens


def _read(file: BinaryIO, path: Path) -> Header:
    try:
        return read_header_from(file, ENCODED_MAGIC)
    except (ValueError, RecursionError, RunError) as error:
        raise TextError(f"{path} is damaged: {error}. Encode the text anew") from error


def read_header_from(file: BinaryIO, magic: bytes) -> Header:
    """The header of a file that is open at its start; sizes are checked before what they speak of is read.

    Args:
        file: the file.
        magic: what it begins with.

    Raises:
        ValueError: it is damaged; the message says how.
        RecursionError: a line of its description is nested too deeply.
        RunError: its vocabulary is none (`d2lrnn.data.byte_level.read_vocab`).
    """
    size = os.fstat(file.fileno()).st_size
    beginning = file.read(_DESCRIPTION)
    if len(beginning) < _DESCRIPTION or not beginning.startswith(magic):
        raise ValueError("it is no encoded text, or was never finished")
    fixed, described = beginning[len(magic) : -32], beginning[-32:]
    number, itemsize, num_tokens, length, digest = _FIXED.unpack(fixed)
    if number != FORMAT:
        raise ValueError(f"it is of format {number}, and this version of d2lrnn reads format {FORMAT}")
    if itemsize not in _DTYPES:
        raise ValueError(f"its tokens have {itemsize} bytes")
    start = _tokens_start(length)
    finished = any(magic)
    if num_tokens < 1 or (size != start + num_tokens * itemsize if finished else size < start):
        raise ValueError(f"it has {size:,} bytes, and not those of {num_tokens:,} tokens")
    found = hashlib.sha256(fixed)
    lines = _lines(file, length, found.update)
    origin, num_symbols = _origin(next(lines, None))
    symbols: list[Any] = []
    counts: list[int] = []
    for value in lines:
        if not _is_symbol(value):
            raise ValueError("its vocabulary has a line that is no token with its count")
        symbols.append(value[0])
        counts.append(value[1])
    if found.digest() != described:
        raise ValueError("its description is not the one that was written")
    if len(symbols) != num_symbols or sum(counts) != num_tokens:
        raise ValueError("its vocabulary is not as long as it says")
    vocab = read_vocab(symbols, origin.unit)
    vocab.unit, vocab.lower = origin.unit, origin.normalized
    if vocab.index_dtype.itemsize != itemsize:
        raise ValueError(f"its tokens have {itemsize} bytes, which do not fit {len(vocab):,} symbols")
    return Header(origin, vocab, np.array(counts, np.int64), num_tokens, digest.hex(), start)


def _lines(file: BinaryIO, length: int, found: Callable[[bytes], object]) -> Iterator[Any]:
    """The values in the lines of the next `length` bytes; `found` is called with all of these bytes."""
    while length:
        lines, size = [], 0
        while size < min(length, LONGEST_LINE):
            line = file.readline(min(length - size, LONGEST_LINE))
            if not line.endswith(b"\n"):
                raise ValueError("its description ends within a line, or has a line that is too long")
            lines.append(line)
            size += len(line)
        length -= size
        found(b"".join(lines))
        # One by one takes three times as long.
        values = json.loads(b"[%b]" % b",".join(lines))
        if len(values) != len(lines):
            raise ValueError("its description has a line that is not one value")
        yield from values


def _origin(value: Any) -> tuple[Origin, int]:
    if isinstance(value, dict):
        value.setdefault("vocab_size", None)  # files of characters and words had it not
    if not isinstance(value, dict) or set(value) != {*Origin.__dataclass_fields__, "symbols"}:
        raise ValueError("it does not say what it was made of")
    symbols = value.pop("symbols")
    origin = Origin(**value)
    if (
        origin.unit not in get_args(Unit)
        or type(origin.normalized) is not bool
        or type(origin.encoding) is not str
        or type(origin.min_freq) is not int
        or type(origin.vocab_size) is not (int if origin.unit == "bpe" else NoneType)
        or type(symbols) is not int
        or origin.min_freq < 0
    ):
        raise ValueError("what it was made of is described by other values than there are")
    return origin, symbols


def _is_symbol(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and type(value[1]) is int and 0 <= value[1] < 1 << 62
