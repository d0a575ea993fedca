"""What is called in the course of a training, and may end it: early stopping, logs, samples.

`d2lrnn.saving.callbacks` has the one that saves. A callback of one's own is a class on top of `Callback` with
the methods that it needs. With several workers each has its own callbacks, called after the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from d2lrnn.data.corpus import Corpus
from d2lrnn.errors import SpecError
from d2lrnn.generation import generate
from d2lrnn.training.history import EpochRecord, Progress
from d2lrnn.training.patience import Patience

if TYPE_CHECKING:
    from d2lrnn.training.trainer import Trainer


class Callback:
    """Does nothing: the base of all others.

    Attributes:
        trainer: the trainer that calls it, known from `on_begin` on. ``self.trainer.stop()`` asks it to stop.

    Example:
        >>> class UpTo(Callback):
        ...     def on_step(self, progress):
        ...         if self.trainer.learner.step >= 100:
        ...             self.trainer.stop()
    """

    trainer: Trainer

    def on_begin(self, trainer: Trainer) -> None:
        """Called where `Trainer.fit` begins."""
        self.trainer = trainer

    def on_step(self, progress: Progress) -> None:
        """Called after every training step. `progress` is shown, and its losses are some steps old."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Called after every epoch, and after the part of one that was cut short."""


class EarlyStopping(Callback):
    """Ends a training whose validation perplexity no longer falls (Prechelt 1998, "Early stopping").

    Args:
        patience: after so many epochs in a row without a lower one than the lowest so far. A further `fit`
            trains for an epoch, and ends again if that is no better.

    Raises:
        SpecError: it is no whole number above 0; from `Trainer.fit`, that there is nothing to validate on.

    Example:
        >>> from d2lrnn import ModelSpec, SlidingWindows, Trainer, TrainingSpec, backend
        >>> from d2lrnn import initial_parameters, load_corpus
        >>> corpus, numpy = load_corpus("sample"), backend("numpy")
        >>> spec = ModelSpec(len(corpus.vocab), num_hiddens=8)
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec(100.0))
        >>> data = SlidingWindows(corpus, batch_size=64, num_steps=10, num_train=640, num_val=128)
        >>> history = Trainer(learner, data, callbacks=[EarlyStopping(patience=3)]).fit(num_epochs=50)
        >>> history.ended, len(history.epochs) < 50
        ('stopped', True)
    """

    def __init__(self, patience: int | Patience) -> None:
        self.patience = patience if isinstance(patience, Patience) else Patience(patience)

    def on_begin(self, trainer: Trainer) -> None:
        """Checks that there is something to validate on."""
        super().on_begin(trainer)
        if not trainer.data.num_validation_batches:
            raise SpecError("early stopping needs text to validate on, and there is none")

    def on_epoch(self, record: EpochRecord) -> None:
        """Looks at the whole epochs."""
        if self.trainer.history.cut_short is None and self.patience.is_over(self.trainer.history.epochs):
            self.trainer.stop()


class GradientNormLog(Callback):
    """A line an epoch on the norm of the gradients before clipping, and how many of them were clipped.

    Args:
        write: takes the line.

    Example:
        >>> record = EpochRecord(
        ...     1, 9.0, 8.0, 3.0, 3.0, 500.0, 4, grad_norm=0.5, grad_norm_max=2.25, clipped=0.25
        ... )
        >>> GradientNormLog().on_epoch(record)
        epoch 1: gradient norm 0.5 on average, 2.25 at most; 25% of the steps clipped
    """

    def __init__(self, write: Callable[[str], object] = print) -> None:
        self._write = write

    def on_epoch(self, record: EpochRecord) -> None:
        """Writes the line."""
        self._write(f"epoch {record.epoch}: gradient {describe_norms(record)}")


class SamplePrinter(Callback):
    """A text that the model writes after every epoch, greedily.

    Args:
        corpus: the text that the model is trained on.
        prefix: what is continued.
        num_tokens: how long the continuation is.
        write: takes the line; of several workers the first writes.
    """

    def __init__(
        self, corpus: Corpus, prefix: str, num_tokens: int = 40, *, write: Callable[[str], object] = print
    ) -> None:
        self._corpus, self._prefix, self._num_tokens = corpus, prefix, num_tokens
        self._write = write

    def on_epoch(self, record: EpochRecord) -> None:
        """Writes the line."""
        if self.trainer.place.rank:
            return
        corpus, learner = self._corpus, self.trainer.learner
        text = generate(learner, corpus.vocab, self._prefix, self._num_tokens, unit=corpus.unit)
        self._write(f"epoch {record.epoch}: {text}")


def describe_norms(record: EpochRecord) -> str:
    """The norm of the gradients of an epoch in words: see `GradientNormLog`."""
    if record.grad_norm is None:
        return "norm not known"
    return (
        f"norm {record.grad_norm:.3g} on average, {record.grad_norm_max:.3g} at most; "
        f"{record.clipped:.0%} of the steps clipped"
    )
