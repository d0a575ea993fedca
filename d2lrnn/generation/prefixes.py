"""Beginnings of texts as token indices, and texts of what was added to them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from d2lrnn.contract.values import IntArray
from d2lrnn.data.byte_level import BYTE_UNITS, ByteLevelVocab, pieces_of
from d2lrnn.data.corpus import join_tokens, tokenize
from d2lrnn.data.vocabulary import UNKNOWN, Unit, Vocab, unit_of
from d2lrnn.errors import KindError, PromptError, SpecError


class UnknownTokenWarning(UserWarning):
    """A prefix holds what the vocabulary does not have."""


@dataclass(frozen=True)
class Beginnings:
    """What is continued.

    Attributes:
        texts: the prefixes.
        tokens: their tokens.
        unit: what a token is.
    """

    texts: list[str]
    tokens: list[list[str]]
    unit: Unit

    def continued(self, number: int, tokens: Sequence[str]) -> str:
        """The text of one prefix with the tokens that were added to it."""
        between = " " if self.unit == "word" and tokens else ""
        return self.texts[number] + between + join_tokens(tokens, self.unit)

    def pieces(self, tokens: Iterable[str]) -> Iterator[str]:
        """The text of the first prefix as it grows; half a character waits for its other bytes."""
        yield self.texts[0]
        if self.unit in BYTE_UNITS:
            yield from pieces_of(tokens)
        else:
            yield from (f" {token}" if self.unit == "word" else token for token in tokens)


def beginnings_of(vocab: Vocab, prefix: object, unit: Unit | None, lower: bool | None) -> Beginnings:
    """One prefix or several of them, read as the vocabulary's text was.

    Args:
        vocab: that of the model.
        prefix: a text, or an iterable of texts.
        unit: what a token is; None is what the vocabulary says.
        lower: whether prefixes are turned to lower case; None is what the vocabulary says.

    Raises:
        KindError: a prefix is no text.
        SpecError: the tokens of the vocabulary are no text, there is no such unit, or a package is missing
            that finds its tokens.
    """
    if unit is None:
        unit = unit_of(vocab)
    if lower is None:
        lower = getattr(vocab, "lower", False)
    several = isinstance(prefix, Iterable) and not isinstance(prefix, str)
    texts: list[Any] = list(prefix) if several else [prefix]  # type: ignore[call-overload]  # an iterable, then
    for each in texts:
        if not isinstance(each, str):
            raise KindError(f"a prefix is {each!r}: it must be a text, or there must be a list of texts")
    if lower:
        texts = [each.lower() for each in texts]
    if isinstance(vocab, ByteLevelVocab):
        return Beginnings(texts, [vocab.tokenize(each) for each in texts], unit)
    return Beginnings(texts, [tokenize(each, unit) for each in texts], unit)


def indices_of(vocab: Vocab, beginnings: Sequence[Sequence[str]]) -> list[list[int]]:
    """The tokens of every beginning as indices; of what is unknown one warning tells the caller's caller.

    Raises:
        PromptError: a beginning is empty.
    """
    if not all(beginnings):
        raise PromptError("the prefix is empty: give at least one token for the model to continue")
    # A chapter may bring a vocabulary of its own: nothing is asked of it but indices and the list of tokens.
    sequences = [[int(vocab[token]) for token in tokens] for tokens in beginnings]
    known = vocab.idx_to_token
    pairs = zip(chain.from_iterable(beginnings), chain.from_iterable(sequences), strict=True)
    unknown = sorted({token for token, index in pairs if known[index] != token})
    if unknown:
        listed = ", ".join(map(repr, unknown))
        warnings.warn(
            f"the vocabulary does not have {listed}: fed to the model as the unknown token",
            UnknownTokenWarning,
            stacklevel=3,
        )
    return sequences


def allowed_tokens(vocab: Vocab, forbid: Collection[str]) -> IntArray | None:
    """The indices, in their order, of the tokens that may be written; None where all of them may.

    Where nothing is unknown, ``"<unk>"`` need not be forbidden, and may be.

    Raises:
        KindError: `forbid` is a text and no collection of tokens.
        SpecError: the vocabulary does not have such a token, or has no other.

    Example:
        >>> allowed_tokens(Vocab("ab"), ["<unk>"])
        array([1, 2], dtype=int32)
    """
    if isinstance(forbid, str):
        raise KindError(f"what is forbidden is the text {forbid!r}: it must be a list of tokens")
    if not getattr(vocab, "has_unknown", True):
        forbid = [token for token in forbid if token != UNKNOWN]
    if not forbid:
        return None
    known = vocab.idx_to_token
    allowed = np.ones(len(known), bool)
    for token in forbid:
        index = int(vocab[token])
        if known[index] != token:
            raise SpecError(f"{token!r} is forbidden, which is no token of the vocabulary: leave it out")
        allowed[index] = False
    if not allowed.any():
        raise SpecError("every token of the vocabulary is forbidden: leave one to write with")
    return np.flatnonzero(allowed).astype(np.int32)
