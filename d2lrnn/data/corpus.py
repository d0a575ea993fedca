"""From a text to a corpus of token indices: normalising, tokenising, encoding.

Large texts pass through a piece at a time. What is made of 100 MB of characters is 100 MB of tokens, and next
to it stands at most the text itself: never a list of characters or words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from d2lrnn.data.texts import BUILT_IN, PathLike, describe_source, is_blank, read_source, source_of
from d2lrnn.data.vocabulary import TokenArray, Vocab, count_characters
from d2lrnn.data.vocabulary import Unit as Unit
from d2lrnn.errors import SpecError, TextError

# Characters worked on at a time: the temporary arrays fit in the processor's cache.
_PIECE = 1 << 16
_SPACE = ord(" ")
_LETTER_OR_SPACE = bytes(
    code | 0x20 if bytes([code]).isalpha() else _SPACE  # bytes know the ASCII letters only
    for code in range(256)
)
_WHITESPACE = re.compile(r"\s")


def normalize(text: str) -> str:
    """Turns every run of characters other than A-Z and a-z into one space, and the letters to lower case.

    Exactly ``re.sub('[^A-Za-z]+', ' ', text).lower()``, the book's definition, many times faster.

    Example:
        >>> normalize("The Time Machine, by H. G. Wells [1898]")
        'the time machine by h g wells '
    """
    return _normalized_letters(text).decode("ascii")


def tokenize(text: str, unit: Unit = "char") -> list[str]:
    """Splits a text into characters, or into words at white space.

    Raises:
        SpecError: the unit is neither ``"char"`` nor ``"word"``.

    Example:
        >>> tokenize("to be", "word")
        ['to', 'be']
    """
    _check_unit(unit)
    return list(text) if unit == "char" else text.split()


def join_tokens(tokens: Sequence[str], unit: Unit = "char") -> str:
    """Joins tokens to a text: characters as they are, words with a space between them.

    Raises:
        SpecError: the unit is neither ``"char"`` nor ``"word"``.

    Example:
        >>> join_tokens(["to", "be"], "word")
        'to be'
    """
    _check_unit(unit)
    return ("" if unit == "char" else " ").join(tokens)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as token indices.

    Attributes:
        tokens: integers (n,) in [0, V), of the smallest type that holds them; read-only.
        vocab: what the indices mean.
        unit: what a token is, ``"char"`` or ``"word"``.
        source: ``"sample"``, ``"time-machine"``, or the path that the text was read from; several of them
            with commas between them.
        normalized: whether the text went through `normalize`.

    Example:
        >>> corpus = corpus_from_text("so it goes", unit="word")
        >>> len(corpus), corpus.decode(corpus.tokens[:2])
        (3, 'so it')
    """

    tokens: TokenArray
    vocab: Vocab
    unit: Unit
    source: str
    normalized: bool

    def __post_init__(self) -> None:
        view = self.tokens.view()
        view.flags.writeable = False
        object.__setattr__(self, "tokens", view)

    def __len__(self) -> int:
        return len(self.tokens)

    def decode(self, indices: Sequence[int] | TokenArray) -> str:
        """The text of some token indices (n,): characters as they are, words with a space between them.

        Raises:
            SpecError: an index is not in [0, V).
        """
        return join_tokens(self.vocab.to_tokens(indices), self.unit)


def load_corpus(
    source: PathLike | Sequence[PathLike] = "sample",
    *,
    unit: Unit = "char",
    normalized: bool | None = None,
    min_freq: int = 0,
    vocab: Vocab | None = None,
    encoding: str = "utf-8",
) -> Corpus:
    """Reads a text and encodes it.

    Args:
        source: ``"sample"``, ``"time-machine"``, the path of a text file or of a folder with ``.txt`` files,
            ``"-"`` for standard input, or several of these, which are joined (`read_source`).
        unit: what a token is, ``"char"`` or ``"word"``.
        normalized: whether to `normalize` the text; None does so for a built-in text and leaves others as
            they are.
        min_freq: tokens that occur less often become ``'<unk>'``; decides nothing where `vocab` is given.
        vocab: encode with this vocabulary, that of a saved run, instead of making the text's own.
        encoding: that of the file; the built-in texts have their own.

    Raises:
        TextError: the text cannot be read or fetched (`read_source`), or nothing of it is
            left after normalising.
        SpecError: the unit is neither ``"char"`` nor ``"word"``, or the encoding is unknown.

    Example:
        >>> corpus = load_corpus("sample")
        >>> len(corpus.vocab), corpus.tokens.dtype
        (28, dtype('uint8'))
    """
    _check_unit(unit)
    source = source_of(source)
    if normalized is None:
        normalized = source in BUILT_IN
    text, name = read_source(source, encoding), describe_source(source)
    content = _content(text, unit, normalized, name)
    del text  # a large text takes memory that its tokens need
    return _encoded(content, unit, normalized, min_freq, vocab, name)


def corpus_from_text(
    text: str,
    *,
    unit: Unit = "char",
    normalized: bool = False,
    min_freq: int = 0,
    vocab: Vocab | None = None,
    source: str = "text",
) -> Corpus:
    """Encodes a text that is in memory already.

    Args:
        text: the text.
        unit: what a token is, ``"char"`` or ``"word"``.
        normalized: whether to `normalize` the text first.
        min_freq: tokens that occur less often become ``'<unk>'``; decides nothing where `vocab` is given.
        vocab: encode with this vocabulary instead of making the text's own.
        source: where the text is from, for `Corpus.source` and for errors.

    Raises:
        TextError: the text is empty, or nothing of it is left after normalising.
        SpecError: the unit is neither ``"char"`` nor ``"word"``.

    Example:
        >>> corpus_from_text("Abba!", normalized=True).tokens
        array([2, 3, 3, 2, 0], dtype=uint8)
    """
    _check_unit(unit)
    return _encoded(_content(text, unit, normalized, source), unit, normalized, min_freq, vocab, source)


def _check_unit(unit: str) -> None:
    if unit not in get_args(Unit):
        raise SpecError(f"unknown unit {unit!r}: choose one of {', '.join(get_args(Unit))}")


def _content(text: str, unit: Unit, normalized: bool, source: str) -> str | bytearray:
    """The text to be tokenised; where it was normalised, its characters as ASCII codes."""
    if is_blank(text):
        raise TextError(f"{source} has no text: it is empty or holds white space only")
    if not normalized:
        return text
    letters = _normalized_letters(text)
    if is_blank(letters):
        beginning = " ".join(text[:1000].split())[:20]
        raise TextError(
            f"nothing is left of {source} after normalising, which keeps the letters A to Z only: this text "
            f"({beginning} …) has none of them. Leave it as it is, with --no-normalize or normalized=False"
        )
    return letters if unit == "char" else letters.decode("ascii")


def _encoded(
    content: str | bytearray, unit: Unit, normalized: bool, min_freq: int, vocab: Vocab | None, source: str
) -> Corpus:
    if unit == "char":
        if vocab is None:
            vocab = _vocab_of(count_characters(content), min_freq, unit, normalized)
        tokens = vocab.encode_characters(content)
    else:
        assert isinstance(content, str)  # codes are for characters only
        words, numbers = _numbered_words(content)
        if vocab is None:
            vocab = _vocab_of(words, min_freq, unit, normalized)
        tokens = vocab.encode(list(words))[numbers]
    return Corpus(tokens, vocab, unit, source, normalized)


def _vocab_of(counts: Mapping[str, int], min_freq: int, unit: Unit, normalized: bool) -> Vocab:
    """A vocabulary that knows what its text was: what is to be continued is treated alike."""
    vocab = Vocab.from_counts(counts, min_freq)
    vocab.unit, vocab.lower = unit, normalized
    return vocab


def _normalized_letters(text: str) -> bytearray:
    """`normalize`, as ASCII codes."""
    result = bytearray(len(text))
    codes = np.frombuffer(result, np.uint8)
    length, after_space = 0, False
    for start in range(0, len(text), _PIECE):
        # What is not ASCII becomes a question mark, one a character, and that a space.
        piece = text[start : start + _PIECE].encode("ascii", "replace").translate(_LETTER_OR_SPACE)
        letters = np.frombuffer(piece, np.uint8)
        is_letter = letters != _SPACE
        # Of a run of spaces the first is kept: the one that follows a letter, or begins the text.
        kept = is_letter.copy()
        kept[1:] |= is_letter[:-1]
        kept[0] |= not after_space
        selected = letters[kept]
        codes[length : length + len(selected)] = selected
        length += len(selected)
        after_space = not is_letter[-1]
    del codes  # a bytearray cannot be shortened while an array is a view of it
    del result[length:]
    return result


def _numbered_words(text: str) -> tuple[dict[str, int], npt.NDArray[np.int32]]:
    """How often every word occurs, and for every word of the text its number among them.

    One pass over the words, which is the slow part: each has a number already, or gets the next one.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    pieces = [np.fromiter(map(numbers.__getitem__, words), np.int32, len(words)) for words in _words(text)]
    totals = np.zeros(len(numbers), np.int64)
    for piece in pieces:
        counts = np.bincount(piece)
        totals[: len(counts)] += counts
    return dict(zip(numbers, totals.tolist(), strict=True)), np.concatenate(pieces)


def _words(text: str) -> Iterator[list[str]]:
    """``text.split()``, a piece at a time."""
    start = 0
    while start < len(text):
        space = _WHITESPACE.search(text, start + _PIECE)
        stop = space.start() if space else len(text)
        yield text[start:stop].split()
        start = stop
