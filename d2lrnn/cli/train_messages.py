"""What ``d2lrnn train`` says of a run: at its beginning, where it goes on, and at its end."""

from __future__ import annotations

from d2lrnn.cli.output import (
    describe_measure,
    describe_model,
    describe_score,
    describe_size,
    describe_training,
)
from d2lrnn.cli.progress import thousands
from d2lrnn.cli.resumed_run import describe_change
from d2lrnn.data.batches import DataModule
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.texts import describe_source
from d2lrnn.saving.run import Run
from d2lrnn.training.callbacks import describe_norms
from d2lrnn.training.history import History, best_epoch
from d2lrnn.training.schedules import Cosine


def print_beginning(run: Run, corpus: Corpus, data: DataModule, *, num_workers: int | None) -> None:
    """What is trained, and on what; `num_workers` is None where there is this process alone."""
    assert run.data is not None
    assert run.training is not None
    if num_workers is not None:
        print(f"workers  {num_workers}")
    print(f"text     {describe_source(run.data.source)}: {data.describe()}")
    print(f"model    {describe_model(run.model)}")
    print(f"size     {describe_size(run.model, run.training, run.data, num_workers or 1)}")
    print(f"training {describe_training(run.training)}")
    print(f"measure  {describe_measure(corpus)}")


def print_resumed(resumed: str, run: Run, data: DataModule) -> None:
    """Where a resumed run stands, and what is otherwise from here on.

    Args:
        resumed: what ``--resume`` names.
        run: what it holds, with what was given anew.
        data: what it is trained on.
    """
    assert run.training is not None
    print(f"resumed  {resumed}: {_where(run)}, trained with {run.backend}")
    if run.is_stopped:
        print("stopped  early: to train further, raise --patience, or give --epochs and more than "
              f"{run.num_epochs}")  # fmt: skip
        return
    if len(run.position.epochs) >= run.num_epochs:
        print(f"finished: to train further, give --epochs and more than {len(run.position.epochs)}")
        return
    if run.changes and run.changes[-1].step == run.step:
        described = describe_change(run.changes[-1].before, run.training)
        print(f"changed  {described} from step {run.step:,}")
    schedule, num_steps = run.training.schedule, run.num_epochs * data.num_train_batches
    if isinstance(schedule, Cosine) and schedule.final == 0 and schedule.steps < num_steps:
        print(
            f"note     the cosine schedule ends at step {schedule.steps:,} of {num_steps:,}; from there on "
            f"the rate is 0: --schedule-steps {num_steps} lengthens it"
        )


def print_result(folder: str | None, run: Run, corpus: Corpus, history: History, samples: list[str]) -> None:
    """What came of the training, and where it is saved."""
    last = history.records[-1]
    if history.ended == "interrupted":
        print(f"interrupted in epoch {last.epoch} of {run.num_epochs}; the results up to there:")
    if history.ended == "stopped" and run.early_stopping:
        waited = run.early_stopping.waited(history.epochs)
        print(f"stopped early after epoch {last.epoch} of {run.num_epochs}: no better validation perplexity "
              f"for {waited} epoch{'' if waited == 1 else 's'}")  # fmt: skip
    print(describe_score("train", corpus.unit, last.train_perplexity, last.train_bits_per_token))
    print(describe_score(
        "validation", corpus.unit, last.val_perplexity, last.val_bits_per_token,
        per_char=last.val_bits_per_char, per_byte=last.val_bits_per_byte,
    ))  # fmt: skip
    if best := best_epoch(history.epochs):
        print(f"best        epoch {best.epoch} of {len(history.epochs)}, validation perplexity "
              f"{best.val_perplexity:.3f}")  # fmt: skip
    if last.grad_norm is not None:
        print(f"gradient    {describe_norms(last)}")
    print(f"speed       {thousands(last.tokens_per_second)} tokens/s")
    for sample in samples:
        print(f"sample      {sample}")
    if folder:
        print(f"saved       {folder}{_how_to_go_on(folder, run, history)}")


def _how_to_go_on(folder: str, run: Run, history: History) -> str:
    if history.ended == "finished":
        return ""
    patience = run.early_stopping if history.ended == "stopped" else None
    longer = f" --patience {patience.waited(history.epochs) + patience.patience}" if patience else ""
    return f"; to go on: d2lrnn train --resume {folder}{longer}"


def _where(run: Run) -> str:
    """Where a run stands: ``3 of 10 epochs and 4 batches of the next, step 34``."""
    part = run.position.part
    inside = f" and {part.num_batches:,} batches of the next" if part else ""
    return f"{len(run.position.epochs)} of {run.num_epochs} epochs{inside}, step {run.step:,}"
