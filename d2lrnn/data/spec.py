"""Which text, and how it is cut into batches, as a value that a saved run contains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from d2lrnn.data.batches import DataModule, RandomSampling, SequentialPartitioning, SlidingWindows
from d2lrnn.data.corpus import BUILT_IN, Corpus, Unit, check_encoding, load_corpus
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError

IteratorName = Literal["sliding", "random", "sequential"]


@dataclass(frozen=True)
class DataSpec:
    """A text and an iterator over it.

    Attributes:
        source: ``"sample"``, ``"time-machine"`` or the path of a text file.
        unit: what a token is, ``"char"`` or ``"word"``.
        normalized: whether everything but letters becomes a space, in lower case; None does so for the
            built-in texts and leaves a file as it is.
        iterator: ``"sliding"`` (overlapping windows, the book's current edition), ``"random"`` or
            ``"sequential"`` (its first edition; sequential carries the state from batch to batch).
        batch_size: B.
        num_steps: T.
        num_train: training windows of the sliding iterator; None is 10,000, or fewer in a short text.
        num_val: validation windows of the sliding iterator; None is 5,000, or fewer in a short text.
        seed: decides the order of the batches.
        encoding: that of the text file.
        min_freq: tokens that occur less often are the unknown token.

    Raises:
        SpecError: the iterator or the encoding is unknown, a frequency is negative, or there are window
            counts for another iterator than sliding.
    """

    source: str = "sample"
    unit: Unit = "char"
    normalized: bool | None = None
    iterator: IteratorName = "sliding"
    batch_size: int = 1024
    num_steps: int = 32
    num_train: int | None = None
    num_val: int | None = None
    seed: int = 0
    encoding: str = "utf-8"
    min_freq: int = 0

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        if self.min_freq < 0:
            raise SpecError(f"the least frequency of a token is {self.min_freq}: it must be 0 or above")
        if self.iterator not in get_args(IteratorName):
            raise SpecError(
                f"unknown iterator {self.iterator!r}: choose one of {', '.join(get_args(IteratorName))}"
            )
        if self.iterator != "sliding" and (self.num_train is not None or self.num_val is not None):
            raise SpecError(
                "numbers of windows apply to the sliding iterator only: leave them out, the "
                f"{self.iterator} iterator takes the whole text"
            )

    @property
    def is_normalized(self) -> bool:
        """Whether the text is normalised, where `normalized` leaves it to the kind of text, too."""
        return self.source in BUILT_IN if self.normalized is None else self.normalized

    def load(self, vocab: Vocab | None = None) -> tuple[Corpus, DataModule]:
        """Reads the text, and cuts it into batches.

        Args:
            vocab: the vocabulary to encode the text with, that of a saved run; None makes the text's own.

        Raises:
            TextError: the text cannot be read or is too short.
            SpecError: the unit is unknown, or a size is below 1 or too large.
        """
        corpus = load_corpus(
            self.source,
            unit=self.unit,
            normalized=self.normalized,
            min_freq=self.min_freq,
            vocab=vocab,
            encoding=self.encoding,
        )
        return corpus, self.batches(corpus)

    def batches(self, corpus: Corpus) -> DataModule:
        """The iterator over a corpus."""
        sizes = {"batch_size": self.batch_size, "num_steps": self.num_steps, "seed": self.seed}
        if self.iterator == "random":
            return RandomSampling(corpus, **sizes)
        if self.iterator == "sequential":
            return SequentialPartitioning(corpus, **sizes)
        return SlidingWindows(corpus, num_train=self.num_train, num_val=self.num_val, **sizes)

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``DataSpec(**data)`` is its inverse."""
        return asdict(self)
