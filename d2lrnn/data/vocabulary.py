"""The vocabulary: tokens to indices and back, in the order of either edition of the book.

Characters are counted and encoded through arrays indexed by code point, a piece of the text at a time, so
that a text of 100 MB needs neither a list of its characters nor more memory than its tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, ClassVar, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from d2lrnn.checks import whole_number
from d2lrnn.errors import RunError, SpecError

#: What a token is: `d2lrnn.data.byte_level` has the last two.
Unit = Literal["char", "word", "byte", "bpe"]

#: A string; of n-grams a tuple of strings; anything that can be looked up.
Token: TypeAlias = Hashable

#: Token indices, of any integer type; see `Vocab.index_dtype`.
TokenArray: TypeAlias = npt.NDArray[np.integer[Any]]

#: Characters, as a text or as code points below 256, one byte each (ASCII, Latin-1).
Characters: TypeAlias = str | bytes | bytearray

#: The token in place of every one that the vocabulary does not have.
UNKNOWN = "<unk>"

# Characters worked on at a time: the temporary arrays fit in the processor's cache.
_PIECE = 1 << 18
#: Code points go from 0 up to here.
NUM_CODE_POINTS = 0x110000


class Vocab:
    """A vocabulary: the sorted set of ``'<unk>'``, the reserved tokens and the frequent ones.

    Tokens that are not all strings, such as the pairs of a bigram model, have no common order: they stand as
    in `FrequencyVocab`.

    Attributes:
        idx_to_token: the tokens, in the order of their indices.
        token_to_idx: the index of every token.
        token_freqs: ``(token, count)`` of all tokens that were counted, the rare ones too; the most frequent
            first, those of the same count as they were first met, or of a corpus of characters by code point.
            Empty where the vocabulary was read from a saved run.
        unit: what a token of the text is, ``"char"`` or ``"word"``; None where nobody has said it
            (`unit_of`).
        has_unknown: whether there is ``'<unk>'`` for what is unknown; not where every text has its tokens
            (`d2lrnn.data.byte_level.ByteLevelVocab`).
        lower: whether the text was turned to lower case, as what is to be continued then is, too.

    Args:
        tokens: a list of tokens, anything hashable, or a list of lists of them; None has none.
        min_freq: tokens that occur less often than this are left out, and so become ``'<unk>'``.
        reserved_tokens: tokens that are in the vocabulary whether they occur or not; None has none.

    Raises:
        SpecError: a token is not hashable, or `min_freq` is no number of times.

    Example:
        >>> vocab = Vocab(["a", "b", "a"])
        >>> vocab["a"], vocab[["b", "z"]], vocab.to_tokens([1, 2, 0])
        (1, [2, 0], ['a', 'b', '<unk>'])
        >>> Vocab([("so", "it"), ("it", "goes"), ("so", "it")])[("it", "goes")]
        2

    Source: Zhang et al., Dive into Deep Learning, section 9.2.
    """

    idx_to_token: list[Any]
    token_to_idx: dict[Any, int]
    token_freqs: list[tuple[Any, int]]
    unit: Unit | None = None
    lower: bool = False
    has_unknown: ClassVar[bool] = True

    def __init__(
        self,
        tokens: Sequence[Token] | Sequence[list[Any]] | None = None,
        min_freq: int = 0,
        reserved_tokens: Sequence[Token] | None = None,
    ) -> None:
        tokens = () if tokens is None else tokens
        try:
            counts = Counter(_flat(tokens))
        except TypeError:
            token = next(token for token in _flat(tokens) if not _is_hashable(token))
            raise SpecError(f"a token is {token!r}: it must be hashable, as strings and tuples are") from None
        self._select(counts, min_freq, reserved_tokens or ())

    @classmethod
    def from_counts(
        cls, counts: Mapping[Any, int], min_freq: int = 0, reserved_tokens: Sequence[Token] = ()
    ) -> Vocab:
        """The vocabulary of a text whose tokens were counted already, as by `count_characters`.

        Example:
            >>> Vocab.from_counts({"to": 2, "be": 2, "or": 1}, min_freq=2).idx_to_token
            ['<unk>', 'be', 'to']
        """
        vocab = cls.__new__(cls)
        vocab._select(counts, min_freq, reserved_tokens)
        return vocab

    def _select(self, counts: Mapping[Any, int], min_freq: int, reserved_tokens: Sequence[Token]) -> None:
        min_freq = whole_number("the least frequency of a token", min_freq, 0)
        self.token_freqs = sorted(counts.items(), key=lambda item: item[1], reverse=True)
        frequent = (token for token, count in self.token_freqs if count >= min_freq)
        self._index(self._ordered([UNKNOWN, *reserved_tokens], frequent))

    @staticmethod
    def _ordered(first: list[Any], frequent: Iterable[Any]) -> list[Any]:
        """The tokens in the order of their indices: `first` always, and those that are frequent enough."""
        tokens = list(dict.fromkeys([*first, *frequent]))
        return sorted(tokens) if all(isinstance(token, str) for token in tokens) else tokens

    def _index(self, tokens: list[Any]) -> None:
        self.idx_to_token = tokens
        self.token_to_idx = {token: index for index, token in enumerate(tokens)}
        # Else a tuple is a row of tokens, as in the book.
        self._has_tuples = any(isinstance(token, tuple) for token in tokens)

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __contains__(self, token: object) -> bool:
        return token in self.token_to_idx

    def __eq__(self, other: object) -> bool:
        """Whether both give every token the same index."""
        return self.idx_to_token == other.idx_to_token if isinstance(other, Vocab) else NotImplemented

    # Its attributes are lists, as in the book, and a list can change.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.idx_to_token[:5]))
        return f"<Vocab of {len(self)} tokens: {shown}{', …' if len(self) > 5 else ''}>"

    @overload
    def __getitem__(self, tokens: str) -> int: ...
    @overload
    def __getitem__(self, tokens: list[Any]) -> list[int]: ...
    @overload
    def __getitem__(self, tokens: Token) -> Any: ...
    def __getitem__(self, tokens: Any) -> Any:
        """The index of a token, or those of a list of tokens; `unk` for what is unknown.

        A tuple is a row of tokens like a list, but where the vocabulary has tuples: there it is a token.
        """
        if isinstance(tokens, list) or (isinstance(tokens, tuple) and not self._has_tuples):
            return [self[token] for token in tokens]
        index = self.token_to_idx.get(tokens)
        return self.unk if index is None else index

    @overload
    def to_tokens(self, indices: int | np.integer[Any]) -> Any: ...
    @overload
    def to_tokens(self, indices: Sequence[int] | TokenArray) -> list[Any]: ...
    def to_tokens(self, indices: int | np.integer[Any] | Sequence[int] | TokenArray) -> Any:
        """The token of an index, or the tokens of several.

        Args:
            indices: a number, or a sequence or an array (n,) of numbers, also of a framework's own type.

        Returns:
            A token for a number (or an array without dimensions), else a list of n tokens.

        Raises:
            SpecError: an index is not in [0, V), or the array has two dimensions or more.

        Example:
            >>> Vocab(["a", "b"]).to_tokens([1]), Vocab(["a", "b"]).to_tokens(1)
            (['a'], 'a')
        """
        array = np.asarray(indices)
        if array.ndim > 1:
            raise SpecError(f"to_tokens takes an index or a row of them, not an array of shape {array.shape}")
        # Not every framework counts in integers: an MXNet argmax is a float32.
        whole = array.astype(np.int64)
        wrong = np.atleast_1d(array)[np.atleast_1d((whole != array) | (whole < 0) | (whole >= len(self)))]
        if wrong.size:
            raise SpecError(f"{wrong[0]} is not a token index: they go from 0 to {len(self) - 1}")
        if whole.ndim == 0:
            return self.idx_to_token[int(whole)]
        return [self.idx_to_token[index] for index in whole.tolist()]

    @property
    def unk(self) -> int:
        """The index of ``'<unk>'``."""
        return self.token_to_idx[UNKNOWN]

    @property
    def index_dtype(self) -> np.dtype[Any]:
        """The smallest of uint8, uint16 and int32 that holds every index."""
        return np.dtype(np.uint8 if len(self) <= 1 << 8 else np.uint16 if len(self) <= 1 << 16 else np.int32)

    def encode(self, tokens: Sequence[Token]) -> TokenArray:
        """The indices of `tokens` as an array (n,) of `index_dtype`; `unk` for what is unknown.

        Example:
            >>> Vocab(["to", "be"]).encode(["be", "or"])
            array([1, 0], dtype=uint8)
        """
        found = map(self.token_to_idx.get, tokens, repeat(self.unk))
        return np.fromiter(found, self.index_dtype, len(tokens))

    def encode_characters(self, text: Characters) -> TokenArray:
        """The indices of the characters of `text` as an array (n,) of `index_dtype`.

        The same as ``encode(list(text))``, without the list.

        Example:
            >>> Vocab("abc").encode_characters("cab?")
            array([3, 1, 2, 0], dtype=uint8)
        """
        return look_up(self.character_table(), text)

    def character_table(self) -> TokenArray:
        """The index of every character by its code point, for `look_up`; `unk` for what is unknown."""
        characters = {token: i for token, i in self.token_to_idx.items() if isinstance(token, str)}
        codes = {ord(token): index for token, index in characters.items() if len(token) == 1}
        table = np.full(NUM_CODE_POINTS, self.unk, self.index_dtype)
        table[list(codes)] = list(codes.values())
        return table

    def to_json(self) -> list[str]:
        """The tokens in order; `from_json` is the inverse, but for `token_freqs`, `unit` and `lower`.

        Raises:
            RunError: a token is not a string: in JSON it would not come back as it was.
        """
        for token in self.idx_to_token:
            if not isinstance(token, str):
                raise RunError(
                    f"the vocabulary holds {token!r}, and tokens that are not strings cannot be saved: join "
                    "them to one, as '--'.join(pair) does, before the vocabulary is made"
                )
        return list(self.idx_to_token)

    @classmethod
    def from_json(cls, tokens: object) -> Vocab:
        """The vocabulary that `to_json` wrote; also any other order of tokens than the sorted one.

        Raises:
            RunError: this is not a list of different strings with ``'<unk>'`` among them.

        Example:
            >>> Vocab.from_json(["<unk>", "z", "a"])["a"]
            2
        """
        if not isinstance(tokens, list):
            raise RunError(f"the vocabulary is a {type(tokens).__name__}: it must be a list of tokens")
        for token in tokens:
            if not isinstance(token, str):
                raise RunError(f"the vocabulary holds {token!r}, which is not a string")
            if not token.isascii() and any("\ud800" <= character <= "\udfff" for character in token):
                raise RunError(f"the vocabulary holds {token!r}, which is not valid Unicode text")
        if cls.has_unknown and UNKNOWN not in tokens:
            raise RunError(f"the vocabulary lacks the token {UNKNOWN!r}")
        vocab = cls.__new__(cls)
        vocab._index(list(tokens))
        if len(vocab.token_to_idx) < len(tokens):
            twice = next(token for index, token in enumerate(tokens) if vocab.token_to_idx[token] != index)
            raise RunError(f"the vocabulary holds {twice!r} more than once")
        vocab.token_freqs = []
        return vocab


class FrequencyVocab(Vocab):
    """A vocabulary in the order of the book's first edition: unknown, reserved, and then by frequency.

    Tokens of the same count stand as they were first met. Weights that were trained with that edition's
    package belong to this order. All else is as for `Vocab`.

    Example:
        >>> FrequencyVocab(["b", "a", "c", "a"], reserved_tokens=["<pad>"]).idx_to_token
        ['<unk>', '<pad>', 'a', 'b', 'c']

    Source: Zhang et al., Dive into Deep Learning, first edition, section 8.2.
    """

    @staticmethod
    def _ordered(first: list[Any], frequent: Iterable[Any]) -> list[Any]:
        return list(dict.fromkeys([*first, *frequent]))


def unit_of(vocab: Vocab) -> Unit:
    """What a token of a vocabulary is: what `Vocab.unit` says, or else as the tokens look.

    Characters, where all tokens are single ones but for those like ``'<unk>'``; else words.

    Args:
        vocab: a vocabulary, also one of a chapter's own class.

    Raises:
        SpecError: a token is not a string, so that no text is made of them.

    Example:
        >>> unit_of(Vocab("ab", reserved_tokens=["<pad>"])), unit_of(Vocab(["to", "be"]))
        ('char', 'word')
    """
    said: Unit | None = getattr(vocab, "unit", None)
    if said is not None:
        return said
    tokens = vocab.idx_to_token
    for token in tokens:
        if not isinstance(token, str):
            raise SpecError(f"the vocabulary holds {token!r}, which is no text: its tokens must be strings")
    single = all(len(token) == 1 or (token[0] == "<" and token[-1] == ">") for token in tokens if token)
    return "char" if single else "word"


def _flat(tokens: Sequence[Any]) -> Iterable[Any]:
    """The tokens of a list, or of a list of lists of them."""
    return chain.from_iterable(tokens) if len(tokens) > 0 and isinstance(tokens[0], list) else tokens


def _is_hashable(token: object) -> bool:
    try:
        hash(token)
    except TypeError:  # also a tuple's, for what it holds
        return False
    return True


def count_characters(text: Characters) -> dict[str, int]:
    """How often every character occurs in `text`, in the order of code points.

    The same as a sorted ``Counter(text)``, without an object for every character.

    Example:
        >>> count_characters("banana")
        {'a': 3, 'b': 1, 'n': 2}
    """
    totals = np.zeros(NUM_CODE_POINTS, np.int64)
    add_code_points(totals, text)
    return {chr(point): int(totals[point]) for point in np.flatnonzero(totals)}


def add_code_points(totals: npt.NDArray[np.int64], text: Characters) -> None:
    """Adds how often every code point occurs in `text` to `totals`, (`NUM_CODE_POINTS`,)."""
    for _, points in _code_points(text):
        counts = np.bincount(points)
        totals[: len(counts)] += counts


def look_up(table: TokenArray, text: Characters) -> TokenArray:
    """The characters of `text` as indices (n,), by a table that `Vocab.character_table` made."""
    tokens = np.empty(len(text), table.dtype)
    for start, points in _code_points(text):
        tokens[start : start + len(points)] = table[points]
    return tokens


def _code_points(text: Characters) -> Iterator[tuple[int, TokenArray]]:
    """The code points of `text`, a piece at a time, each with the position that it starts at."""
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        if not isinstance(piece, str):
            yield start, np.frombuffer(piece, np.uint8)
        elif piece.isascii():
            yield start, np.frombuffer(piece.encode("ascii"), np.uint8)
        else:
            # A lone surrogate is a character of a Python string like any other.
            yield start, np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), "<u4")
