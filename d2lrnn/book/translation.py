"""Pairs of sentences, as the book's chapters on machine translation read them; no framework is in it.

A text has a pair a line: a sentence, a tab, its translation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from d2lrnn.book.data_sets import download_extract
from d2lrnn.contract.values import IntArray
from d2lrnn.data.sentences import with_marks_apart
from d2lrnn.data.vocabulary import FrequencyVocab, Vocab
from d2lrnn.errors import TextError, reason_of

_Token = TypeVar("_Token")


def preprocess_nmt(text: str) -> str:
    r"""The text in lower case, with an ordinary space for each non-breaking one and before every mark.

    Example:
        >>> preprocess_nmt("Go.\tVa\u202f!")
        'go .\tva !'
    """
    return with_marks_apart(text)


def tokenize_nmt(text: str, num_examples: int | None = None) -> tuple[list[list[str]], list[list[str]]]:
    r"""The words of the sentences and of their translations.

    Args:
        text: what `preprocess_nmt` returned. Lines that are not two texts with a tab between are left out.
        num_examples: of how many lines to take pairs, beside the first one; None or 0 takes all. As in the
            book, it is one line more than the name says.

    Example:
        >>> tokenize_nmt("go .\tva !\nno pair\nhi .\tsalut !")
        ([['go', '.'], ['hi', '.']], [['va', '!'], ['salut', '!']])
    """
    lines = text.split("\n")
    if num_examples:
        lines = lines[: num_examples + 1]
    pairs = [pair for pair in (line.split("\t") for line in lines) if len(pair) == 2]
    return [source.split(" ") for source, _ in pairs], [target.split(" ") for _, target in pairs]


def truncate_pad(line: list[_Token], num_steps: int, padding_token: _Token) -> list[_Token]:
    """A line of exactly `num_steps` tokens.

    Example:
        >>> truncate_pad([47, 4], 4, 1), truncate_pad([47, 4, 3], 2, 1)
        ([47, 4, 1, 1], [47, 4])
    """
    return line[:num_steps] + [padding_token] * (num_steps - len(line))


def read_data_nmt() -> str:
    """The book's pairs of English and French sentences: a text with a pair a line.

    Raises:
        TextError: the data set cannot be had.
    """
    return read_pairs(Path(download_extract("fra-eng")) / "fra.txt")


def read_pairs(file: Path) -> str:
    """A text of pairs.

    Raises:
        TextError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read {file}: {reason_of(error)}") from error


class PairArrays:
    """The first edition's pairs of sentences as arrays: its ``build_array_nmt`` and ``load_data_nmt``.

    A tab adds `tensor` and `load_array`.
    """

    @staticmethod
    def tensor(indices: IntArray) -> Any:
        """Token indices, or lengths, as the framework's array."""
        raise NotImplementedError

    @staticmethod
    def load_array(data_arrays: tuple[Any, ...], batch_size: int) -> Any:
        """Batches of rows, shuffled anew in every epoch."""
        raise NotImplementedError

    @classmethod
    def build(cls, lines: Sequence[Sequence[str]], vocab: Vocab, num_steps: int) -> tuple[Any, Any]:
        """Sentences as indices, each with ``<eos>`` at its end.

        Args:
            lines: their words.
            vocab: has ``<pad>`` and ``<eos>``.
            num_steps: T: longer ones are cut, shorter ones padded.

        Returns:
            The indices (N, T), and how many of each row are no padding, (N,).
        """
        padding, end = vocab["<pad>"], vocab["<eos>"]
        rows = [truncate_pad([*vocab[list(line)], end], num_steps, padding) for line in lines]
        indices = np.array(rows, np.int32).reshape(len(rows), num_steps)
        return cls.tensor(indices), cls.tensor((indices != padding).sum(axis=1, dtype=np.int32))

    @classmethod
    def load(cls, batch_size: int, num_steps: int, num_examples: int = 600) -> tuple[Any, Vocab, Vocab]:
        """The book's pairs of English and French sentences in batches.

        Args:
            batch_size: B.
            num_steps: T of both sentences.
            num_examples: as in `tokenize_nmt`.

        Returns:
            Batches of (source (B, T), its lengths (B,), target (B, T), its lengths (B,)), and the
            vocabularies of both languages: words that come at least twice.

        Raises:
            TextError: the data set cannot be had.
        """
        sides = tokenize_nmt(preprocess_nmt(read_data_nmt()), num_examples)
        marks = ["<pad>", "<bos>", "<eos>"]
        vocabs = [FrequencyVocab(side, min_freq=2, reserved_tokens=marks) for side in sides]
        arrays = [cls.build(side, vocab, num_steps) for side, vocab in zip(sides, vocabs, strict=True)]
        source, target = vocabs
        return cls.load_array((*arrays[0], *arrays[1]), batch_size), source, target


class SentencePairs:
    """Pairs of English and French sentences: what a tab's ``MTFraEng`` is made of.

    A mixin before the tab's `DataModule`. Its constructor takes and saves the four numbers, and makes
    `arrays`, `src_vocab` and `tgt_vocab` by `_build_arrays` of what `_download` returns. A tab adds `tensor`.

    Args:
        batch_size: B.
        num_steps: T: longer sentences are cut, shorter ones padded.
        num_train: how many pairs to train on.
        num_val: how many of those behind them to validate with.

    Attributes:
        arrays: source (N, T), target from ``<bos>`` on (N, T), the source's lengths (N,), and the target one
            word later (N, T).
        src_vocab: what the indices of the source mean.
        tgt_vocab: and those of the target.

    Raises:
        TextError: the data set cannot be had.
    """

    arrays: tuple[Any, ...]
    src_vocab: Vocab
    tgt_vocab: Vocab
    root: str
    num_steps: int
    num_train: int
    num_val: int
    get_tensorloader: Callable[..., Any]

    @staticmethod
    def tensor(indices: IntArray) -> Any:
        """Token indices, or lengths, as the framework's array."""
        raise NotImplementedError

    def _download(self) -> str:
        return read_data_nmt()

    def _preprocess(self, text: str) -> str:
        return preprocess_nmt(text)

    def _tokenize(
        self, text: str, max_examples: int | None = None
    ) -> tuple[list[list[str]], list[list[str]]]:
        sides = tokenize_nmt(text, max_examples)
        source, target = ([[*filter(None, line), "<eos>"] for line in side] for side in sides)
        return source, target

    def _build_arrays(
        self, raw_text: str, src_vocab: Vocab | None = None, tgt_vocab: Vocab | None = None
    ) -> tuple[tuple[Any, ...], Vocab, Vocab]:
        source, target = self._tokenize(self._preprocess(raw_text), self.num_train + self.num_val)
        source = [truncate_pad(line, self.num_steps, "<pad>") for line in source]
        target = [["<bos>", *truncate_pad(line, self.num_steps, "<pad>")] for line in target]
        src_vocab = Vocab(source, min_freq=2) if src_vocab is None else src_vocab
        tgt_vocab = Vocab(target, min_freq=2) if tgt_vocab is None else tgt_vocab
        read = np.array([src_vocab[line] for line in source], np.int32)
        written = np.array([tgt_vocab[line] for line in target], np.int32)
        lengths = (read != src_vocab["<pad>"]).sum(axis=1, dtype=np.int32)
        arrays = read, written[:, :-1], lengths, written[:, 1:]
        return tuple(self.tensor(np.ascontiguousarray(array)) for array in arrays), src_vocab, tgt_vocab

    def get_dataloader(self, train: bool) -> Any:
        """The batches of the training or the validation pairs."""
        rows = slice(0, self.num_train) if train else slice(self.num_train, None)
        return self.get_tensorloader(self.arrays, train, rows)

    def build(self, src_sentences: Sequence[str], tgt_sentences: Sequence[str]) -> tuple[Any, ...]:
        """Other pairs of sentences as `arrays`, with the vocabularies of these.

        Args:
            src_sentences: in the one language.
            tgt_sentences: as many in the other.
        """
        lines = [f"{source}\t{target}" for source, target in zip(src_sentences, tgt_sentences, strict=True)]
        arrays, _, _ = self._build_arrays("\n".join(lines), self.src_vocab, self.tgt_vocab)
        return arrays
