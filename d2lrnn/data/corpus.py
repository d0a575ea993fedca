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

from d2lrnn.data.byte_level import BYTE_UNITS, ByteLevelVocab, check_vocab_size, text_of
from d2lrnn.data.byte_pairs import cut_pieces, import_tokenizers
from d2lrnn.data.encoded import open_encoded
from d2lrnn.data.texts import (
    BUILT_IN,
    PathLike,
    describe_source,
    is_blank,
    is_encoded,
    no_text,
    read_source,
    source_of,
)
from d2lrnn.data.vocabulary import TokenArray, Vocab, count_characters
from d2lrnn.data.vocabulary import Unit as Unit
from d2lrnn.errors import SpecError, TextError

# Characters worked on at a time: the temporary arrays fit in the processor's cache.
_PIECE = 1 << 16
# Tokens counted at a time, of which each has an array as long as the vocabulary.
_COUNTED = 1 << 20
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
    """Splits a text into characters, into words at white space, or into its bytes in UTF-8.

    Raises:
        SpecError: there is no such unit, or it is ``"bpe"``: those tokens are a vocabulary's own
            (`d2lrnn.data.byte_level.ByteLevelVocab.tokenize`).

    Example:
        >>> tokenize("to be", "word"), tokenize("to", "byte")
        (['to', 'be'], ['t', 'o'])
    """
    check_unit(unit)
    if unit == "bpe":
        raise SpecError("tokens of the unit bpe are those of a vocabulary: use its method tokenize")
    if unit == "byte":
        return ByteLevelVocab().tokenize(text)
    return list(text) if unit == "char" else text.split()


def join_tokens(tokens: Sequence[str], unit: Unit = "char") -> str:
    """Joins tokens to a text: characters as they are, words with a space between them, and bytes.

    Of bytes those that are no whole character become U+FFFD.

    Raises:
        SpecError: there is no such unit.

    Example:
        >>> join_tokens(["to", "be"], "word"), join_tokens(["to", "Ġbe"], "bpe")
        ('to be', 'to be')
    """
    check_unit(unit)
    if unit in BYTE_UNITS:
        return text_of(tokens)
    return ("" if unit == "char" else " ").join(tokens)


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as token indices.

    Attributes:
        tokens: integers (n,) in [0, V), of the smallest type that holds them; read-only.
        vocab: what the indices mean.
        unit: what a token is, ``"char"``, ``"word"``, ``"byte"`` or ``"bpe"``.
        source: ``"sample"``, ``"time-machine"``, or the path that the text was read from; several of them
            with commas between them.
        normalized: whether the text went through `normalize`.
        digest: that of the tokens (`d2lrnn.saving.run.text_digest`), where the file says it that they are
            mapped from.
        counts: how often each token occurs, int64 (V,), where that file says it; see `frequencies`.

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
    digest: str | None = None
    counts: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        view = self.tokens.view()
        view.flags.writeable = False
        object.__setattr__(self, "tokens", view)

    def __len__(self) -> int:
        return len(self.tokens)

    def decode(self, indices: Sequence[int] | TokenArray) -> str:
        """The text of some token indices (n,), see `join_tokens`.

        Raises:
            SpecError: an index is not in [0, V).
        """
        return join_tokens(self.vocab.to_tokens(indices), self.unit)

    def frequencies(self) -> npt.NDArray[np.int64]:
        """How often each token of the vocabulary occurs, (V,).

        Example:
            >>> corpus_from_text("abba").frequencies().tolist()  # of '<unk>', 'a' and 'b'
            [0, 2, 2]
        """
        if self.counts is not None:
            return self.counts
        counts = np.zeros(len(self.vocab), np.int64)
        for start in range(0, len(self), _COUNTED):
            # As bincount makes integers of eight bytes of them all, a piece at a time.
            counts += np.bincount(self.tokens[start : start + _COUNTED], minlength=len(counts))
        return counts


def load_corpus(
    source: PathLike | Sequence[PathLike] = "sample",
    *,
    unit: Unit = "char",
    normalized: bool | None = None,
    min_freq: int = 0,
    vocab: Vocab | None = None,
    encoding: str = "utf-8",
    vocab_size: int | None = None,
) -> Corpus:
    """Reads a text and encodes it; of one that is encoded already (`d2lrnn encode`) the tokens are mapped.

    Args:
        source: ``"sample"``, ``"time-machine"``, the path of a text file or of a folder with ``.txt`` files,
            ``"-"`` for standard input, or several of these, which are joined (`read_source`); or the path of
            an encoded text, of which the other arguments must say what it is.
        unit: what a token is: ``"char"``; ``"word"``, between white space; ``"byte"``, of the text in UTF-8;
            or ``"bpe"``, rows of bytes that are learned from the text by byte-pair encoding.
        normalized: whether to `normalize` the text; None does so for a built-in text and leaves others as
            they are. None takes an encoded text either way.
        min_freq: tokens that occur less often become ``'<unk>'``; decides nothing where `vocab` is given.
        vocab: encode with this vocabulary, that of a saved run, instead of making the text's own.
        encoding: that of the file; the built-in texts have their own, and an encoded text needs none.
        vocab_size: of the unit bpe, the most tokens to learn, 256 bytes among them; None is 1,024. They are
            learned from all of the text, as characters and words are taken from all of it.

    Raises:
        TextError: the text cannot be read or fetched (`read_source`), or nothing of it is
            left after normalising; or it is encoded, and damaged.
        SpecError: the unit or the encoding is unknown; `vocab_size` or `min_freq` does not fit the unit; the
            unit bpe needs the package tokenizers, which is not installed; or the text is encoded in another
            way than the arguments say.

    Example:
        >>> corpus = load_corpus("sample")
        >>> len(corpus.vocab), corpus.tokens.dtype
        (28, dtype('uint8'))
        >>> len(load_corpus("sample", unit="byte").vocab)
        256
    """
    check_unit(unit)
    if unit == "bpe":
        import_tokenizers()  # before a long text is read; what is encoded already is to be continued, too
    source = source_of(source)
    if is_encoded(source):
        return _mapped(str(source), unit, normalized, min_freq, vocab, vocab_size)
    vocab_size = check_vocab_size(unit, vocab_size, min_freq)
    if normalized is None:
        normalized = source in BUILT_IN
    text, name = read_source(source, encoding), describe_source(source)
    content = _content(text, unit, normalized, name)
    del text  # a large text takes memory that its tokens need
    return _encoded(content, unit, normalized, min_freq, vocab, name, vocab_size)


def corpus_from_text(
    text: str,
    *,
    unit: Unit = "char",
    normalized: bool = False,
    min_freq: int = 0,
    vocab: Vocab | None = None,
    source: str = "text",
    vocab_size: int | None = None,
) -> Corpus:
    """Encodes a text that is in memory already.

    Args:
        text: the text.
        unit: what a token is, as for `load_corpus`.
        normalized: whether to `normalize` the text first.
        min_freq: tokens that occur less often become ``'<unk>'``; decides nothing where `vocab` is given.
        vocab: encode with this vocabulary instead of making the text's own.
        source: where the text is from, for `Corpus.source` and for errors.
        vocab_size: as for `load_corpus`.

    Raises:
        TextError: the text is empty, or nothing of it is left after normalising.
        SpecError: see `load_corpus`.

    Example:
        >>> corpus_from_text("Abba!", normalized=True).tokens
        array([2, 3, 3, 2, 0], dtype=uint8)
    """
    check_unit(unit)
    vocab_size = check_vocab_size(unit, vocab_size, min_freq)
    content = _content(text, unit, normalized, source)
    return _encoded(content, unit, normalized, min_freq, vocab, source, vocab_size)


def _mapped(
    path: str,
    unit: Unit,
    normalized: bool | None,
    min_freq: int,
    vocab: Vocab | None,
    vocab_size: int | None,
) -> Corpus:
    """The corpus of an encoded text, which must be what is asked for."""
    header, tokens = open_encoded(path)
    origin = header.origin
    if unit != origin.unit:
        raise SpecError(
            f"the tokens of {path} are of the unit {origin.unit}: --tokens or unit must be {origin.unit}"
        )
    if normalized not in (None, origin.normalized):
        raise SpecError(
            f"the text of {path} was {'' if origin.normalized else 'not '}normalised: --normalize or "
            f"normalized must be {origin.normalized}"
        )
    if vocab is None and min_freq not in (0, origin.min_freq):
        raise SpecError(f"{path} was encoded with the least frequency {origin.min_freq}, not {min_freq}")
    if vocab is None and vocab_size not in (None, origin.vocab_size):
        raise SpecError(f"{path} was encoded with vocab_size {origin.vocab_size}, not {vocab_size}")
    if vocab is not None and vocab != header.vocab:
        raise SpecError(
            f"{path} has another vocabulary than the model: encode its text with that of the run, d2lrnn "
            "encode --like RUN"
        )
    return Corpus(tokens, header.vocab, origin.unit, path, origin.normalized, header.digest, header.counts)


def check_unit(unit: str) -> None:
    """Raises a SpecError where there is no such unit."""
    if unit not in get_args(Unit):
        raise SpecError(f"unknown unit {unit!r}: choose one of {', '.join(get_args(Unit))}")


def _content(text: str, unit: Unit, normalized: bool, source: str) -> str | bytearray:
    """The text to be tokenised; where it was normalised, its characters as ASCII codes."""
    if is_blank(text):
        raise no_text(source)
    if not normalized:
        return text
    letters = _normalized_letters(text)
    if is_blank(letters):
        raise no_letters(source, text[:1000])
    return letters if unit in ("char", "byte") else letters.decode("ascii")


def no_letters(source: str, beginning: str) -> TextError:
    """The error for a text of which normalising leaves nothing."""
    return TextError(
        f"nothing is left of {source} after normalising, which keeps the letters A to Z only: this text "
        f"({' '.join(beginning.split())[:20]} …) has none of them. Leave it as it is, with --no-normalize or "
        "normalized=False"
    )


def _encoded(
    content: str | bytearray,
    unit: Unit,
    normalized: bool,
    min_freq: int,
    vocab: Vocab | None,
    source: str,
    vocab_size: int | None,
) -> Corpus:
    if unit in BYTE_UNITS:
        if vocab is None:
            vocab = _vocab_of_bytes(content, vocab_size)
            vocab.lower = normalized
        if not isinstance(vocab, ByteLevelVocab):
            raise SpecError(f"the vocabulary is not one of bytes: with it the unit cannot be {unit}")
        tokens = vocab.encode_text(content)
    elif unit == "char":
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


def _vocab_of_bytes(content: str | bytearray, vocab_size: int | None) -> ByteLevelVocab:
    """That of all bytes, or one with so many tokens that are learned from the text."""
    if vocab_size is None:
        return ByteLevelVocab()
    assert isinstance(content, str)
    return ByteLevelVocab.learned(cut_pieces(content)[0], vocab_size)


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
        selected, after_space = normalized_piece(text[start : start + _PIECE], after_space=after_space)
        codes[length : length + len(selected)] = selected
        length += len(selected)
    del codes  # a bytearray cannot be shortened while an array is a view of it
    del result[length:]
    return result


def normalized_piece(text: str, *, after_space: bool) -> tuple[npt.NDArray[np.uint8], bool]:
    """`normalize` of a piece of a text, as ASCII codes, and whether the last of them is a space.

    Args:
        text: the piece, at least one character.
        after_space: whether the text before it, normalised, ends with a space.
    """
    # What is not ASCII becomes a question mark, one a character, and that a space.
    letters = np.frombuffer(text.encode("ascii", "replace").translate(_LETTER_OR_SPACE), np.uint8)
    is_letter = letters != _SPACE
    # Of a run of spaces the first is kept: the one that follows a letter, or begins the text.
    kept = is_letter.copy()
    kept[1:] |= is_letter[:-1]
    kept[0] |= not after_space
    return letters[kept], not is_letter[-1]


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
