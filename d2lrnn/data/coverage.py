"""How many characters and bytes of a text tokens cover: what losses per token are compared by.

Bits per token of characters and of words say nothing of each other. Bits per character do, and bits per byte:
the same total loss, divided by what all scored targets are in the text. A target that is scored in several
windows counts in each, as its loss does.

- Of a text in bytes or by byte-pair encoding, a character belongs to the token that has its first byte.
- A word is covered with one space before it. A text in words with more white space than that has more
  characters than its words cover. Note that a model of words chooses among those of its vocabulary: how they
  are spelt costs it nothing, as it would cost a model of characters.
- The unknown token covers nothing: what stood in its place was not predicted. So it only makes figures worse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.values import PADDING, FloatArray, IntArray
from d2lrnn.data.byte_level import BYTE_UNITS, bytes_of
from d2lrnn.data.vocabulary import UNKNOWN, Unit, Vocab, unit_of
from d2lrnn.errors import SpecError

_DIGIT = 12


class Coverage(NamedTuple):
    """What scored tokens are in the text.

    Attributes:
        tokens: how many there are, the unknown ones too.
        characters: what they cover.
        bytes: the same in bytes of UTF-8.
    """

    tokens: int
    characters: int
    bytes: int

    def per_character(self, bits_per_token: float) -> float | None:
        """Bits per character from bits per token; None where no character is covered.

        Example:
            >>> Coverage(tokens=10, characters=40, bytes=44).per_character(8.0)
            2.0
        """
        return bits_per_token * (self.tokens / self.characters) if self.characters else None

    def per_byte(self, bits_per_token: float) -> float | None:
        """The same per byte."""
        return bits_per_token * (self.tokens / self.bytes) if self.bytes else None

    def summed(self, total: Callable[[FloatArray], FloatArray]) -> Coverage:
        """That of several workers, by the sum of their arrays (`d2lrnn.workers.protocols.Workers.sum`).

        Example:
            >>> Coverage(tokens=3, characters=1 << 40, bytes=5_000).summed(lambda array: array + array)
            Coverage(tokens=6, characters=2199023255552, bytes=10000)
        """
        # In digits: an engine's numbers may have 24 bits.
        digits = [[number >> _DIGIT * place & (1 << _DIGIT) - 1 for place in range(5)] for number in self]
        sums = total(np.array(digits, np.float32)).tolist()
        return Coverage(
            *(sum(int(digit) << _DIGIT * place for place, digit in enumerate(row)) for row in sums)
        )


def coverage_of(vocab: Vocab, counts: npt.NDArray[np.integer[Any]]) -> Coverage:
    """What tokens cover.

    Args:
        vocab: the vocabulary, V tokens.
        counts: how often each of them was scored, (V,).

    Raises:
        SpecError: the tokens are no text.

    Example:
        >>> coverage_of(Vocab("aü"), np.array([1, 2, 3]))  # of '<unk>', 'a' and 'ü'
        Coverage(tokens=6, characters=5, bytes=8)
    """
    unit = unit_of(vocab)
    lengths = np.array([_lengths(token, unit) for token in vocab.idx_to_token], np.int64).reshape(-1, 2)
    characters, num_bytes = (counts.astype(np.int64) @ lengths).tolist()
    return Coverage(int(counts.sum()), characters, num_bytes)


def validation_coverage(data: Any) -> Coverage | None:
    """What the targets of the validation batches cover: they are read for it.

    Args:
        data: a data module (`d2lrnn.data.batches.DataModule`).

    Returns:
        None where it knows no vocabulary (`SlidingWindows.vocab`), or where its tokens are no text.

    Example:
        >>> from d2lrnn import SlidingWindows, load_corpus
        >>> corpus = load_corpus("sample", unit="word")
        >>> data = SlidingWindows(corpus, batch_size=8, num_steps=4, num_train=8, num_val=2)
        >>> validation_coverage(data)
        Coverage(tokens=8, characters=33, bytes=33)
    """
    vocab = vocab_of(data)
    if vocab is None:
        return None
    counts = np.zeros(len(vocab), np.int64)
    for batch in data.validation_batches():
        count_targets(counts, batch.targets)
    return coverage_of(vocab, counts)


def vocab_of(data: Any) -> Vocab | None:
    """The vocabulary of a data module; None where it knows none, or where its tokens are no text."""
    vocab = getattr(data, "vocab", None)
    try:
        return vocab if isinstance(vocab, Vocab) and unit_of(vocab) else None
    except SpecError:
        return None


def count_targets(counts: npt.NDArray[np.int64], targets: IntArray) -> None:
    """Adds how often each token is a target to `counts`, (V,); padding is none."""
    counts += np.bincount(targets[targets != PADDING], minlength=len(counts))


def _lengths(token: str, unit: Unit) -> tuple[int, int]:
    """The characters and the bytes of a token."""
    if unit in BYTE_UNITS:
        data = bytes_of([token])
        return sum(byte & 0xC0 != 0x80 for byte in data), len(data)  # all but the later bytes of a character
    num_bytes = len(token.encode("utf-8", "surrogatepass"))
    if unit == "word":
        return (0, 0) if token == UNKNOWN else (len(token) + 1, num_bytes + 1)
    return (1, num_bytes) if len(token) == 1 else (0, 0)  # the others are special
