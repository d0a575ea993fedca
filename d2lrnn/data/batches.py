"""From a corpus to minibatches: the book's three iterators, and the validation part of each.

Nothing is copied in advance. Only the batch under way is an array of its own, so that memory is that of the
corpus however many windows there are; a shuffled epoch adds its order, 32 MB at most (`d2lrnn.data.orders`).
Of an encoded text, which stays in its file, the rows of a batch are read when it is made
(`d2lrnn.data.mapped`).

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
from d2lrnn.contract.values import PADDING, Batch
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.mapped import rows_at, span
from d2lrnn.data.orders import shuffled
from d2lrnn.data.vocabulary import TokenArray
from d2lrnn.errors import SpecError, TextError

#: How many windows the book's current edition trains on, and validates with.
BOOK_NUM_TRAIN, BOOK_NUM_VAL = 10_000, 5_000

#: A batch is an array of its own, padded where the text is short: more tokens than this are a mistake.
_MAX_BATCH_TOKENS = 1 << 26


class DataModule(Protocol):
    """What a trainer needs of data. Asking twice for the same epoch gives the same batches."""

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
        tokens = _tokens_of(corpus)
        self.batch_size, self.num_steps, self.seed = batch_size, num_steps, seed
        self.num_windows = max(len(tokens) - num_steps, 0)
        self.num_train, self.num_val = _shares(num_train, num_val, len(tokens), num_steps)
        self._tokens = tokens

    @property
    def num_train_batches(self) -> int:
        """The training batches of an epoch."""
        return _divided_up(self.num_train, self.batch_size)

    @property
    def num_validation_batches(self) -> int:
        """The validation batches."""
        return self.num_in_order(self.num_val + self.num_steps, self.batch_size, self.num_steps)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The training windows in the order of epoch `epoch`."""
        random = np.random.default_rng([self.seed, epoch])
        for starts in shuffled(self.num_train, self.batch_size, random):
            yield _batch_at(self._tokens, starts, self.num_steps, self.batch_size)

    def validation_batches(self) -> Iterator[Batch]:
        """The validation windows in the order of the text."""
        first = self.num_train + self.num_steps
        tokens = self._tokens[first : first + self.num_val + self.num_steps]
        return self.batches_in_order(tokens, self.batch_size, self.num_steps)

    @staticmethod
    def num_in_order(num_tokens: int, batch_size: int, num_steps: int) -> int:
        """The batches that `batches_in_order` gives of so many tokens."""
        return _divided_up(num_tokens - num_steps, batch_size)

    @staticmethod
    def batches_in_order(tokens: TokenArray, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """All windows of `tokens`, integers (n,), in the order of the text."""
        for start in range(0, len(tokens) - num_steps, batch_size):
            part = span(tokens, start, start + batch_size + num_steps)
            yield _padded(np.lib.stride_tricks.sliding_window_view(part, num_steps + 1), batch_size)

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
        self.train_tokens, self.val_tokens = _split(_tokens_of(corpus), val_fraction)
        _check_parts(
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

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches with the offset and the order of epoch `epoch`."""
        random = np.random.default_rng([self.seed, epoch])
        return random_batches(self.train_tokens, self.batch_size, self.num_steps, random)

    def validation_batches(self) -> Iterator[Batch]:
        """The validation sequences in the order of the text; the last one can be shorter."""
        return self.batches_in_order(self.val_tokens, self.batch_size, self.num_steps)

    @staticmethod
    def num_in_order(num_tokens: int, batch_size: int, num_steps: int) -> int:
        """The batches that `batches_in_order` gives of so many tokens."""
        return _divided_up(num_tokens - 1, num_steps * batch_size)

    @staticmethod
    def batches_in_order(tokens: TokenArray, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """All sequences of `tokens`, integers (n,), in the order of the text; the last one can be shorter."""
        end = len(tokens) - 1
        for first in range(0, end, batch_size * num_steps):
            starts = np.arange(first, min(first + batch_size * num_steps, end), num_steps)
            ends = np.full_like(starts, end)
            yield _padded(_cut(tokens, starts, ends, num_steps), batch_size)

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

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches with the offset of epoch `epoch`."""
        random = np.random.default_rng([self.seed, epoch])
        return sequential_batches(self.train_tokens, self.batch_size, self.num_steps, random)

    def validation_batches(self) -> Iterator[Batch]:
        """The validation rows, T steps at a time."""
        return self.batches_in_order(self.val_tokens, self.batch_size, self.num_steps)

    @staticmethod
    def num_in_order(num_tokens: int, batch_size: int, num_steps: int) -> int:
        """The batches that `batches_in_order` gives of so many tokens."""
        return _divided_up(_row_length(num_tokens, batch_size), num_steps)

    @staticmethod
    def batches_in_order(tokens: TokenArray, batch_size: int, num_steps: int) -> Iterator[Batch]:
        """`tokens`, integers (n,), in B rows from their beginning, T steps at a time."""
        length = _row_length(len(tokens), batch_size)
        starts = np.arange(batch_size) * length
        ends = np.minimum(starts + length, len(tokens) - 1)
        for step in range(0, length, num_steps):
            yield _padded(_cut(tokens, starts + step, ends, num_steps), batch_size)

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

    def validation_batches(self) -> Iterator[Batch]:
        """The batches of the text, in its order."""
        return self._iterator.batches_in_order(self._tokens, self.batch_size, self.num_steps)

    def describe(self) -> str:
        """How long the text is, and how it is cut, in one line."""
        return f"all {len(self._tokens):,} tokens, {self.num_steps} steps at a time"


def random_batches(
    tokens: TokenArray, batch_size: int, num_steps: int, random: np.random.Generator
) -> Iterator[Batch]:
    """One epoch of random sampling, exactly the first edition's ``seq_data_iter_random``.

    Args:
        tokens: integers (n,), all of them to train on.
        batch_size: B.
        num_steps: T.
        random: draws the offset and the order.

    Returns:
        Full batches only; none where the text is too short for one.
    """
    offset = int(random.integers(num_steps))
    num_sequences = (len(tokens) - offset - 1) // num_steps
    for numbers in shuffled(num_sequences, batch_size, random):
        if len(numbers) == batch_size:
            yield _batch_at(tokens, offset + num_steps * numbers.astype(np.int64), num_steps, batch_size)


def sequential_batches(
    tokens: TokenArray, batch_size: int, num_steps: int, random: np.random.Generator
) -> Iterator[Batch]:
    """One epoch of sequential partitioning, exactly the first edition's ``seq_data_iter_sequential``.

    Args:
        tokens: integers (n,), all of them to train on.
        batch_size: B.
        num_steps: T.
        random: draws the offset.

    Returns:
        Full batches only; none where the text is too short for one.
    """
    offset = int(random.integers(num_steps + 1))
    row_length = (len(tokens) - offset - 1) // batch_size
    starts = offset + row_length * np.arange(batch_size)
    for step in range(0, row_length // num_steps * num_steps, num_steps):
        yield _batch_at(tokens, starts + step, num_steps, batch_size)


def _batch_at(
    tokens: TokenArray, starts: npt.NDArray[np.integer[Any]], num_steps: int, batch_size: int
) -> Batch:
    """The batch whose rows begin at `starts`, at most B of them; each of these is whole."""
    return _padded(rows_at(tokens, starts, num_steps + 1), batch_size)


def _row_length(num_tokens: int, batch_size: int) -> int:
    """The targets in one of B rows of n tokens; the last rows can have fewer, or none."""
    return _divided_up(num_tokens - 1, batch_size)


def _cut(
    tokens: TokenArray,
    starts: npt.NDArray[np.integer[Any]],
    ends: npt.NDArray[np.integer[Any]],
    num_steps: int,
) -> TokenArray:
    """Windows (rows, T + 1) from `starts` on, padded behind `ends`, the position of their last target."""
    rows = np.full((len(starts), num_steps + 1), PADDING, np.int32)
    for row, start, end in zip(rows, starts.tolist(), ends.tolist(), strict=True):
        found = span(tokens, start, min(start + num_steps, end) + 1)
        row[: len(found)] = found
    return rows


def _padded(windows: TokenArray, batch_size: int) -> Batch:
    """Windows (rows, T + 1), at most B of them, as a batch (B, T)."""
    filled = np.full((batch_size, windows.shape[1]), PADDING, np.int32)
    filled[: len(windows)] = windows
    # Two arrays of their own: they overlap in `filled`, and a batch may be handed to a device as it stands.
    inputs, targets = filled[:, :-1].copy(), filled[:, 1:].copy()
    inputs[targets == PADDING] = 0
    return Batch(inputs, targets)


def _split(tokens: TokenArray, val_fraction: float) -> tuple[TokenArray, TokenArray]:
    """The tokens to train on and, behind them, those to validate with."""
    if not 0 < val_fraction < 1:
        raise SpecError(f"the validation fraction is {val_fraction}: it must be above 0 and below 1")
    num_train = len(tokens) - round(len(tokens) * val_fraction)
    return tokens[:num_train], tokens[num_train:]


def _check_parts(
    train: TokenArray, val: TokenArray, batch_size: int, num_steps: int, largest_offset: int
) -> None:
    """Whether every epoch has a training batch, whatever its offset, and validation a target."""
    whole = len(train) + len(val)
    needed = batch_size * num_steps + largest_offset + 1
    if len(train) < needed:
        rows = (len(train) - largest_offset - 1) // num_steps
        # Each step takes a token in every row and one of the offset.
        steps = (len(train) - (largest_offset + 1 - num_steps)) // (batch_size + 1)
        raise TextError(
            f"the text has {whole:,} tokens, {len(train):,} of them for training: a batch of {batch_size:,} "
            f"sequences of {num_steps:,} steps needs at least {needed:,}. Take a longer text"
            + (f", a batch size of at most {rows:,}" if rows > 0 else "")
            + _or_fewer_steps(steps)
        )
    if len(val) < 2:
        raise TextError(
            f"the text has {whole:,} tokens, {len(val):,} of them for validation, which needs at least 2. "
            f"Take a longer text or a larger validation fraction"
        )


def _shares(num_train: int | None, num_val: int | None, num_tokens: int, num_steps: int) -> tuple[int, int]:
    """How many sliding windows to train on and to validate with."""
    # The T windows between the two parts belong to neither.
    room = num_tokens - 2 * num_steps
    if room < 2:
        raise TextError(
            f"the text has {num_tokens:,} tokens: a training and a validation window of {num_steps:,} steps "
            f"need at least {2 * num_steps + 2:,}. Take a longer text"
            + _or_fewer_steps((num_tokens - 2) // 2)
        )
    if (num_train or 1) + (num_val or 1) > room:
        train, val = (f"{number:,}" if number else "1 or more" for number in (num_train, num_val))
        raise TextError(
            f"{train} training and {val} validation windows of {num_steps:,} steps do not fit: the text has "
            f"{num_tokens:,} tokens, room for {room:,} windows in all. Take fewer windows or a longer text"
        )
    if num_train is None and num_val is None and room < BOOK_NUM_TRAIN + BOOK_NUM_VAL:
        num_train = 2 * room // 3
    if num_train is None:
        num_train = min(BOOK_NUM_TRAIN, room - (num_val or 0))
    if num_val is None:
        num_val = min(BOOK_NUM_VAL, room - num_train)
    return num_train, num_val


def shares_of_whole_text(num_tokens: int, num_steps: int, num_val: int | None = None) -> tuple[int, int]:
    """How many sliding windows use all of a text: the last tenth for validation, the others for training.

    Args:
        num_tokens: n.
        num_steps: T.
        num_val: the windows for validation, where they are not to be a tenth.

    Returns:
        `num_train` and `num_val` of `SlidingWindows`; they are below 1 where the text is too short.

    Example:
        >>> shares_of_whole_text(1_064, 32)
        (900, 100)
    """
    room = num_tokens - 2 * num_steps
    if num_val is None:
        num_val = -(-room // 10)
    return room - num_val, num_val


def _or_fewer_steps(most: int) -> str:
    return f" or at most {most:,} steps (--steps {most})" if most > 0 else ""


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
