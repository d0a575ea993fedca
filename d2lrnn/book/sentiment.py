"""Reviews with labels, and vectors of words, as the book's chapters read them; no framework is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.book.data_sets import download_extract
from d2lrnn.book.first_edition import tokenize
from d2lrnn.book.translation import truncate_pad
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import FrequencyVocab, Vocab
from d2lrnn.errors import TextError, reason_of

#: The folders of the reviews, by label: 1 is a good one.
_FOLDERS = {"pos": 1, "neg": 0}

#: Words that come less often are unknown.
_LEAST_OFTEN = 5


def read_imdb(data_dir: str, is_train: bool) -> tuple[list[str], list[int]]:
    """The book's reviews of films, each in a line, and their labels: 1 for a good one, 0 for a bad one.

    Args:
        data_dir: the folder of the data set, with ``train/pos``, ``train/neg`` and the same in ``test``.
        is_train: which part.

    Raises:
        TextError: a folder or a file cannot be read.
    """
    reviews: list[str] = []
    labels: list[int] = []
    for name, label in _FOLDERS.items():
        folder = Path(data_dir) / ("train" if is_train else "test") / name
        try:
            # By name: a file system has an order of its own.
            for file in sorted(folder.iterdir()):
                reviews.append(file.read_text(encoding="utf-8").replace("\n", ""))
                labels.append(label)
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"the reviews in {folder} cannot be read: {reason_of(error)}") from error
    return reviews, labels


class Reviews:
    """The book's reviews in batches: its ``load_data_imdb``. A tab adds `tensor` and `load_array`."""

    @staticmethod
    def tensor(indices: IntArray) -> Any:
        """Token indices, or labels, as the framework's array."""
        raise NotImplementedError

    @staticmethod
    def load_array(data_arrays: tuple[Any, ...], batch_size: int, is_train: bool = True) -> Any:
        """Batches of rows."""
        raise NotImplementedError

    @classmethod
    def load(cls, batch_size: int, num_steps: int = 500) -> tuple[Any, Any, Vocab]:
        """The reviews to train with and to test with, and the vocabulary of the first.

        Args:
            batch_size: B.
            num_steps: T: longer reviews are cut, shorter ones padded.

        Returns:
            Batches of (tokens (B, T), labels (B,)) to train with, those to test with, and the words that come
            at least five times.

        Raises:
            TextError: the data set cannot be had.
        """
        folder = download_extract("aclImdb", "aclImdb")
        parts = [read_imdb(folder, is_train) for is_train in (True, False)]
        lines = [tokenize(reviews, token="word") for reviews, _ in parts]
        vocab = FrequencyVocab(lines[0], min_freq=_LEAST_OFTEN)
        padding = vocab["<pad>"]
        loaders = []
        for tokens, (_, labels), is_train in zip(lines, parts, (True, False), strict=True):
            rows = [truncate_pad(vocab[line], num_steps, padding) for line in tokens]
            arrays = np.array(rows, np.int32).reshape(len(rows), num_steps), np.array(labels, np.int32)
            loaders.append(cls.load_array(tuple(map(cls.tensor, arrays)), batch_size, is_train))
        return loaders[0], loaders[1], vocab


class TokenEmbedding:
    """Vectors of words that were learned before, from one of the book's files. A tab adds `tensor`.

    Args:
        embedding_name: a name in ``DATA_HUB``, ``"glove.6b.100d"``.

    Attributes:
        idx_to_token: the words; the first is ``<unk>``.
        token_to_idx: their indices.
        unknown_idx: 0.
        idx_to_vec: (number of words, size of a vector); that of ``<unk>`` is zero.

    Raises:
        TextError: the file cannot be had, or has a line that is no vector.
    """

    def __init__(self, embedding_name: str) -> None:
        self.idx_to_token, self.idx_to_vec = self._load_embedding(embedding_name)
        self.unknown_idx = 0
        self.token_to_idx = {token: index for index, token in enumerate(self.idx_to_token)}

    @staticmethod
    def tensor(values: FloatArray | IntArray) -> Any:
        """Vectors or indices as the framework's array."""
        raise NotImplementedError

    def _load_embedding(self, embedding_name: str) -> tuple[list[str], Any]:
        tokens, vectors = read_vectors(Path(download_extract(embedding_name)) / "vec.txt")
        return tokens, self.tensor(vectors)

    def __getitem__(self, tokens: Sequence[str]) -> Any:
        """The vectors (n, size) of n words."""
        indices = [self.token_to_idx.get(token, self.unknown_idx) for token in tokens]
        return self.idx_to_vec[self.tensor(np.array(indices, np.int32))]

    def __len__(self) -> int:
        return len(self.idx_to_token)


def read_vectors(file: Path) -> tuple[list[str], FloatArray]:
    """The words of a file with a word and its vector a line, and the vectors; first ``<unk>``, with zeros.

    Args:
        file: a text; a first line with two numbers, which some have, is left out.

    Raises:
        TextError: it cannot be read, or a line has another number of values than the first, or none.
    """
    tokens, rows = ["<unk>"], []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                token, *values = line.rstrip().split(" ")
                if len(values) < 2:
                    continue
                rows.append(np.array(values, np.float32))
                tokens.append(token)
                if len(rows[-1]) != len(rows[0]):
                    raise TextError(
                        f"{file}, line {number}: {len(values)} values, the first has {len(rows[0])}"
                    )
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read {file}: {reason_of(error)}") from error
    except ValueError as error:
        raise TextError(f"{file}, line {number}: {error}") from error
    if not rows:
        raise TextError(f"{file} has no vectors")
    return tokens, np.stack([np.zeros_like(rows[0]), *rows])
