"""Which text, and how it is cut into batches, as a value that a saved run contains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from d2lrnn.checks import whole_number
from d2lrnn.data.batches import (
    DataModule,
    EvaluationText,
    RandomSampling,
    SequentialPartitioning,
    SlidingWindows,
)
from d2lrnn.data.byte_level import check_vocab_size
from d2lrnn.data.corpus import Corpus, Unit, check_unit, load_corpus
from d2lrnn.data.texts import BUILT_IN, Source, check_encoding, source_of
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError

IteratorName = Literal["sliding", "random", "sequential"]

#: An iterator over a text, a part of which it holds out for validation.
TextIterator: TypeAlias = SlidingWindows | RandomSampling | SequentialPartitioning

_ITERATORS: dict[IteratorName, type[TextIterator]] = {
    "sliding": SlidingWindows,
    "random": RandomSampling,
    "sequential": SequentialPartitioning,
}

#: What an error calls the fields that are whole numbers, and the least of each.
_WHOLE_NUMBERS = {
    "batch_size": ("batch_size", 1),
    "num_steps": ("num_steps", 1),
    "num_train": ("num_train", 1),
    "num_val": ("num_val", 1),
    "seed": ("the seed", 0),
    "min_freq": ("the least frequency of a token", 0),
}


@dataclass(frozen=True)
class DataSpec:
    """A text and an iterator over it.

    Attributes:
        source: ``"sample"``, ``"time-machine"``, the path of a text file or a folder, ``"-"`` for standard
            input, or several of these, which are joined; or the path of an encoded text, whose unit and
            normalising the fields must say.
        unit: what a token is, ``"char"``, ``"word"``, ``"byte"`` or ``"bpe"`` (`load_corpus`).
        normalized: whether everything but letters becomes a space, in lower case; None does so for the
            built-in texts and leaves others as they are.
        iterator: ``"sliding"`` (overlapping windows, the book's current edition), ``"random"`` or
            ``"sequential"`` (its first edition; sequential carries the state from batch to batch).
        batch_size: B.
        num_steps: T.
        num_train: training windows of the sliding iterator; None is 10,000, or fewer in a short text.
        num_val: validation windows of the sliding iterator; None is 5,000, or fewer in a short text.
        seed: decides the order of the batches.
        encoding: that of the text file.
        min_freq: tokens that occur less often are the unknown token.
        vocab_size: of the unit bpe, the most tokens to learn; None is 1,024 there, and belongs to the others.

    Raises:
        SpecError: the unit, the iterator or the encoding is unknown, a size is no whole number or too small,
            there are window counts for another iterator than sliding, or `vocab_size` or `min_freq` does not
            fit the unit.
    """

    source: Source = "sample"
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
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", source_of(self.source))
        check_encoding(self.encoding)
        for name, (what, least) in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if value is not None or name not in ("num_train", "num_val"):
                object.__setattr__(self, name, whole_number(what, value, least))
        check_unit(self.unit)
        vocab_size = check_vocab_size(self.unit, self.vocab_size, self.min_freq)
        object.__setattr__(self, "vocab_size", vocab_size)
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

    def load(self, vocab: Vocab | None = None) -> tuple[Corpus, TextIterator]:
        """Reads the text, and cuts it into batches.

        Args:
            vocab: the vocabulary to encode the text with, that of a saved run; None makes the text's own.

        Raises:
            TextError: the text cannot be read or is too short.
            SpecError: a size is below 1 or too large, or a package is missing that the unit needs.
        """
        corpus = self._read(vocab)
        return corpus, self.batches(corpus)

    def load_to_evaluate(self, vocab: Vocab) -> tuple[Corpus, DataModule]:
        """Reads the text, and cuts all of it into batches as the validation part is cut.

        Args:
            vocab: that of the model.

        Raises:
            TextError: the text cannot be read or is too short.
            SpecError: a size is below 1 or too large, or a package is missing that the unit needs.
        """
        corpus = self._read(vocab)
        sizes = {"batch_size": self.batch_size, "num_steps": self.num_steps}
        return corpus, EvaluationText(_ITERATORS[self.iterator], corpus, **sizes)

    def batches(self, corpus: Corpus) -> TextIterator:
        """The iterator over a corpus."""
        sizes = {"batch_size": self.batch_size, "num_steps": self.num_steps, "seed": self.seed}
        if self.iterator == "sliding":
            return SlidingWindows(corpus, num_train=self.num_train, num_val=self.num_val, **sizes)
        return _ITERATORS[self.iterator](corpus, **sizes)

    def _read(self, vocab: Vocab | None) -> Corpus:
        return load_corpus(
            self.source,
            unit=self.unit,
            normalized=self.is_normalized,
            min_freq=self.min_freq,
            vocab=vocab,
            encoding=self.encoding,
            vocab_size=self.vocab_size,
        )

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``DataSpec(**data)`` is its inverse."""
        return asdict(self)
