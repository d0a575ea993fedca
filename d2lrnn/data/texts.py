"""Where a text comes from: the built-in texts, files, folders, standard input."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from d2lrnn.data.time_machine import time_machine_text
from d2lrnn.errors import SpecError, TextError, reason_of

PathLike: TypeAlias = str | os.PathLike[str]

#: The name of a text, or of several that are joined: a built-in one's, a path, or `STANDARD_INPUT`.
Source: TypeAlias = str | tuple[str, ...]

#: What names the text that is piped into the process.
STANDARD_INPUT = "-"

#: What a file begins with that `d2lrnn.data.encoded` describes. No text in UTF-8 begins so.
ENCODED_MAGIC = b"\x89d2lrnn\n"

#: The files of a folder that are read.
_SUFFIX = ".txt"


def source_of(names: PathLike | Sequence[PathLike]) -> Source:
    """One name, or several, as a value that compares; a row of one name is that name.

    Raises:
        SpecError: there is no name, one is empty, or standard input is to be read twice.

    Example:
        >>> source_of(["a.txt"]), source_of(["a.txt", Path("b.txt")])
        ('a.txt', ('a.txt', 'b.txt'))
    """
    listed = tuple(os.fspath(name) for name in ([names] if isinstance(names, (str, os.PathLike)) else names))
    if not listed or "" in listed:
        raise SpecError("a text has no name: give the path of a text file, or one of the built-in texts")
    if listed.count(STANDARD_INPUT) > 1:
        raise SpecError(f"{STANDARD_INPUT}, standard input, can be read once only: name it once")
    return listed if len(listed) > 1 else listed[0]


def names_in(source: Source) -> tuple[str, ...]:
    """The names that a source is made of."""
    return (source,) if isinstance(source, str) else source


def describe_source(source: Source) -> str:
    """A source for people.

    Example:
        >>> describe_source("-"), describe_source(("a.txt", "b.txt", "c.txt", "d.txt"))
        ('standard input', 'a.txt, b.txt and 2 more')
    """
    shown = ["standard input" if name == STANDARD_INPUT else name for name in names_in(source)]
    if len(shown) > 3:
        return f"{', '.join(shown[:2])} and {len(shown) - 2} more"
    return ", ".join(shown)


def read_source(source: Source, encoding: str = "utf-8") -> str:
    """The text of a source; several texts are joined in their order, each from a new line on.

    Args:
        source: see `Source`. Of a folder all ``.txt`` files are read, those in its folders too, in the order
            of their paths.
        encoding: that of files and of standard input; a built-in text has its own.

    Raises:
        TextError: a text cannot be read (`read_text`) or fetched (`time_machine_text`), or a folder has no
            ``.txt`` file.
        SpecError: Python knows no such encoding of text.
    """
    texts = [text for name in names_in(source) for text in _read(name, encoding)]
    if len(texts) == 1:
        return texts[0]
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts[:-1]) + texts[-1]


def _read(name: str, encoding: str) -> list[str]:
    """The texts that a name stands for."""
    if name in BUILT_IN:
        return [BUILT_IN[name]()]
    if name == STANDARD_INPUT:
        check_encoding(encoding)
        return [_decoded(sys.stdin.buffer.read, describe_source(name), encoding)]
    paths = files_in(name)
    if not paths:
        raise TextError(f"the folder {name} has no {_SUFFIX} file: name the text files in it")
    return [read_text(path, encoding) for path in paths]


def files_in(name: str) -> list[Path]:
    """The files that are read for a path: its own, or the ``.txt`` files of a folder."""
    if not os.path.isdir(name):
        return [Path(name)]
    return sorted(path for path in Path(name).rglob(f"*{_SUFFIX}") if path.is_file())


def is_encoded(source: Source) -> bool:
    """Whether a source is one file, and that an encoded text (`d2lrnn.data.encoded`); no other is opened.

    Example:
        >>> is_encoded("sample"), is_encoded("-")
        (False, False)
    """
    if not isinstance(source, str) or source in BUILT_IN or not os.path.isfile(source):
        return False
    try:
        with open(source, "rb") as file:
            return file.read(len(ENCODED_MAGIC)) == ENCODED_MAGIC
    except OSError:  # whoever reads the text says why
        return False


def sample_text() -> str:
    """The text that comes with the library, in lines."""
    return files("d2lrnn").joinpath("data/corpora/sample.txt").read_text(encoding="utf-8")


#: The texts that need no file, by name.
BUILT_IN: dict[str, Callable[[], str]] = {"sample": sample_text, "time-machine": time_machine_text}


def read_text(path: PathLike, encoding: str = "utf-8") -> str:
    r"""Reads a text file; a byte order mark is dropped, and ``\r\n`` becomes ``\n``.

    Raises:
        TextError: there is no such file, it cannot be read, it holds nothing but white space, or it is not in
            this encoding.
        SpecError: Python knows no such encoding of text.
    """
    check_encoding(encoding)

    def read() -> bytes:
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            built_in = " and ".join(BUILT_IN)
            raise TextError(
                f"there is no file {path}: give the path of a text file, or one of the built-in texts, "
                f"{built_in}"
            ) from None
        except (OSError, ValueError) as error:
            raise TextError(f"cannot read {path}: {reason_of(error)}") from error

    return _decoded(read, str(path), encoding)


def _decoded(read: Callable[[], bytes], name: str, encoding: str) -> str:
    # Called here, so that nobody else holds the bytes when they are let go.
    data = read()
    check_not_encoded(name, data)
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        raise not_in_encoding(name, encoding, error, data) from None
    del data  # the text and its copies take enough memory
    text = text.removeprefix("\ufeff")
    if "\r" in text:  # far faster than to search for the pair
        text = text.replace("\r\n", "\n")
    if is_blank(text):
        raise no_text(name)
    return text


def check_not_encoded(name: str, beginning: bytes) -> None:
    """Raises a TextError where a file that is to be read as text begins as an encoded one."""
    if beginning.startswith(ENCODED_MAGIC):
        raise TextError(
            f"{name} is an encoded text, and stands alone: give it by itself, and not in a folder"
        )


def no_text(name: str) -> TextError:
    """The error for a text of white space."""
    return TextError(f"{name} has no text: it is empty or holds white space only")


def not_in_encoding(
    name: str, encoding: str, error: UnicodeError, data: bytes, offset: int = 0, line: int = 1
) -> TextError:
    """The error for a text that is not in its encoding.

    Args:
        name: the text.
        encoding: what it should be.
        error: that of decoding `data`.
        data: the text, or a piece of it.
        offset: where in the text the piece begins, in bytes.
        line: and in which line.
    """
    where, likely = "", _likely_encoding(data)
    if isinstance(error, UnicodeDecodeError):
        line += data.count(b"\n", 0, error.start)
        byte = f"the byte 0x{data[error.start]:02x} at offset {offset + error.start} (line {line})"
        where = f": {byte} is not valid there"
    return TextError(
        f"{name} is not {_title(encoding)}{where}. It may be {likely}: say so (--encoding {likely}), or "
        "save the file as UTF-8"
    )


def is_blank(text: str | bytearray) -> bool:
    """Whether a text is empty or holds nothing but white space."""
    # Not `strip`: that would copy the text.
    return not text or text.isspace()


def check_encoding(encoding: str) -> None:
    """Raises a SpecError where Python knows no such encoding of text."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise SpecError(
            f"unknown encoding {encoding!r}: choose one that Python knows, such as utf-8, utf-16, latin1 or "
            "windows-1252"
        ) from None


def _likely_encoding(data: bytes) -> str:
    """What a text may be that is not what it should be."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if any(byte in data for byte in range(0x80, 0xA0)):  # control characters in Latin-1, and quotes here
        return "windows-1252"
    return "latin1"


def _title(encoding: str) -> str:
    return encoding.upper() if encoding.lower().startswith("utf") else encoding
