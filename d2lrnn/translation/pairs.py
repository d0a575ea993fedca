"""Pairs of sentences from a text, and batches of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from d2lrnn.checks import check_rate, whole_number
from d2lrnn.contract.values import PADDING, IntArray
from d2lrnn.data.sentences import words_of
from d2lrnn.data.texts import read_text
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError, TextError
from d2lrnn.translation.values import PairBatch

#: What stands for padding, and for the beginning and the end of a sentence.
PAD, BOS, EOS = MARKS = ("<pad>", "<bos>", "<eos>")

#: A sentence and its translation, as words.
Pair = tuple[list[str], list[str]]


@dataclass(frozen=True)
class PairSpec:
    """Which pairs a translator is trained on, and in which batches.

    Attributes:
        source: the path of a text with a pair a line: a sentence, a tab, its translation. What stands behind
            a second tab does not count.
        batch_size: B.
        max_tokens: the most words and marks that a sentence may have; longer pairs are left out.
        min_freq: how often a word must come; rarer ones are unknown.
        val_share: the share of the pairs that is kept for validation, at least one of them.
        seed: decides which these are, and the order of the others.

    Raises:
        SpecError: a number is out of its range.
    """

    source: str
    batch_size: int = 64
    max_tokens: int = 20
    min_freq: int = 2
    val_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, what, least in (
            ("batch_size", "the batch size", 1),
            ("max_tokens", "the largest number of tokens", 1),
            ("min_freq", "the least frequency of a token", 0),
            ("seed", "the seed", 0),
        ):
            object.__setattr__(self, name, whole_number(what, getattr(self, name), least))
        check_rate("the share of the validation", self.val_share)
        if not self.val_share:
            raise SpecError("the share of the validation is 0: it must be above that")
        if not self.source:
            raise SpecError("the pairs have no name: give the path of a text file")

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``PairSpec(**data)`` is its inverse."""
        return asdict(self)


class PairCorpus:
    r"""The pairs of a text, with a vocabulary for each language.

    Args:
        spec: which pairs.
        text: them, a pair a line; None reads ``spec.source``.

    Attributes:
        train: the pairs to train on.
        val: the pairs to validate with.
        vocabs: of source and target, made of the pairs to train on.
        num_left_out: how many lines are no pair, or a longer one than ``spec.max_tokens``.

    Raises:
        TextError: the text cannot be read, or has no pair to train on.

    Example:
        >>> text = "Go.\tVa !\nno pair\nHi!\tSalut !\n"
        >>> corpus = PairCorpus(PairSpec("pairs.txt", min_freq=1), text)
        >>> len(corpus.train), len(corpus.val), corpus.num_left_out
        (1, 1, 1)
    """

    def __init__(self, spec: PairSpec, text: str | None = None) -> None:
        self.spec = spec
        if text is None and not os.path.exists(spec.source):
            raise TextError(f"there is no file {spec.source}: give the path of a text with a pair a line")
        text = read_text(spec.source) if text is None else text
        pairs, self.num_left_out = _pairs_of(text, spec.max_tokens)
        order = np.random.default_rng([spec.seed, 0]).permutation(len(pairs))
        num_val = max(1, int(len(pairs) * spec.val_share))
        self.val = [pairs[row] for row in sorted(order[:num_val])]
        self.train = [pairs[row] for row in sorted(order[num_val:])]
        if not self.train:
            raise TextError(
                f"{spec.source} has {len(pairs)} pairs of sentences, too few to train on: a line must have a "
                f"sentence of at most {spec.max_tokens} words and marks, a tab, and its translation"
            )
        self.vocabs = self._own_vocabs()

    def _own_vocabs(self) -> tuple[Vocab, Vocab]:
        source, target = (
            Vocab([pair[side] for pair in self.train], self.spec.min_freq, list(MARKS)) for side in (0, 1)
        )
        return source, target

    @property
    def digest(self) -> str:
        """Tells these pairs, in this order and so divided, from others: the SHA-256 of their words."""
        read = hashlib.sha256()
        for pair in (*self.train, ([], []), *self.val):
            read.update("\t".join(map(" ".join, pair)).encode("utf-8", "surrogatepass") + b"\n")
        return read.hexdigest()

    @property
    def num_train_batches(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self.train) // self.spec.batch_size)

    def train_batches(self, epoch: int) -> Iterator[PairBatch]:
        """The batches of an epoch, counted from 0, in an order of its own."""
        order = np.random.default_rng([self.spec.seed, 1, epoch]).permutation(len(self.train))
        return self._batches([self.train[row] for row in order])

    def val_batches(self) -> Iterator[PairBatch]:
        """The batches to validate with, in order."""
        return self._batches(self.val)

    def _batches(self, pairs: Sequence[Pair]) -> Iterator[PairBatch]:
        size = self.spec.batch_size
        for start in range(0, len(pairs), size):
            yield self.batch(pairs[start : start + size])

    def batch(self, pairs: Sequence[Pair]) -> PairBatch:
        """Pairs as a batch; all batches of a corpus are equally wide, so that nothing is compiled anew."""
        vocab = self.vocabs[1]
        width = self.spec.max_tokens + 1
        source, lengths = encode_sentences([source for source, _ in pairs], self.vocabs[0], width)
        inputs = np.full((len(pairs), width), vocab[PAD], np.int32)
        targets = np.full((len(pairs), width), PADDING, np.int32)
        for row, (_, target) in enumerate(pairs):
            tokens = vocab[[BOS, *target, EOS]]
            inputs[row, : len(tokens) - 1] = tokens[:-1]
            targets[row, : len(tokens) - 1] = tokens[1:]
        return PairBatch(source, lengths, inputs, targets)


def encode_sentences(
    sentences: Sequence[Sequence[str]], vocab: Vocab, width: int
) -> tuple[IntArray, IntArray]:
    """Sentences as indices (B, width), each ended by ``<eos>``, and how many tokens of each these are.

    Args:
        sentences: their words; what does not fit is cut off.
        vocab: has `MARKS`.
        width: at least 1.
    """
    tokens = np.full((len(sentences), width), vocab[PAD], np.int32)
    lengths = np.empty(len(sentences), np.int32)
    for row, sentence in enumerate(sentences):
        indices = vocab[[*sentence[: width - 1], EOS]]
        tokens[row, : len(indices)] = indices
        lengths[row] = len(indices)
    return tokens, lengths


def _pairs_of(text: str, max_tokens: int) -> tuple[list[Pair], int]:
    """The pairs of a text, and how many of its lines are left out."""
    pairs: list[Pair] = []
    lines = [line for line in text.split("\n") if line.strip()]
    for line in lines:
        source, _, rest = line.partition("\t")
        pair = words_of(source), words_of(rest.partition("\t")[0])
        if all(0 < len(side) <= max_tokens for side in pair):
            pairs.append(pair)
    return pairs, len(lines) - len(pairs)
