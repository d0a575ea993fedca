"""The book's first edition, as far as no framework is in it.

Its text is the novel line by line, each normalised and stripped, joined without a space between: 170,580
characters. A tab's ``first_edition.py`` adds what has tensors in it: a `SeqDataLoader` with its framework's
arrays, ``RNNModelScratch`` and ``RNNModel``, ``predict_ch8``, ``grad_clipping``, ``sgd``, and a `Training`,
which ``train_epoch_ch8`` and ``train_ch8`` run.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, SupportsFloat

import numpy as np

from d2lrnn.book.current_edition import num_targets
from d2lrnn.book.epochs import EPOCHS_PER_POINT, check_epochs
from d2lrnn.book.figures import Animator
from d2lrnn.contract.values import Batch, IntArray, State
from d2lrnn.data.batches import random_batches, sequential_batches
from d2lrnn.data.corpus import normalize
from d2lrnn.data.time_machine import time_machine_text
from d2lrnn.data.vocabulary import FrequencyVocab, TokenArray, Vocab
from d2lrnn.errors import SpecError
from d2lrnn.training.epoch import RunningEpoch, Scored, run_epoch
from d2lrnn.training.history import EpochRecord
from d2lrnn.training.interrupts import interrupt_flag


def read_time_machine() -> list[str]:
    """The lines of the novel, normalised and stripped; many of them are empty.

    Raises:
        TextError: the novel cannot be had.

    Example:
        >>> read_time_machine()[0]
        'the time machine by h g wells'
    """
    return [normalize(line).strip() for line in time_machine_text().splitlines()]


def tokenize(lines: Sequence[str], token: str = "word") -> list[list[str]]:
    """Splits lines into words or characters.

    Raises:
        SpecError: `token` is neither ``"word"`` nor ``"char"``.

    Example:
        >>> tokenize(["to be"], "char")
        [['t', 'o', ' ', 'b', 'e']]
    """
    if token not in ("word", "char"):
        raise SpecError(f"unknown token {token!r}: choose one of word, char")
    return [line.split() if token == "word" else list(line) for line in lines]


def count_corpus(tokens: Sequence[Any]) -> Counter[str]:
    """How often every token occurs in a list of tokens, or in a list of lists of them.

    Example:
        >>> count_corpus([["to", "be"], ["to"]])
        Counter({'to': 2, 'be': 1})
    """
    if len(tokens) > 0 and isinstance(tokens[0], list):
        return Counter(token for line in tokens for token in line)
    return Counter(tokens)


def load_corpus_time_machine(max_tokens: int = -1) -> tuple[list[int], Vocab]:
    """The novel's characters as indices, and their vocabulary: the most frequent character first.

    Args:
        max_tokens: how many characters to take, from the beginning; 0 or below takes all.

    Example:
        >>> corpus, vocab = load_corpus_time_machine()
        >>> len(corpus), len(vocab)
        (170580, 28)
    """
    characters = tokenize(read_time_machine(), "char")
    vocab = FrequencyVocab(characters)
    vocab.lower = True
    corpus = vocab.encode([character for line in characters for character in line]).tolist()
    return corpus[:max_tokens] if max_tokens > 0 else corpus, vocab


def random_epoch(corpus: Sequence[int] | TokenArray, batch_size: int, num_steps: int) -> Iterator[Batch]:
    """One epoch of random sampling; offset and order come from Python's random numbers, as in the book.

    Raises:
        SpecError: a size is below 1.
    """
    return _epoch(random_batches, corpus, batch_size, num_steps)


def sequential_epoch(corpus: Sequence[int] | TokenArray, batch_size: int, num_steps: int) -> Iterator[Batch]:
    """One epoch of sequential partitioning; the offset comes from Python's random numbers.

    Raises:
        SpecError: a size is below 1.
    """
    return _epoch(sequential_batches, corpus, batch_size, num_steps)


def _epoch(
    batches: Callable[..., Iterator[Batch]],
    corpus: Sequence[int] | TokenArray,
    batch_size: int,
    num_steps: int,
) -> Iterator[Batch]:
    if batch_size < 1 or num_steps < 1:
        raise SpecError(f"batch_size is {batch_size} and num_steps {num_steps}: both must be at least 1")
    return batches(np.asarray(corpus, np.int64), batch_size, num_steps, _PythonRandom())


class _PythonRandom:
    """The two methods of NumPy's generator that the batches ask for, drawn as the book draws them.

    So the same ``random.seed`` gives the batches that it gives there.
    """

    integers = staticmethod(random.randrange)
    shuffle = staticmethod(random.shuffle)


class SeqDataLoader:
    """The novel in batches (X, Y), each (B, T): a new epoch each time it is walked. A tab adds `tensor`.

    Args:
        batch_size: B.
        num_steps: T.
        use_random_iter: random sampling, not sequential partitioning.
        max_tokens: how many characters to take.

    Attributes:
        corpus: the characters as indices.
        vocab: what they mean.
    """

    def __init__(self, batch_size: int, num_steps: int, use_random_iter: bool, max_tokens: int) -> None:
        self.data_iter_fn = self.random if use_random_iter else self.sequential
        self.corpus, self.vocab = load_corpus_time_machine(max_tokens)
        self.batch_size, self.num_steps = batch_size, num_steps

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self.data_iter_fn(self.corpus, self.batch_size, self.num_steps)

    @staticmethod
    def tensor(indices: IntArray) -> Any:
        """Token indices as the framework's array."""
        raise NotImplementedError

    @classmethod
    def random(
        cls, corpus: Sequence[int] | TokenArray, batch_size: int, num_steps: int
    ) -> Iterator[tuple[Any, Any]]:
        """One epoch of random sampling: pairs (X, Y), each (B, T), in random order.

        Raises:
            SpecError: a size is below 1.
        """
        return ((cls.tensor(X), cls.tensor(Y)) for X, Y in random_epoch(corpus, batch_size, num_steps))

    @classmethod
    def sequential(
        cls, corpus: Sequence[int] | TokenArray, batch_size: int, num_steps: int
    ) -> Iterator[tuple[Any, Any]]:
        """One epoch of sequential partitioning: pairs (X, Y), each (B, T), whose rows continue each other.

        Raises:
            SpecError: a size is below 1.
        """
        return ((cls.tensor(X), cls.tensor(Y)) for X, Y in sequential_epoch(corpus, batch_size, num_steps))

    @classmethod
    def load(
        cls, batch_size: int, num_steps: int, use_random_iter: bool = False, max_tokens: int = 10000
    ) -> tuple[SeqDataLoader, Vocab]:
        """Batches of the novel's first `max_tokens` characters, and the vocabulary of all of it.

        Example:
            >>> train_iter, vocab = load_data_time_machine(32, 35)  # doctest: +SKIP
            >>> next(iter(train_iter))[0].shape                     # doctest: +SKIP
            (32, 35)
        """
        loader = cls(batch_size, num_steps, use_random_iter, max_tokens)
        return loader, loader.vocab


class Accumulator:
    """Sums over n numbers.

    Example:
        >>> metric = Accumulator(2)
        >>> metric.add(3, 1)
        >>> metric.add(4, 1)
        >>> metric[0] / metric[1]
        3.5
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: SupportsFloat) -> None:
        """Adds a number to every sum."""
        self.data = [total + float(value) for total, value in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        """Begins again at zero."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, index: int) -> float:
        return self.data[index]


class Timer:
    """Times that were stopped, in seconds; it runs from the beginning.

    Attributes:
        times: those that were stopped.
        tik: when it was started last, by Python's ``time.perf_counter``.

    Example:
        >>> timer = Timer()
        >>> timer.stop() == timer.sum() == timer.avg()
        True
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Starts again."""
        self.tik = time.perf_counter()

    def stop(self) -> float:
        """Records the time since the start, and returns it."""
        self.times.append(time.perf_counter() - self.tik)
        return self.times[-1]

    def avg(self) -> float:
        """The mean of the times."""
        return self.sum() / len(self.times)

    def sum(self) -> float:
        """The sum of the times."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """The sums up to each of the times."""
        return list(np.cumsum(self.times).tolist())


def map_state(function: Callable[[Any], Any], state: State) -> State:
    """A state with `function` of every array in it.

    Args:
        function: from an array to an array.
        state: what a chapter's network makes of its arrays: one, or a tuple, a named tuple, a list or a dict
            of states. None, which has no array, stays.

    Example:
        >>> map_state(abs, [(-1, 2), {"c": -3}, None])
        [(1, 2), {'c': 3}, None]
    """
    if state is None:
        return None
    if isinstance(state, dict):
        return {name: map_state(function, part) for name, part in state.items()}
    if isinstance(state, (tuple, list)):
        parts = [map_state(function, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return function(state)


class Training:
    """A network, its loss and its updater: what ``train_epoch_ch8`` and ``train_ch8`` run.

    A tab's subclass says how its framework takes a step: the methods that raise here.

    Attributes:
        step: training steps taken.
        writes_between: whether `train` also shows what the network writes after every tenth epoch.
    """

    step = 0
    writes_between = True

    def initial_state(self, batch_size: int) -> State:
        """The network's state before the first token."""
        raise NotImplementedError

    def train_step(self, X: Any, Y: Any, state: State) -> tuple[SupportsFloat, State]:
        """The mean loss of a batch, each (B, T), and the detached state after it; clips and updates."""
        raise NotImplementedError

    def copy_parameters(self) -> Any:
        """The parameters, to come back to where the training diverges."""
        raise NotImplementedError

    def put_back_parameters(self, parameters: Any) -> None:
        """Replaces the parameters by what `copy_parameters` returned."""
        raise NotImplementedError

    def train_epoch(
        self, train_iter: Iterable[tuple[Any, Any]], use_random_iter: bool, number: int = 1
    ) -> EpochRecord:
        """Trains for an epoch.

        Args:
            train_iter: pairs (X, Y), each (B, T).
            use_random_iter: whether every batch begins with a fresh state; else the state is carried over.
            number: of the epoch, from 1.

        Raises:
            DivergedError: a loss was NaN or infinite; the parameters are those from before the epoch.
        """
        parameters = self.copy_parameters()
        with interrupt_flag(reraise=True) as interrupted:
            record = run_epoch(
                RunningEpoch(number, self.step),
                train_iter,
                self._step,
                carries_state=not use_random_iter,
                rollback=lambda: self.put_back_parameters(parameters),
                interrupted=interrupted.is_set,
            )
        assert record is not None  # an interrupt is raised by now
        return record

    def train(
        self,
        num_epochs: int,
        train_iter: Iterable[tuple[Any, Any]],
        use_random_iter: bool,
        predict: Callable[[str], str],
        device: object,
    ) -> None:
        """Trains, draws the perplexity, and prints what came of it.

        Args:
            num_epochs: how many epochs.
            train_iter: see `train_epoch`.
            use_random_iter: likewise.
            predict: continues a prefix.
            device: where it is trained, to be printed.

        Raises:
            SpecError: `num_epochs` is below 1.
            DivergedError: see `train_epoch`.
        """
        check_epochs(num_epochs)
        animator = Animator(xlabel="epoch", ylabel="perplexity", legend=["train"], xlim=[1, num_epochs])
        for epoch in range(1, num_epochs + 1):
            record = self.train_epoch(train_iter, use_random_iter, epoch)
            if epoch % EPOCHS_PER_POINT == 0 and self.writes_between:
                print(predict("time traveller"))
            if epoch % EPOCHS_PER_POINT == 0 or epoch == num_epochs:
                animator.add(epoch, [record.train_perplexity])
        speed = f"{record.tokens_per_second:.1f} tokens/sec on {device}"
        print(f"perplexity {record.train_perplexity:.1f}, {speed}")
        print(predict("time traveller"))
        print(predict("traveller"))

    def _step(self, batch: tuple[Any, Any], state: State) -> Scored:
        X, Y = batch
        loss, state = self.train_step(X, Y, self.initial_state(len(X)) if state is None else state)
        self.step += 1
        return Scored(loss, num_targets(batch), state)
