r"""Tokens that are bytes of the text in UTF-8: every byte, or rows of them that occur often (``bpe``).

No text has anything else, and so nothing is unknown. The first 256 tokens of a vocabulary are all bytes in
their order, also those that the text does not have: any beginning can be continued, and a text in bytes is
its own array of indices. They cost a row of the model each.

In a vocabulary a byte is written as a character that can be seen, in GPT-2's alphabet: itself from ``!`` to
``~`` and among the letters of Latin-1, else one from U+0100 on; a space is ``Ġ``.

Source: Radford et al. 2019, Language models are unsupervised multitask learners (``bytes_to_unicode``).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count
from typing import ClassVar

import numpy as np

from d2lrnn.checks import whole_number
from d2lrnn.data.byte_pairs import LONGEST_TOKEN, PairEncoder, cut_pieces, learn_tokens
from d2lrnn.data.vocabulary import Characters, Token, TokenArray, Unit, Vocab
from d2lrnn.errors import RunError, SpecError

#: The units whose tokens are bytes.
BYTE_UNITS: tuple[Unit, ...] = ("byte", "bpe")
NUM_BYTES = 256
#: The tokens of the unit bpe, where their number is not given.
VOCAB_SIZE = 1024


def _alphabet() -> str:
    shown, others = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}, count(NUM_BYTES)
    return "".join(chr(byte if byte in shown else next(others)) for byte in range(NUM_BYTES))


#: The character of each byte.
ALPHABET = _alphabet()
_CHARACTERS = frozenset(ALPHABET)
_LATIN1 = bytes(range(NUM_BYTES)).decode("latin1")
_FROM_ALPHABET = str.maketrans(ALPHABET, _LATIN1)


def bytes_of(tokens: Iterable[str]) -> bytes:
    r"""The bytes that tokens are.

    Raises:
        SpecError: a token has a character that is not in the alphabet.

    Example:
        >>> bytes_of(["Ġso", "Ã", "¼"])
        b' so\xc3\xbc'
    """
    written = "".join(tokens)
    if not _CHARACTERS.issuperset(written):
        raise SpecError(f"{written[:60]!r} is not a token of bytes: each is a character of the alphabet")
    return written.translate(_FROM_ALPHABET).encode("latin1")


def text_of(tokens: Iterable[str]) -> str:
    """The text of tokens; bytes that are no whole character become U+FFFD.

    Example:
        >>> text_of(["Ã", "¼"]), text_of(["Ã"])
        ('ü', '\ufffd')
    """
    return bytes_of(tokens).decode("utf-8", "replace")


def pieces_of(tokens: Iterable[str]) -> Iterator[str]:
    """`text_of` as it grows: a character comes with the last of its bytes.

    Example:
        >>> list(pieces_of(["Ġa", "Ã", "¼", "b"]))
        [' a', 'ü', 'b']
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        if piece := decoder.decode(bytes_of([token])):
            yield piece
    if piece := decoder.decode(b"", final=True):
        yield piece


class ByteLevelVocab(Vocab):
    """The vocabulary of the units byte and bpe.

    The tokens in their order are all of it: `d2lrnn.data.byte_pairs.PairEncoder` finds those of a text. There
    is no ``'<unk>'``.

    Args:
        merged: the tokens of two bytes and more, each a character of the alphabet for a byte; None for a
            vocabulary of the unit byte, which has none.

    Example:
        >>> vocab = ByteLevelVocab()
        >>> len(vocab), vocab.encode_text("ü?").tolist(), vocab.tokenize("ü?")
        (256, [195, 188, 63], ['Ã', '¼', '?'])
    """

    has_unknown: ClassVar[bool] = False

    def __init__(self, merged: Sequence[str] | None = None) -> None:
        self._index([*ALPHABET, *(merged or ())])
        self.token_freqs = []
        self.unit = "byte" if merged is None else "bpe"

    @classmethod
    def learned(cls, pieces: Iterable[str], vocab_size: int = VOCAB_SIZE) -> ByteLevelVocab:
        """The vocabulary of the unit bpe of a text, the same at every call.

        Args:
            pieces: of the text (`d2lrnn.data.byte_pairs.cut_pieces`).
            vocab_size: the most tokens; a short text has fewer.

        Raises:
            SpecError: the package tokenizers is not installed.

        Example:
            >>> vocab = load_corpus("sample", unit="bpe", vocab_size=300).vocab
            >>> len(vocab), text_of(vocab.tokenize("to be 😀")), len(vocab.tokenize("the the")) < 7
            (300, 'to be 😀', True)
        """
        return cls(learn_tokens(pieces, vocab_size, ALPHABET))

    @property
    def unk(self) -> int:
        """There is none.

        Raises:
            SpecError: always; a token was looked up that is none of the vocabulary.
        """
        raise SpecError("there is no such token, and no unknown one: the tokens of this vocabulary are bytes")

    def encode(self, tokens: Sequence[Token]) -> TokenArray:
        """The indices of `tokens` as an array (n,) of `index_dtype`.

        Raises:
            SpecError: one is not in the vocabulary.
        """
        return np.fromiter((self[token] for token in tokens), self.index_dtype, len(tokens))

    def encode_text(self, text: Characters) -> TokenArray:
        """The indices of a text as an array (n,) of `index_dtype`.

        Args:
            text: the text; half of a surrogate pair, which UTF-8 does not have, becomes a question mark.

        Raises:
            SpecError: it takes the package tokenizers, which is not installed.
        """
        data = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
        if len(self) == NUM_BYTES:
            return np.frombuffer(data, np.uint8)
        return self.encode_pieces(cut_pieces(data.decode("utf-8"))[0])

    def encode_pieces(self, pieces: Sequence[str]) -> TokenArray:
        """The indices of the pieces of a text (`d2lrnn.data.byte_pairs.cut_pieces`), one after the other."""
        if len(self) == NUM_BYTES:
            return self.encode_text("".join(pieces))
        found = [np.array(indices, self.index_dtype) for indices in self._encoder.indices(pieces)]
        return np.concatenate(found) if found else np.empty(0, self.index_dtype)

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text; errors are those of `encode_text`."""
        tokens: list[str] = self.to_tokens(self.encode_text(text))
        return tokens

    @cached_property
    def _encoder(self) -> PairEncoder:
        return PairEncoder(self.idx_to_token)

    @classmethod
    def from_json(cls, tokens: object) -> ByteLevelVocab:
        """The vocabulary that `to_json` wrote.

        Raises:
            RunError: this is not a list of different strings, the bytes first, of bytes.
        """
        vocab = super().from_json(tokens)
        assert isinstance(vocab, ByteLevelVocab)
        if "".join(vocab.idx_to_token[:NUM_BYTES]) != ALPHABET:
            raise RunError("the vocabulary does not begin with all bytes, as one of bytes does")
        for token in vocab.idx_to_token[NUM_BYTES:]:
            if not 2 <= len(token) <= LONGEST_TOKEN or not _CHARACTERS.issuperset(token):
                raise RunError(
                    f"the vocabulary holds {token[:60]!r}, which is not 2 to {LONGEST_TOKEN} bytes"
                )
        vocab.unit = "byte" if len(vocab) == NUM_BYTES else "bpe"
        return vocab


def read_vocab(tokens: object, unit: Unit | None) -> Vocab:
    """The vocabulary of a unit that a file holds.

    Raises:
        RunError: see `Vocab.from_json` and `ByteLevelVocab.from_json`.

    Example:
        >>> read_vocab(["<unk>", "a"], "char"), read_vocab([*ALPHABET, "Ġa"], "bpe")["Ġa"]
        (<Vocab of 2 tokens: '<unk>', 'a'>, 256)
    """
    if unit not in BYTE_UNITS:
        return Vocab.from_json(tokens)
    vocab = ByteLevelVocab.from_json(tokens)
    if unit == "byte" and len(vocab) > NUM_BYTES:
        raise RunError(f"the vocabulary has {len(vocab):,} tokens: there are {NUM_BYTES} bytes")
    return vocab


def check_vocab_size(unit: str, vocab_size: int | None, min_freq: int = 0) -> int | None:
    """The number of tokens that the unit bpe is to have; None for another unit.

    Raises:
        SpecError: a number is given for another unit, or one below 257, with which nothing could be joined;
            or tokens of bytes are to be left out where they are rare.

    Example:
        >>> check_vocab_size("char", None), check_vocab_size("bpe", 300), check_vocab_size("bpe", None)
        (None, 300, 1024)
    """
    if unit in BYTE_UNITS and min_freq:
        raise SpecError(
            f"min_freq does not apply to the unit {unit}, in which nothing is unknown: leave it out"
        )
    if unit == "bpe":
        return whole_number("vocab_size", VOCAB_SIZE if vocab_size is None else vocab_size, NUM_BYTES + 1)
    if vocab_size is not None:
        raise SpecError(f"vocab_size applies to the unit bpe only, and this is {unit}: leave it out")
    return None
