"""The training of a translator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from d2lrnn.data.vocabulary import Vocab
from d2lrnn.training.epoch import RunningEpoch, Scored, run_epoch, total_loss
from d2lrnn.training.history import EpochRecord, Progress
from d2lrnn.training.interrupts import interrupt_flag
from d2lrnn.training.metrics import perplexity
from d2lrnn.translation.pairs import BOS, EOS, PairCorpus, PairSpec, encode_sentences
from d2lrnn.translation.search import translate
from d2lrnn.translation.values import PairBatch, Translator


class TranslatorTrainer:
    """Trains a translator on pairs, epoch by epoch.

    Args:
        translator: what is trained.
        corpus: the pairs.
        epochs: the epochs that were trained before, where a run goes on.
        on_step: called after every step.
        on_epoch: called after every whole epoch.

    Attributes:
        epochs: a record of every whole epoch.
    """

    def __init__(
        self,
        translator: Translator,
        corpus: PairCorpus,
        epochs: Sequence[EpochRecord] = (),
        *,
        on_step: Callable[[Progress], object] = lambda progress: None,
        on_epoch: Callable[[EpochRecord], object] = lambda record: None,
    ) -> None:
        self.translator, self.corpus, self.epochs = translator, corpus, list(epochs)
        self._on_step, self._on_epoch = on_step, on_epoch

    def fit(self, num_epochs: int) -> bool:
        """Trains up to this number of epochs.

        An epoch that is interrupted does not count: the translator is put back to where the epoch began.

        Returns:
            Whether it came to the end; else Ctrl-C ended it.

        Raises:
            DivergedError: a loss was NaN or infinite; the parameters are those of the last whole epoch.
        """
        with interrupt_flag() as interrupted:
            while len(self.epochs) < num_epochs:
                record = self._epoch(len(self.epochs) + 1, num_epochs, interrupted)
                if record is None:
                    return False
                self.epochs.append(record)
                self._on_epoch(record)
        return True

    def _epoch(self, number: int, num_epochs: int, interrupted: threading.Event) -> EpochRecord | None:
        """The record of a whole epoch; None where it was interrupted, and nothing of it is left."""
        translator = self.translator
        epoch = RunningEpoch(number, translator.step)
        first, parameters, slots = (
            translator.step, translator.export_parameters(), translator.export_optimizer_state(),
        )  # fmt: skip

        def put_back() -> None:
            translator.import_parameters(parameters)
            translator.import_optimizer_state(slots)
            translator.step = first

        def step_ended(scored: Scored) -> None:
            nats, tokens = epoch.losses.so_far
            ppl, speed = perplexity(nats, tokens), epoch.losses.num_added / epoch.seconds
            num_batches = self.corpus.num_train_batches
            done = epoch.num_batches
            self._on_step(
                Progress(number, num_epochs, done, num_batches, ppl, speed, scored.loss, scored.grad_norm)
            )

        record = run_epoch(
            epoch,
            self.corpus.train_batches(number - 1),
            self._train_step,
            validate=lambda: total_loss(self.corpus.val_batches(), self._eval_step),
            synchronize=translator.synchronize,
            rollback=put_back,
            interrupted=interrupted.is_set,
            after_step=step_ended,
        )
        if record is not None and epoch.whole:
            return record
        put_back()
        return None

    def _train_step(self, batch: PairBatch, state: object) -> Scored:
        return Scored(self.translator.train_step(batch).loss, batch.num_tokens)

    def _eval_step(self, batch: PairBatch, state: object) -> Scored:
        return Scored(self.translator.eval_step(batch), batch.num_tokens)


def translations(
    translator: Translator,
    vocabs: tuple[Vocab, Vocab],
    pairs: PairSpec,
    sentences: Sequence[Sequence[str]],
    *,
    beam: int = 1,
) -> list[str]:
    """What a translator writes for sentences, words with a space between them.

    Args:
        translator: a trained one.
        vocabs: of source and target.
        pairs: what it was trained on.
        sentences: their words; more than ``pairs.max_tokens`` are cut off.
        beam: see `d2lrnn.translation.search.translate`.
    """
    source_vocab, target_vocab = vocabs
    width, size = pairs.max_tokens + 1, pairs.batch_size
    written: list[str] = []
    for start in range(0, len(sentences), size):
        source, lengths = encode_sentences(sentences[start : start + size], source_vocab, width)
        begin, end = target_vocab[BOS], target_vocab[EOS]
        found = translate(translator, source, lengths, begin=begin, end=end, num_steps=width, beam=beam)
        written += [" ".join(target_vocab.to_tokens(list(each.tokens))) for each in found]
    return written
