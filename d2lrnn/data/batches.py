"""From a corpus to minibatches: the book's three iterators, and the validation part of each.

Nothing is copied in advance. Only the batch under way is an array of its own, so that memory is that of the
corpus however many windows there are; a shuffled epoch adds its order, 32 MB at most (`d2lrnn.data.orders`).
An iterator says where the rows of its batches lie, and they are read when a batch is asked for, whole or a
worker's rows alone, from any batch on (`d2lrnn.data.rows`).

Every batch has the shape (B, T), the last one included: it is padded with inputs 0 and targets `PADDING`, so
that no backend compiles twice. The order of an epoch is decided by the seed and the
number of the epoch alone, and is the same on every backend.

Shapes are written with n = tokens, B = batch size, T = time steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from d2lrnn.checks import whole_number
from d2lrnn.contract.values import Batch
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.orders import shuffled
from d2lrnn.data.rows import Rows, TextBatches
from d2lrnn.data.shares import BOOK_NUM_TRAIN as BOOK_NUM_TRAIN
from d2lrnn.data.shares import BOOK_NUM_VAL as BOOK_NUM_VAL
from d2lrnn.data.shares import check_split, split_text, window_shares
from d2lrnn.data.shares import shares_of_whole_text as shares_of_whole_text
from d2lrnn.data.vocabulary import TokenArray, Vocab
from d2lrnn.errors import SpecError, TextError

#: A batch is an array of its own, padded where the text is short: more tokens than this are a mistake.
_MAX_BATCH_TOKENS = 1 << 26


class DataModule(Protocol):
    """What a trainer needs of data. Asking twice for the same epoch gives the same batches.

    Where the iterators that it gives are `d2lrnn.data.rows.InParts`, as those of this module are, a trainer
    has each worker's rows read alone, and begins an epoch at any batch.
    """

    @property
    def batch_size(self) -> int:
        """B, the number of rows of every batch."""

    @property
    def num_steps(self) -> int:
        """T, the number of time steps of every batch."""

    @property
    def carries_state(self) -> bool:
        """Whether row i of a batch continues row i of the one before, so that the state is carried over.

        It holds for training and for validation batches; the first batch of either starts from zeros.
        """

    @property
    def num_train_batches(self) -> int:
        """The training batches of an epoch; where its offset is random, an epoch can have one fewer."""

    @property
    def num_validation_batches(self) -> int:
        """The validation batches, always the same."""

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches of epoch `epoch`, 0 or above."""

    def validation_batches(self) -> Iterator[Batch]:
        """The validation batches: every validation target once, in the order of the text."""

    def describe(self) -> str:
        """The iterator and its sizes, in one line."""


class SlidingWindows:
    """All overlapping windows, shuffled in every epoch: the book's current edition.

    Window i predicts tokens i + 1 … i + T from tokens i … i + T - 1. Training takes windows [0, num_train);
    validation takes the num_val windows that begin at num_train + T. The T windows between are left out: they
    would show training text to validation, as they do in the book.

    Args:
        corpus: a corpus, or its tokens, integers (n,).
        batch_size: B. The last batch of an epoch is filled up with padding.
        num_steps: T.
        num_train: how many windows to train on; None is 10,000, or two thirds of the windows of a text that
            is too short for both defaults, or what `num_val` leaves.
        num_val: how many windows to validate with; None is 5,000, or one third of those of a short text, or
            what `num_train` leaves.
        seed: decides, with the number of the epoch, the order.

    Attributes:
        corpus: the corpus; None where its tokens alone were given.
        vocab: that of the corpus; likewise.
        num_windows: all windows of the text, n - T of them.
        num_train: the training windows.
        num_val: the validation windows.

    Raises:
        SpecError: a size below 1, a negative seed, or tokens that are not a row of integers.
        TextError: the text is too short for one window of each kind, or for those that were asked for.

    Example:
        >>> data = SlidingWindows(np.arange(10), batch_size=2, num_steps=3, num_train=2)
        >>> next(data.validation_batches()).inputs
        array([[5, 6, 7],
               [6, 7, 8]], dtype=int32)

    Source: Zhang et al., Dive into Deep Learning, section 9.3 and ``d2l.TimeMachine``.
    """

    carries_state = False

    def __init__(
        self,
        corpus: Corpus | TokenArray,
        *,
        batch_size: int = 1024,
        num_steps: int = 32,
        num_train: int | None = None,
        num_val: int | None = None,
        seed: int = 0,
    ) -> None:
        _check_sizes(batch_size=batch_size, num_steps=num_steps, num_train=num_train, num_val=num_val)
        _check_seed(seed)
        self.corpus, self.vocab = _corpus_of(corpus), _vocab_of(corpus)
        tokens = _tokens_of(corpus)
        self.batch_size, self.num_steps, self.seed = batch_size, num_steps, seed
        self.num_windows = max(len(tokens) - num_steps, 0)
        self.num_train, self.num_val = window_shares(num_train, num_val, len(tokens), num_steps)
        self._tokens = tokens

    @property
    def num_train_batches(self) -> int:
        """The training batches of an epoch."""
        return _divided_up(self.num_train, self.batch_size)

    @property
    def num_validation_batches(self) -> int:
        """The validation batches."""
        return self.num_in_order(self.num_val + self.num_steps, self.batch_size, self.num_steps)

    @property
    def val_tokens(self) -> TokenArray:
        """The tokens to validate with, a view."""
        first = self.num_train + self.num_steps
        return self._tokens[first : first + self.num_val + self.num_steps]

    def train_batches(self, epoch: int) -> TextBatches:
        """The training windows in the order of epoch `epoch`."""

        def rows(first: int) -> Iterator[Rows]:
            random = np.random.default_rng([self.seed, epoch])
            for starts in shuffled(self.num_train, self.batch_size, random, first):
                yield _whole(starts, self.num_steps)

        return TextBatches(self._tokens, self.batch_size, self.num_steps, rows)

    def validation_batches(self) -> TextBatches:
        """The validation windows in the order of the text."""
        return self.batches_in_order(self.val_tokens, self.batch_size, self.num_steps)

    @staticmethod
    def num_in_order(num_tokens: int, batch_size: int, num_steps: int) -> int:
        """The batches that `batches_in_order` gives of so many tokens."""
        return _divided_up(num_tokens - num_steps, batch_size)

    @staticmethod
    def batches_in_order(tokens: TokenArray, batch_size: int, num_steps: int) -> TextBatches:
        """All windows of `tokens`, integers (n,), in the order of the text."""
        num_windows = len(tokens) - num_steps

        def rows(first: int) -> Iterator[Rows]:
            for start in range(first * batch_size, num_windows, batch_size):
                yield _whole(np.arange(start, min(start + batch_size, num_windows)), num_steps)

        return TextBatches(tokens, batch_size, num_steps, rows)

    def describe(self) -> str:
        """What is used of the text, the iterator and its sizes, in one line."""
        num_tokens = self.num_windows + self.num_steps
        used = self.num_train + self.num_val + 2 * self.num_steps
        of_all = f"all {num_tokens:,}" if used == num_tokens else f"{used:,} of {num_tokens:,}"
        return (
            f"{of_all} tokens, sliding windows of {self.num_steps} steps, shuffled: {self.num_train:,} for "
            f"training and {self.num_val:,} for validation, in batches of {self.batch_size:,}"
        )


class _HeldBack:
    """What the first edition's iterators share: the last part of a text is held out for validation."""

    #: How many tokens an epoch drops at its beginning at most, counted from T.
    _LARGEST_OFFSET_FROM_T: int

    def __init__(
        self,
        corpus: Corpus | TokenArray,
        *,
        batch_size: int = 32,
        num_steps: int = 35,
        val_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        _check_sizes(batch_size=batch_size, num_steps=num_steps)
        _check_seed(seed)
        self.batch_size, self.num_steps, self.seed = batch_size, num_steps, seed
        self.corpus, self.vocab = _corpus_of(corpus), _vocab_of(corpus)
        self.train_tokens, self.val_tokens = split_text(_tokens_of(corpus), val_fraction)
        check_split(
            self.train_tokens, self.val_tokens, batch_size, num_steps, num_steps + self._LARGEST_OFFSET_FROM_T
        )

    def _all_tokens(self) -> str:
        return f"all {len(self.train_tokens) + len(self.val_tokens):,} tokens"

    def _parts(self) -> str:
        return (
            f"{len(self.train_tokens):,} for training and {len(self.val_tokens):,} for validation, in "
            f"batches of {self.batch_size:,}"
        )


class RandomSampling(_HeldBack):
    """Sequences side by side, in random order: the first edition's random sampling.

    An epoch drops a random number of tokens, 0 to T - 1, cuts the rest into sequences of T, shuffles them,
    and drops those that do not fill a batch. Validation cuts the end of the text, in its order, and pads.

    Args:
        corpus: a corpus, or its tokens, integers (n,).
        batch_size: B.
        num_steps: T.
        val_fraction: the share of the tokens, the last ones, that is held out for validation.
        seed: decides, with the number of the epoch, offset and order.

    Attributes:
        corpus: the corpus; None where its tokens alone were given.
        vocab: that of the corpus; likewise.
        train_tokens: the tokens to train on, a view.
        val_tokens: the tokens to validate with, a view.

    Raises:
        SpecError: a size below 1, a negative seed, a fraction that is not between 0 and 1, or tokens that are
            not a row of integers.
        TextError: the text is too short for one training batch, or nothing of it is left to validate with.

    Example:
        >>> data = RandomSampling(np.arange(100), batch_size=2, num_steps=5)
        >>> data.num_train_batches, next(data.validation_batches()).inputs.tolist()
        (8, [[90, 91, 92, 93, 94], [95, 96, 97, 98, 0]])

    Source: Zhang et al., Dive into Deep Learning, first edition, ``seq_data_iter_random``.
    """

    carries_state = False
    _LARGEST_OFFSET_FROM_T = -1

    @property
    def num_train_batches(self) -> int:
        """The training batches of an epoch with offset 0; one that drops more can have one batch fewer."""
        return (len(self.train_tokens) - 1) // self.num_steps // self.batch_size

    @property
    def num_validation_batches(self) -> int:
        """The validation batches."""
        return self.num_in_order(len(self.val_tokens), self.batch_size, self.num_steps)

    def train_batches(self, epoch: int) -> TextBatches:
        """The training batches with the offset and the order of epoch `epoch`."""
        random = np.random.default_rng([self.seed, epoch])
        return random_batches(self.train_tokens, self.batch_size, self.num_steps, random)

    def validation_batches(self) -> TextBatches:
        """The validation sequences in the order of the text; the last one can be shorter."""
        return self.batches_in_order(self.val_tokens, self.batch_size, self.num_steps)

    @staticmethod
    def num_in_order(num_tokens: int, batch_size: int, num_steps: int) -> int:
        """The batches that `batches_in_order` gives of so many tokens."""
        return _divided_up(num_tokens - 1, num_steps * batch_size)

    @staticmethod
    def batches_in_order(tokens: TokenArray, batch_size: int, num_steps: int) -> TextBatches:
        """All sequences of `tokens`, integers (n,), in the order of the text; the last one can be shorter."""
        end, size = len(tokens) - 1, batch_size * num_steps

        def rows(first: int) -> Iterator[Rows]:
            for start in range(first * size, end, size):
                yield _up_to(end, np.arange(start, min(start + size, end), num_steps), num_steps)

        return TextBatches(tokens, batch_size, num_steps, rows)

    def describe(self) -> str:
        """What is used of the text, the iterator and its sizes, in one line."""
        return (
            f"{self._all_tokens()}, random sampling of sequences of {self.num_steps} steps: {self._parts()}"
        )


class SequentialPartitioning(_HeldBack):
    """B long rows read side by side, T steps at a time: the first edition's sequential partitioning.

    Row i of a batch continues row i of the one before: the state is carried over, and back-propagation
    through time is truncated between them. An epoch drops a random number of tokens, 0 to T, and those at the
    end of the rows that do not fill a batch. Validation lays the last part of the text out in rows likewise,
    from its beginning, and pads them at their ends: a row that has become padding stays so.

    Args:
        corpus: a corpus, or its tokens, integers (n,).
        batch_size: B.
        num_steps: T.
        val_fraction: the share of the tokens, the last ones, that is held out for validation.
        seed: decides, with the number of the epoch, the offset.

    Attributes:
        corpus: the corpus; None where its tokens alone were given.
        vocab: that of the corpus; likewise.
        train_tokens: the tokens to train on, a view.
        val_tokens: the tokens to validate with, a view.

    Raises:
        SpecError: a size below 1, a negative seed, a fraction that is not between 0 and 1, or tokens that are
            not a row of integers.
        TextError: the text is too short for one training batch, or nothing of it is left to validate with.

    Example:
        >>> data = SequentialPartitioning(np.arange(100), batch_size=2, num_steps=3)
        >>> [batch.inputs.tolist() for batch in data.validation_batches()]
        [[[90, 91, 92], [95, 96, 97]], [[93, 94, 0], [98, 0, 0]]]

    Source: Zhang et al., Dive into Deep Learning, first edition, ``seq_data_iter_sequential``.
    """

    carries_state = True
    _LARGEST_OFFSET_FROM_T = 0

    @property
    def num_train_batches(self) -> int:
        """The training batches of an epoch with offset 0; one that drops more can have one batch fewer."""
        return (len(self.train_tokens) - 1) // self.batch_size // self.num_steps

    @property
    def num_validation_batches(self) -> int:
        """The validation batches."""
        return self.num_in_order(len(self.val_tokens), self.batch_size, self.num_steps)

    def train_batches(self, epoch: int) -> TextBatches:
        """The training batches with the offset of epoch `epoch`."""
        random = np.random.default_rng([self.seed, epoch])
        return sequential_batches(self.train_tokens, self.batch_size, self.num_steps, random)

    def validation_batches(self) -> TextBatches:
        """The validation rows, T steps at a time."""
        return self.batches_in_order(self.val_tokens, self.batch_size, self.num_steps)

    @staticmethod
    def num_in_order(num_tokens: int, batch_size: int, num_steps: int) -> int:
        """The batches that `batches_in_order` gives of so many tokens."""
        return _divided_up(_row_length(num_tokens, batch_size), num_steps)

    @staticmethod
    def batches_in_order(tokens: TokenArray, batch_size: int, num_steps: int) -> TextBatches:
        """`tokens`, integers (n,), in B rows from their beginning, T steps at a time."""
        length = _row_length(len(tokens), batch_size)
        starts = np.arange(batch_size, dtype=np.int64) * length
        ends = np.minimum(starts + length, len(tokens) - 1)

        def rows(first: int) -> Iterator[Rows]:
            for step in range(first * num_steps, length, num_steps):
                yield _up_to(ends, starts + step, num_steps)

        return TextBatches(tokens, batch_size, num_steps, rows)

    def describe(self) -> str:
        """What is used of the text, the iterator and its sizes, in one line."""
        return (
            f"{self._all_tokens()}, sequential partitioning, {self.num_steps} steps at a time, state "
            f"carried: {self._parts()}"
        )


class EvaluationText:
    """All of a text to evaluate a model on, and nothing of it to train on.

    Args:
        iterator: the class whose validation batches it has, `SlidingWindows` for example.
        corpus: a corpus, or its tokens, integers (n,).
        batch_size: B.
        num_steps: T.

    Raises:
        SpecError: a size below 1, or tokens that are not a row of integers.
        TextError: the text is too short for one batch.

    Example:
        >>> data = EvaluationText(RandomSampling, np.arange(6), batch_size=2, num_steps=3)
        >>> next(data.validation_batches()).inputs.tolist()
        [[0, 1, 2], [3, 4, 0]]
    """

    num_train_batches = 0

    def __init__(
        self,
        iterator: type[SlidingWindows | RandomSampling | SequentialPartitioning],
        corpus: Corpus | TokenArray,
        *,
        batch_size: int,
        num_steps: int,
    ) -> None:
        _check_sizes(batch_size=batch_size, num_steps=num_steps)
        self.batch_size, self.num_steps, self.carries_state = batch_size, num_steps, iterator.carries_state
        self._tokens, self._iterator = _tokens_of(corpus), iterator
        self.vocab = _vocab_of(corpus)
        needed = num_steps + 1 if iterator is SlidingWindows else 2
        if len(self._tokens) < needed:
            raise TextError(
                f"the text has {len(self._tokens):,} tokens: to evaluate a model it needs at least {needed:,}"
            )

    @property
    def num_validation_batches(self) -> int:
        """The batches of the text."""
        return self._iterator.num_in_order(len(self._tokens), self.batch_size, self.num_steps)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """None: there is nothing to train on."""
        return iter(())

    def validation_batches(self) -> TextBatches:
        """The batches of the text, in its order."""
        return self._iterator.batches_in_order(self._tokens, self.batch_size, self.num_steps)

    def describe(self) -> str:
        """How long the text is, and how it is cut, in one line."""
        return f"all {len(self._tokens):,} tokens, {self.num_steps} steps at a time"


def random_batches(
    tokens: TokenArray, batch_size: int, num_steps: int, random: np.random.Generator
) -> TextBatches:
    """One epoch of random sampling, exactly the first edition's ``seq_data_iter_random``.

    Args:
        tokens: integers (n,), all of them to train on.
        batch_size: B.
        num_steps: T.
        random: draws the offset and the order.

    Returns:
        Full batches only; none where the text is too short for one.
    """

    def rows(first: int) -> Iterator[Rows]:
        offset = int(random.integers(num_steps))
        num_sequences = (len(tokens) - offset - 1) // num_steps
        for numbers in shuffled(num_sequences, batch_size, random, first):
            if len(numbers) == batch_size:
                yield _whole(offset + num_steps * numbers.astype(np.int64), num_steps)

    return TextBatches(tokens, batch_size, num_steps, rows)


def sequential_batches(
    tokens: TokenArray, batch_size: int, num_steps: int, random: np.random.Generator
) -> TextBatches:
    """One epoch of sequential partitioning, exactly the first edition's ``seq_data_iter_sequential``.

    Args:
        tokens: integers (n,), all of them to train on.
        batch_size: B.
        num_steps: T.
        random: draws the offset.

    Returns:
        Full batches only; none where the text is too short for one.
    """

    def rows(first: int) -> Iterator[Rows]:
        offset = int(random.integers(num_steps + 1))
        row_length = (len(tokens) - offset - 1) // batch_size
        starts = offset + row_length * np.arange(batch_size, dtype=np.int64)
        for step in range(first * num_steps, row_length // num_steps * num_steps, num_steps):
            yield _whole(starts + step, num_steps)

    return TextBatches(tokens, batch_size, num_steps, rows)


def _row_length(num_tokens: int, batch_size: int) -> int:
    """The targets in one of B rows of n tokens; the last rows can have fewer, or none."""
    return _divided_up(num_tokens - 1, batch_size)


def _whole(starts: npt.NDArray[np.integer[Any]], num_steps: int) -> Rows:
    """Rows of T targets each."""
    return Rows(starts.astype(np.int64), np.full(len(starts), num_steps, np.int64))


def _up_to(ends: npt.NDArray[np.int64] | int, starts: npt.NDArray[np.int64], num_steps: int) -> Rows:
    """Rows of T targets, or fewer where the last one, at the place `ends`, is nearer."""
    return Rows(starts, np.clip(ends - starts, 0, num_steps))


def _divided_up(count: int, size: int) -> int:
    """``count / size``, rounded up."""
    return -(-count // size)


def _tokens_of(corpus: Corpus | TokenArray) -> TokenArray:
    if isinstance(corpus, Corpus):
        return corpus.tokens
    tokens = np.asarray(corpus)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise SpecError(
            f"tokens must be a row of integers, not an array of shape {tokens.shape} and type {tokens.dtype}"
        )
    if tokens.dtype.kind == "i" and tokens.size and tokens.min() < 0:
        raise SpecError(
            f"a token is {tokens.min()}: tokens must be 0 or above (negative targets are padding)"
        )
    return tokens


def _corpus_of(corpus: Corpus | TokenArray) -> Corpus | None:
    return corpus if isinstance(corpus, Corpus) else None


def _vocab_of(corpus: Corpus | TokenArray) -> Vocab | None:
    return corpus.vocab if isinstance(corpus, Corpus) else None


def _check_sizes(*, batch_size: int, num_steps: int, **others: int | None) -> None:
    for name, size in {"batch_size": batch_size, "num_steps": num_steps, **others}.items():
        if size is not None or name in ("batch_size", "num_steps"):
            whole_number(name, size)
    if batch_size * num_steps > _MAX_BATCH_TOKENS:
        raise SpecError(
            f"a batch of {batch_size:,} sequences of {num_steps:,} steps has more than {_MAX_BATCH_TOKENS:,} "
            "tokens: take a smaller batch or fewer steps"
        )


def _check_seed(seed: int) -> None:
    whole_number("the seed", seed, 0)
