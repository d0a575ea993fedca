"""The book's first edition, as far as no framework is in it.

Its text is the novel line by line, each normalised and stripped, joined without a space between: 170,580
characters. A backend's ``classic.py`` adds what has tensors in it: ``seq_data_iter_random`` and
``seq_data_iter_sequential`` (`random_epoch`, `sequential_epoch` as the framework's own arrays),
``SeqDataLoader(SequenceLoader)``, ``load_data_time_machine``, ``RNNModelScratch``, ``RNNModel``,
``predict_ch8``, ``grad_clipping``, ``train_epoch_ch8``, which runs the core's loop
(`d2lrnn.training.epoch.run_epoch`), ``train_ch8`` around `train_epochs`, and ``sgd``.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsFloat

import numpy as np

from d2lrnn.book.figures import Animator
from d2lrnn.contract.values import Batch
from d2lrnn.data.batches import random_batches, sequential_batches
from d2lrnn.data.corpus import normalize
from d2lrnn.data.time_machine import time_machine_text
from d2lrnn.data.vocabulary import TokenArray, Vocab
from d2lrnn.errors import SpecError
from d2lrnn.training.trainer import EpochRecord

#: How many epochs pass between two points of the figure.
_EPOCHS_PER_POINT = 10


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
    """The novel's characters as indices, and their vocabulary.

    Args:
        max_tokens: how many characters to take, from the beginning; 0 or below takes all.

    Example:
        >>> corpus, vocab = load_corpus_time_machine()
        >>> len(corpus), len(vocab)
        (170580, 28)
    """
    characters = tokenize(read_time_machine(), "char")
    vocab = Vocab(characters)
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
    batches: Callable[[TokenArray, int, int, np.random.Generator], Iterator[Batch]],
    corpus: Sequence[int] | TokenArray,
    batch_size: int,
    num_steps: int,
) -> Iterator[Batch]:
    if batch_size < 1 or num_steps < 1:
        raise SpecError(f"batch_size is {batch_size} and num_steps {num_steps}: both must be at least 1")
    generator = np.random.default_rng(random.getrandbits(64))
    return batches(np.asarray(corpus, np.int64), batch_size, num_steps, generator)


class SequenceLoader:
    """The novel in batches, a new epoch each time it is walked. A tab makes ``SeqDataLoader`` of it.

    Args:
        batch_size: B.
        num_steps: T.
        use_random_iter: random sampling, not sequential partitioning.
        max_tokens: how many characters to take.

    Attributes:
        corpus: the characters as indices.
        vocab: what they mean.
    """

    #: The tab's ``seq_data_iter_random`` and ``seq_data_iter_sequential``.
    random: Callable[..., Iterator[Any]]
    sequential: Callable[..., Iterator[Any]]

    def __init__(self, batch_size: int, num_steps: int, use_random_iter: bool, max_tokens: int) -> None:
        self.data_iter_fn = type(self).random if use_random_iter else type(self).sequential
        self.corpus, self.vocab = load_corpus_time_machine(max_tokens)
        self.batch_size, self.num_steps = batch_size, num_steps

    def __iter__(self) -> Iterator[Any]:
        return self.data_iter_fn(self.corpus, self.batch_size, self.num_steps)


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
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Records the time since the start, and returns it."""
        self.times.append(time.perf_counter() - self._started)
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


def train_epochs(
    num_epochs: int,
    train_epoch: Callable[[list[EpochRecord]], EpochRecord],
    predict: Callable[[str], str],
    device: str,
) -> None:
    """The frame of ``train_ch8``: epochs, the figure, and at the end what came of it, printed.

    Args:
        num_epochs: how many.
        train_epoch: runs an epoch after those that it is given (`d2lrnn.training.epoch.run_epoch`).
        predict: continues a prefix.
        device: what to call the device.

    Raises:
        SpecError: `num_epochs` is below 1.
    """
    if num_epochs < 1:
        raise SpecError(f"the number of epochs is {num_epochs}: it must be at least 1")
    animator = Animator(xlabel="epoch", ylabel="perplexity", legend=["train"], xlim=[1, num_epochs])
    history: list[EpochRecord] = []
    for epoch in range(1, num_epochs + 1):
        history.append(train_epoch(history))
        if epoch % _EPOCHS_PER_POINT == 0 or epoch == num_epochs:
            animator.add(epoch, [history[-1].train_perplexity])
    last = history[-1]
    print(f"perplexity {last.train_perplexity:.1f}, {last.tokens_per_second:.1f} tokens/sec on {device}")
    print(predict("time traveller"))
    print(predict("traveller"))
