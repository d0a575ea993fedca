"""Texts read block by block: what `read_source` gives, normalised and cut into tokens, in little memory.

Block borders fall anywhere: inside a character of several bytes, between a carriage return and its line feed,
in a word, in a run of what normalising turns into one space. What is needed to go on behind a border is a
`Place`, a plain value, so that reading can go on in another process.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeAlias

from d2lrnn.data.byte_pairs import cut_pieces
from d2lrnn.data.corpus import check_unit, normalized_piece
from d2lrnn.data.texts import (
    BUILT_IN,
    STANDARD_INPUT,
    Source,
    check_encoding,
    check_not_encoded,
    describe_source,
    files_in,
    names_in,
    no_text,
    not_in_encoding,
)
from d2lrnn.data.vocabulary import Unit
from d2lrnn.errors import SpecError, TextError, reason_of

#: What a block holds: characters, as a text or normalised as ASCII codes; or words, or pieces (`cut_pieces`).
Content: TypeAlias = str | bytes | list[str]

#: Bytes read at a time.
_BLOCK = 1 << 20
#: Characters normalised at a time: the temporary arrays fit in the processor's cache.
_PIECE = 1 << 16
#: A longer word is refused: it would be kept until it ends, and go into no saved run.
LONGEST_WORD = 1 << 14
#: Encodings that Python decodes as a whole only.
_WHOLE = ("idna", "punycode")
#: Encodings with a mark of the order of bytes.
_MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
#: So many bytes of a file say what it is.
_BEGINNING = 16


@dataclass(frozen=True)
class TextFile:
    """A text to be read in blocks.

    Attributes:
        name: what to call it.
        path: where it is; None for a built-in text.
        size: its bytes.
        modified: when it was changed last, in nanoseconds; 0 where it never is.
    """

    name: str
    path: str | None
    size: int
    modified: int

    def open(self) -> BinaryIO:
        """The file; that of a built-in text is UTF-8."""
        return open(self.path, "rb") if self.path else io.BytesIO(BUILT_IN[self.name]().encode())


@dataclass(frozen=True)
class Place:
    """Where reading stands, and what it takes to go on from there.

    Attributes:
        file: the number of the file; that of all files at the end.
        offset: the bytes of it that were read.
        codec: what decodes them.
        line: the line that they end in.
        undecoded: of these bytes those that are no whole character yet, in hexadecimal.
        mode: the decoder's state beside them.
        held: a carriage return that may belong to a line feed.
        begun: whether the first character of the file was seen.
        blank: whether the file has had nothing but white space.
        newline: whether the text up to here is empty or ends with a new line.
        after_space: whether the normalised text up to here ends with a space.
        rest: a word or a piece that may go on.
    """

    file: int = 0
    offset: int = 0
    codec: str = ""
    line: int = 1
    undecoded: str = ""
    mode: int = 0
    held: str = ""
    begun: bool = False
    blank: bool = True
    newline: bool = True
    after_space: bool = False
    rest: str = ""


def text_files(source: Source, standard_input: str | None = None) -> list[TextFile]:
    """The files of a source, in their order.

    Args:
        source: see `d2lrnn.data.texts.Source`.
        standard_input: the path of a file with what came from there.

    Raises:
        TextError: a text is not there or is no regular file, or a folder has no text file.
    """
    files = []
    for name in names_in(source):
        if name in BUILT_IN:
            files.append(TextFile(name, None, len(BUILT_IN[name]().encode()), 0))
            continue
        is_input = name == STANDARD_INPUT
        paths = [standard_input] if is_input and standard_input else [str(path) for path in files_in(name)]
        if not paths:
            raise TextError(f"the folder {name} has no .txt file: name the text files in it")
        for path in paths:
            try:
                status = os.stat(path)
            except (OSError, ValueError) as error:
                raise TextError(f"cannot read {path}: {reason_of(error)}") from error
            if not os.path.isfile(path):
                raise TextError(f"{path} is not a regular file: pipe it in, and name -, standard input")
            shown = describe_source(name) if is_input else path
            files.append(TextFile(shown, path, status.st_size, 0 if is_input else status.st_mtime_ns))
    return files


class TextBlocks:
    """Iterates over the content of texts.

    Args:
        files: the texts.
        encoding: that of those that are not built in.
        unit: what a token is.
        normalized: whether to normalise.
        place: where to begin.

    Attributes:
        place: where the block that was given last ends.

    Raises:
        SpecError: there is no such unit; Python knows no such encoding of text, or can decode it as a whole
            only.

    Example:
        >>> next(iter(TextBlocks(text_files("sample"), "utf-8", "word", normalized=True)))[:3]
        ['the', 'tide', 'clock']
    """

    def __init__(
        self,
        files: Sequence[TextFile],
        encoding: str,
        unit: Unit,
        *,
        normalized: bool,
        place: Place | None = None,
    ) -> None:
        check_unit(unit)
        check_encoding(encoding)
        if codecs.lookup(encoding).name in _WHOLE:
            raise SpecError(f"{encoding} cannot be decoded in blocks: save the text as UTF-8")
        self._files, self._encoding, self._unit, self._normalized = files, encoding, unit, normalized
        self.place = place or Place()

    def __iter__(self) -> Iterator[Content]:
        """Every block with something in it; a TextError says what is wrong with a text."""
        while self.place.file < len(self._files):
            file = self._files[self.place.file]
            try:
                yield from self._blocks_of(file)
            except OSError as error:
                raise TextError(f"cannot read {file.name}: {reason_of(error)}") from error
        if self.place.rest:
            rest, self.place = self.place.rest, replace(self.place, rest="")
            yield cut_pieces(rest)[0] if self._unit == "bpe" else [rest]

    def _blocks_of(self, file: TextFile) -> Iterator[Content]:
        """The rest of the file at `place`; then it is at the next one."""
        with file.open() as opened:
            if not self.place.offset:
                beginning = opened.read(_BEGINNING)
                check_not_encoded(file.name, beginning)
                encoding = self._encoding if file.path else "utf-8"
                self.place = replace(self.place, codec=_codec_of(encoding, beginning))
            opened.seek(self.place.offset)
            ended = False
            while not ended:
                data = opened.read(_BLOCK)
                ended = not data
                text, place = self._decoded(file, data)
                if ended and place.blank:
                    raise no_text(file.name)
                content, place = self._tokenized(text, place)
                self.place = _next_file(place) if ended else place
                if content:
                    yield content

    def _decoded(self, file: TextFile, data: bytes) -> tuple[str, Place]:
        """The characters that `data`, the next bytes of the file, complete; no bytes are its end."""
        place = self.place
        decoder = codecs.getincrementaldecoder(place.codec)()
        if place.offset:
            decoder.setstate((bytes.fromhex(place.undecoded), place.mode))
        try:
            text = place.held + decoder.decode(data, not data)
        except UnicodeError as error:
            piece = error.object if isinstance(error, UnicodeDecodeError) else data
            kept = piece[: max(0, len(piece) - len(data))]
            offset, line = place.offset - len(kept), place.line - kept.count(b"\n")
            raise not_in_encoding(file.name, self._encoding, error, piece, offset, line) from None
        undecoded, mode = decoder.getstate()
        held = "\r" if data and text.endswith("\r") else ""
        text = text.removesuffix(held)
        begins = bool(text) and not place.begun
        if begins:
            text = text.removeprefix("\ufeff")
        if "\r" in text:
            text = text.replace("\r\n", "\n")
        blank = place.blank and (not text or text.isspace())
        if begins and not place.newline:
            text = "\n" + text
        place = replace(
            place,
            offset=place.offset + len(data),
            line=place.line + data.count(b"\n"),
            undecoded=undecoded.hex(),
            mode=mode,
            held=held,
            begun=place.begun or begins,
            blank=blank,
            newline=text.endswith("\n") if text else place.newline,
        )
        return text, place

    def _tokenized(self, text: str, place: Place) -> tuple[Content, Place]:
        content: str | bytes = text
        if self._normalized:
            pieces, after_space = [], place.after_space
            for start in range(0, len(text), _PIECE):
                codes, after_space = normalized_piece(text[start : start + _PIECE], after_space=after_space)
                pieces.append(codes.tobytes())
            content, place = b"".join(pieces), replace(place, after_space=after_space)
        if self._unit in ("char", "byte"):
            return content, place
        text = place.rest + (content if isinstance(content, str) else content.decode("ascii"))
        if self._unit == "bpe":
            found, rest = cut_pieces(text, final=False)
            return found, replace(place, rest=rest)
        words = text.split()
        rest = words.pop() if words and not text[-1].isspace() else ""
        if len(rest) > LONGEST_WORD:
            raise long_word(self._files[place.file].name)
        return words, replace(place, rest=rest)


def long_word(name: str) -> TextError:
    """The error for a text with a word that is too long."""
    return TextError(
        f"{name} has a word of more than {LONGEST_WORD:,} characters: encode its characters (--tokens char)"
    )


def _next_file(place: Place) -> Place:
    return Place(place.file + 1, newline=place.newline, after_space=place.after_space, rest=place.rest)


def _codec_of(encoding: str, beginning: bytes) -> str:
    """What decodes a file in blocks as `encoding` decodes it whole."""
    name = codecs.lookup(encoding).name
    # Without a mark these are in the machine's own order; in blocks Python wants the mark.
    if name in _MARKS and not beginning.startswith(_MARKS[name]):
        return f"{name}-{'le' if sys.byteorder == 'little' else 'be'}"
    return name
