"""Encodes a text of any size into a file (`d2lrnn.data.encoded`): it counts the tokens, then writes them.

The tokens are those of `d2lrnn.data.corpus.load_corpus`; those of byte-pair encoding are learned before, in
one go. What is under way stands in ``FILE.partial``, and in ``FILE.partial.json`` how far it has come, so
that a process that was killed can be followed by another one. Memory is that of the vocabulary: of all
different words, the rare ones too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from d2lrnn.atomic_files import sync_folder, write_atomically
from d2lrnn.data.blocks import LONGEST_WORD, Content, Place, TextBlocks, TextFile, long_word, text_files
from d2lrnn.data.byte_level import NUM_BYTES, ByteLevelVocab, check_vocab_size
from d2lrnn.data.byte_pairs import import_tokenizers
from d2lrnn.data.corpus import no_letters
from d2lrnn.data.encoded import (
    Header,
    Origin,
    describe_text,
    finish_file,
    header_content,
    read_header_from,
)
from d2lrnn.data.texts import ENCODED_MAGIC, STANDARD_INPUT, PathLike, Source, describe_source, names_in
from d2lrnn.data.vocabulary import NUM_CODE_POINTS, TokenArray, Vocab, add_code_points, look_up
from d2lrnn.errors import RunError, TextError, reason_of

try:
    import fcntl
except ImportError:  # Windows has no such locks: there two processes can write to the same file.
    fcntl = None  # type: ignore[assignment]

#: Called with what is under way, "learning", "counting" or "encoding", and how many bytes of how many are
#: done.
Progress = Callable[[str, int, int], None]

#: After so many bytes of the text it is recorded how far the work has come; more where the record is long.
_RECORD_BYTES, _RECORD_TIMES = 1 << 26, 16
_PIECE = 1 << 20


@dataclass
class _Record:
    """How far the work has come.

    Attributes:
        task: what is encoded, and how; no other task can go on with this record.
        place: where in the text.
        counts: how often each token occurred up to there, while they are counted (of the unit byte each
            character; of bpe the whole vocabulary, once it is learned); None afterwards.
        num_tokens: how many were written.
        digest: SHA-256 of them.
    """

    task: dict[str, Any]
    place: Place
    counts: dict[str, int] | None
    num_tokens: int = 0
    digest: str = ""


def encode_texts(
    source: Source,
    out: PathLike,
    origin: Origin,
    *,
    vocab: Vocab | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Header:
    """Encodes a text into a file, or goes on where a process before this one was ended.

    Args:
        source: the texts.
        out: the file to write.
        origin: how they are encoded.
        vocab: the vocabulary, that of a saved run; None makes the text's own.
        overwrite: whether a file that is there is replaced, and one begun from other texts is begun anew.
        progress: called after every block.

    Raises:
        TextError: a text cannot be read, or nothing of it is left after normalising; the file is there, or
            cannot be written; another process writes it, or another text was begun.
        SpecError: the unit or the encoding is unknown, a number does not fit the unit, or a package that it
            needs is missing.
    """
    path = Path(out)
    origin = replace(origin, vocab_size=check_vocab_size(origin.unit, origin.vocab_size, origin.min_freq))
    if origin.unit == "bpe":
        import_tokenizers()
    TextBlocks(
        [], origin.encoding, origin.unit, normalized=origin.normalized
    )  # finds what is wrong with them
    if path.is_dir() or not path.parent.is_dir():
        raise TextError(f"{path} cannot be written: it is a folder, or there is no folder {path.parent}")
    _check_free(path, overwrite=overwrite)
    try:
        with _held(path, overwrite=overwrite) as partial, _input_kept(source, path) as kept:
            files = text_files(source, kept)
            work = _Work(path, partial, files, origin, vocab, describe_source(source), kept, progress)
            work.begin(overwrite=overwrite)
            return work.finish(text_files(source, kept))
    except OSError as error:
        raise TextError(f"{path} cannot be written: {reason_of(error)}") from error


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise TextError(f"{path} is there already: --overwrite replaces it")


def _partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial.json")


@contextmanager
def _held(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """The unfinished file, which no other process writes to meanwhile."""
    partial, record = _partial_of(path), _record_of(path)
    if partial.exists() and partial.stat().st_size and not record.exists() and not overwrite:
        raise TextError(
            f"{partial} is there, and not of d2lrnn encode: remove it, or --overwrite replaces it"
        )
    with open(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        _lock(file, path)
        # The one that held it may have ended meanwhile.
        _check_free(path, overwrite=overwrite)
        if not partial.exists() or not os.path.samestat(os.fstat(file.fileno()), partial.stat()):
            raise TextError(f"another process has just written {path}")
        try:
            yield file
        finally:
            if partial.exists() and not partial.stat().st_size and not record.exists():
                partial.unlink()


def _lock(file: BinaryIO, path: Path) -> None:
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TextError(f"another process is writing {path}") from None


@contextmanager
def _input_kept(source: Source, path: Path) -> Iterator[str | None]:
    """The path of a file with what comes from standard input, which is read twice; it is gone afterwards."""
    if STANDARD_INPUT not in names_in(source):
        yield None
        return
    kept = path.with_name(path.name + ".partial.txt")
    try:
        with open(kept, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, _PIECE)
        yield str(kept)
    finally:
        kept.unlink(missing_ok=True)


class _Work:
    """The encoding of one text."""

    def __init__(
        self,
        path: Path,
        partial: BinaryIO,
        files: list[TextFile],
        origin: Origin,
        vocab: Vocab | None,
        name: str,
        kept: str | None,
        progress: Progress | None,
    ) -> None:
        self.path, self.partial, self.files, self.origin, self.vocab = path, partial, files, origin, vocab
        self.name, self._progress = name, progress
        self.sizes, self._record_size = [file.size for file in files], 0
        self.task = {
            **asdict(origin),
            "files": [[file.name, file.path, file.size, file.modified] for file in files],
            "vocabulary": None
            if vocab is None
            else hashlib.sha256(repr(vocab.to_json()).encode()).hexdigest(),
            # What came from standard input is gone with the process that read it.
            "once": kept and uuid.uuid4().hex,
        }

    def begin(self, *, overwrite: bool) -> None:
        """Counts and writes all tokens, or what is left of that."""
        record = self._earlier(overwrite=overwrite)
        if record is None:
            record = _Record(self.task, Place(), {})
            self.partial.truncate(0)
            self._save(record)
        if record.counts is not None:
            self.header = self._begun(self._counted(record))
            record = _Record(self.task, Place(), None, 0, hashlib.sha256().hexdigest())
            self._save(record)
        else:
            self.header = self._header()
        self._write(record)

    def finish(self, files: list[TextFile]) -> Header:
        """Gives the file its digest and its name.

        Args:
            files: the texts as they are now.
        """
        if files != self.files or self.num_tokens != self.header.num_tokens:
            self._forget()
            raise TextError(f"{self.name} has changed while it was read: encode it anew")
        finish_file(self.partial, self.digest)
        self._sync()
        os.replace(_partial_of(self.path), self.path)
        sync_folder(self.path.parent)
        _record_of(self.path).unlink()
        return replace(self.header, digest=self.digest)

    def _earlier(self, *, overwrite: bool) -> _Record | None:
        """The record of an earlier process; None where there is none, or it is not to count."""
        path = _record_of(self.path)
        try:
            data = json.loads(path.read_bytes())
            record = _Record(**{**data, "place": Place(**data["place"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if overwrite:
                return None
            raise TextError(f"{path} is damaged: --overwrite begins anew") from error
        if record.counts is None and not os.fstat(self.partial.fileno()).st_size:
            return None  # of a file that was finished
        if record.task == self.task:
            return record
        if overwrite:
            return None
        raise TextError(
            f"{_partial_of(self.path)} was begun from other texts, from texts that have changed since, or "
            "with other options: --overwrite begins anew"
        )

    def _counted(self, record: _Record) -> dict[str, int]:
        """How often every character, word or token of byte-pair encoding occurs."""
        counts, place = record.counts or {}, record.place
        if self.origin.unit == "bpe":
            return self._counted_pairs(counts, record)
        characters, words = np.zeros(NUM_CODE_POINTS, np.int64), Counter[str]()
        if self.origin.unit == "word":
            words.update(counts)
        else:
            characters[[ord(character) for character in counts]] = list(counts.values())

        def total() -> dict[str, int]:
            if self.origin.unit == "word":
                return words
            return {chr(point): int(characters[point]) for point in np.flatnonzero(characters)}

        for content, place, due in self._blocks("counting", record):
            if isinstance(content, list):
                words.update(content)
            else:
                add_code_points(characters, content)
            if due:
                self._save(_Record(self.task, place, total()))
        # Before there is a file that this record belongs to.
        self._save(_Record(self.task, place, total()))
        return total()

    def _counted_pairs(self, counts: dict[str, int], record: _Record) -> dict[str, int]:
        """The same of the unit bpe, whose tokens are learned first, or are those of the run that is given."""
        if counts:
            vocab: Vocab = ByteLevelVocab(list(counts)[NUM_BYTES:])
        else:
            vocab = self.vocab or self._learned(record)
        totals = np.array([counts.get(token, 0) for token in vocab.idx_to_token], np.int64)

        def save(place: Place) -> dict[str, int]:
            total = dict(zip(vocab.idx_to_token, totals.tolist(), strict=True))
            self._save(_Record(self.task, place, total))
            return total

        record, place = replace(record, counts=save(record.place)), record.place
        for content, place, due in self._blocks("counting", record):
            totals += np.bincount(_encoded(content, vocab), minlength=len(totals))
            if due:
                save(place)
        return save(place)

    def _learned(self, record: _Record) -> ByteLevelVocab:
        assert self.origin.vocab_size is not None
        blocks = self._blocks("learning", record)
        pieces = (piece for content, _, _ in blocks if isinstance(content, list) for piece in content)
        return ByteLevelVocab.learned(pieces, self.origin.vocab_size)

    def _begun(self, counts: Mapping[str, int]) -> Header:
        """The unfinished file with its header, and no token yet."""
        occur = {token for token, count in counts.items() if count}
        if self.origin.normalized and not occur - {" ", "Ġ"}:
            beginning = next(iter(TextBlocks(self.files, self.origin.encoding, "char", normalized=False)))
            self._forget()
            raise no_letters(self.name, str(beginning[:1000]))
        if self.origin.unit == "word" and max(map(len, counts)) > LONGEST_WORD:
            self._forget()
            raise long_word(self.name)
        vocab = self.vocab or self._vocab_of(counts)
        occurring = np.zeros(len(vocab), np.int64)
        for token, count in counts.items():
            # Characters were counted, where bytes are the tokens.
            found = token.encode("utf-8", "replace") if self.origin.unit == "byte" else [vocab[token]]
            for index in found:
                occurring[index] += count
        vocab.unit, vocab.lower = self.origin.unit, self.origin.normalized
        num_tokens = int(occurring.sum())
        content = header_content(
            describe_text(self.origin, vocab, occurring), vocab.index_dtype.itemsize, num_tokens
        )
        self.partial.truncate(0)
        self.partial.seek(0)
        self.partial.write(content)
        self._sync()
        return Header(self.origin, vocab, occurring, num_tokens, "", len(content))

    def _vocab_of(self, counts: Mapping[str, int]) -> Vocab:
        if self.origin.unit == "byte":
            return ByteLevelVocab()
        if self.origin.unit == "bpe":
            return ByteLevelVocab(list(counts)[NUM_BYTES:])
        return Vocab.from_counts(counts, self.origin.min_freq)

    def _header(self) -> Header:
        """The header of the unfinished file."""
        self.partial.seek(0)
        try:
            return read_header_from(self.partial, bytes(len(ENCODED_MAGIC)))
        except (ValueError, RecursionError, RunError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, how: str) -> TextError:
        return TextError(f"{_partial_of(self.path)} is damaged: {how}. Remove it, and encode the text anew")

    def _write(self, record: _Record) -> None:
        """Writes the tokens from the record's on."""
        header, vocab = self.header, self.header.vocab
        digest = self._digest_of(record.num_tokens)
        if digest.hexdigest() != record.digest:
            raise self._damaged("its tokens are not those that were written")
        self.partial.seek(header.start + record.num_tokens * header.dtype.itemsize)
        self.partial.truncate()
        table = vocab.character_table() if self.origin.unit == "char" else None
        num_tokens = record.num_tokens
        for content, place, due in self._blocks("encoding", record):
            tokens = _encoded(content, vocab, table).astype(header.dtype, copy=False)
            self.partial.write(tokens.data)
            digest.update(tokens.data)
            num_tokens += len(tokens)
            if due:
                self._sync()
                self._save(_Record(self.task, place, None, num_tokens, digest.hexdigest()))
        self.num_tokens, self.digest = num_tokens, digest.hexdigest()

    def _digest_of(self, num_tokens: int) -> Any:
        """The digest of the first tokens in the unfinished file, to be gone on with."""
        digest, left = hashlib.sha256(), num_tokens * self.header.dtype.itemsize
        self.partial.seek(self.header.start)
        while left and (piece := self.partial.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
        return digest

    def _blocks(self, what: str, record: _Record) -> Iterator[tuple[Content, Place, bool]]:
        """Each block of the text behind the record, where it ends, and whether that is to be recorded."""
        origin, place = self.origin, record.place
        blocks = TextBlocks(
            self.files, origin.encoding, origin.unit, normalized=origin.normalized, place=place
        )
        total, recorded = sum(self.sizes), self._done(place)
        self._tell(what, recorded, total)
        try:
            for content in blocks:
                done = self._done(blocks.place)
                due = done - recorded >= max(_RECORD_BYTES, _RECORD_TIMES * self._record_size)
                recorded = done if due else recorded
                yield content, blocks.place, due
                self._tell(what, done, total)
        except TextError:
            self._forget()
            raise

    def _forget(self) -> None:
        """Removes what is unfinished: a text that is wrong is another one when it is right."""
        self.partial.truncate(0)
        _record_of(self.path).unlink(missing_ok=True)

    def _done(self, place: Place) -> int:
        return sum(self.sizes[: place.file]) + place.offset

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._progress:
            self._progress(what, done, total)

    def _save(self, record: _Record) -> None:
        fields = {**vars(record), "place": asdict(record.place)}
        content = json.dumps(fields, ensure_ascii=False).encode()
        self._record_size = len(content)
        write_atomically(_record_of(self.path), content)

    def _sync(self) -> None:
        self.partial.flush()
        os.fsync(self.partial.fileno())


def _encoded(content: Content, vocab: Vocab, table: TokenArray | None = None) -> npt.NDArray[Any]:
    """The tokens of a block; those of characters by a table."""
    if isinstance(vocab, ByteLevelVocab):
        return vocab.encode_pieces(content) if isinstance(content, list) else vocab.encode_text(content)
    if isinstance(content, list):
        return vocab.encode(content)
    assert table is not None
    return look_up(table, content)
