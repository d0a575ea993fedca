"""``d2lrnn train``: a new run, or one that goes on."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2lrnn.cli.output import (
    check_writable,
    describe_backend,
    describe_model,
    describe_score,
    write_json,
)
from d2lrnn.cli.progress import ProgressDisplay, thousands
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.parameters import initial_parameters
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.batches import DataModule
from d2lrnn.data.corpus import BUILT_IN, Corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import INTERRUPTED, DivergedError, RunError, SpecError
from d2lrnn.generation import generate
from d2lrnn.registry import backend
from d2lrnn.saving.checkpoint import load_run, prepare_folder, save_run
from d2lrnn.saving.run import Run, text_digest
from d2lrnn.training.trainer import EpochRecord, Progress, Trainer

_SAMPLE_PREFIX = "it has"
_SAMPLE_LENGTH = 80

#: What describes a run, and its value where nobody gave one. A run that is resumed has its own.
_DEFAULTS: dict[str, Any] = {
    "cell": "rnn",
    "impl": "scratch",
    "layers": 1,
    "hidden": 32,
    "dropout": 0.0,
    "tokens": "char",
    "normalize": None,
    "iterator": "sliding",
    "steps": None,
    "batch_size": None,
    "num_train": None,
    "num_val": None,
    "lr": 1.0,
    "clip": 1.0,
    "seed": 0,
}
_DEFAULT_EPOCHS = 100


def train(arguments: argparse.Namespace) -> int:
    """``d2lrnn train``; returns the exit code."""
    # Everything that can be wrong is found before the first step, not after the last.
    if arguments.epochs is not None and arguments.epochs < 1:
        raise SpecError(f"the number of epochs is {arguments.epochs}: it must be at least 1")
    if arguments.keep < 1:
        raise SpecError(f"the number of checkpoints to keep is {arguments.keep}: it must be at least 1")
    if arguments.save_every is not None and arguments.save_every < 1:
        raise SpecError(f"--save-every is {arguments.save_every} steps: it must be at least 1")
    check_writable("--json", arguments.json)
    out = arguments.out or arguments.resume
    if arguments.save_every and not out:
        raise SpecError("--save-every needs a folder to save to: give --out as well")
    run, corpus, data = _resumed(arguments) if arguments.resume else _new(arguments)
    chosen = backend()
    device = choose_device(arguments.device, chosen.devices())
    if out:
        prepare_folder(out)
    assert run.data is not None
    assert run.training is not None
    print(describe_backend(chosen, device))
    print(f"text     {run.data.source}: {data.describe()}")
    print(f"model    {describe_model(run.model)}")
    if arguments.resume:
        print(f"resumed  {arguments.resume}: {_where(run)}, trained with {run.backend}")

    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    display = ProgressDisplay(run.num_epochs)

    def save() -> None:
        if out:
            now = replace(run, parameters=learner.export_parameters(), position=trainer.position(),
                          backend=chosen.name, versions=chosen.versions())  # fmt: skip
            save_run(now, out, keep=arguments.keep)

    def step_ended(progress: Progress) -> None:
        display.step(progress)
        if arguments.save_every and learner.step % arguments.save_every == 0:
            save()

    def epoch_ended(record: EpochRecord) -> None:
        display.epoch(record)
        save()

    trainer = Trainer(learner, data, position=run.position, on_step=step_ended, on_epoch=epoch_ended)
    try:
        history = trainer.fit(run.num_epochs)
    except DivergedError as error:
        if out and trainer.history.epochs:
            raise DivergedError(f"{error}. {out} holds them", error.step) from None
        raise
    finally:
        display.close()
    if not history.records:
        print("interrupted before the first step: nothing was learned")
        return INTERRUPTED
    last = history.records[-1]
    if history.ended == "interrupted":
        print(f"interrupted in epoch {last.epoch} of {run.num_epochs}; what was learned up to there:")
    print(describe_score("train", corpus.unit, last.train_perplexity, last.train_bits_per_token))
    print(describe_score("validation", corpus.unit, last.val_perplexity, last.val_bits_per_token))
    print(f"speed       {thousands(last.tokens_per_second)} tokens/s")
    sample = _sample(learner, corpus)
    print(f"sample      {sample}")
    if out:
        more = "" if history.ended == "finished" else f"; to go on: d2lrnn train --resume {out}"
        print(f"saved       {out}{more}")
    write_json(arguments.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "device": device.name,
        "model": run.model.to_json(),
        "training": run.training.to_json(),
        "data": run.data.to_json(),
        "ended": history.ended,
        "epochs": history.to_json(),
        "sample": sample,
    })  # fmt: skip
    return INTERRUPTED if history.ended == "interrupted" else 0


def _new(arguments: argparse.Namespace) -> tuple[Run, Corpus, DataModule]:
    """A run that has not begun."""
    given = {name: getattr(arguments, name) for name in _DEFAULTS}
    asked = argparse.Namespace(**{n: _DEFAULTS[n] if value is None else value for n, value in given.items()})
    spec = ModelSpec(
        vocab_size=1,  # until the text is read
        cell=asked.cell,
        implementation=asked.impl,
        num_hiddens=asked.hidden,
        num_layers=asked.layers,
        dropout=asked.dropout,
    )
    training = TrainingSpec(learning_rate=asked.lr, clip=asked.clip, seed=asked.seed)
    sliding = asked.iterator == "sliding"
    data_spec = DataSpec(
        source=_source(arguments.text or "sample"),
        unit=asked.tokens,
        normalized=asked.normalize,
        iterator=asked.iterator,
        batch_size=(1024 if sliding else 32) if asked.batch_size is None else asked.batch_size,
        num_steps=(32 if sliding else 35) if asked.steps is None else asked.steps,
        num_train=asked.num_train,
        num_val=asked.num_val,
        seed=asked.seed,
    )
    backend()  # an unknown one is found before a long text is read
    corpus, data = data_spec.load()
    spec = replace(spec, vocab_size=len(corpus.vocab))
    run = Run(
        spec,
        initial_parameters(spec, asked.seed),
        corpus.vocab,
        data_spec,
        training,
        num_epochs=arguments.epochs or _DEFAULT_EPOCHS,
        text_digest=text_digest(corpus),
    )
    return run, corpus, data


def _resumed(arguments: argparse.Namespace) -> tuple[Run, Corpus, DataModule]:
    """A saved run, where it stands."""
    run = load_run(arguments.resume)
    if run.data is None or run.training is None or run.vocab is None:
        raise RunError(
            f"{arguments.resume} holds a model alone, without the text that it was trained on: it can be "
            "loaded, and not resumed"
        )
    _check_unchanged(arguments, run.model, run.data, run.training)
    data_spec = replace(run.data, source=_source(arguments.text)) if arguments.text else run.data
    corpus, data = data_spec.load(run.vocab)
    digest = text_digest(corpus)
    if run.text_digest not in (None, digest):
        raise RunError(
            f"{data_spec.source} is not the text that {arguments.resume} was trained on: its tokens have "
            "changed. Give the path of the text as it was"
        )
    num_epochs = arguments.epochs or max(run.num_epochs, 1)
    return replace(run, data=data_spec, num_epochs=num_epochs, text_digest=digest), corpus, data


def _check_unchanged(
    arguments: argparse.Namespace, model: ModelSpec, data: DataSpec, training: TrainingSpec
) -> None:
    own = {
        "cell": model.cell,
        "impl": model.implementation,
        "layers": model.num_layers,
        "hidden": model.num_hiddens,
        "dropout": model.dropout,
        "tokens": data.unit,
        "normalize": data.normalized,
        "iterator": data.iterator,
        "steps": data.num_steps,
        "batch_size": data.batch_size,
        "num_train": data.num_train,
        "num_val": data.num_val,
        "lr": training.learning_rate,
        "clip": training.clip,
        "seed": training.seed,
    }
    for name in _DEFAULTS:
        given = getattr(arguments, name)
        if given is not None and given != own[name]:
            raise SpecError(
                f"--{name.replace('_', '-')} {given} cannot be: {arguments.resume} was begun with "
                f"{own[name]}, and a run that is resumed goes on as it began"
            )


def _source(text: str) -> str:
    return text if text in BUILT_IN else str(Path(text).absolute())


def _where(run: Run) -> str:
    """Where a run stands: ``3 of 10 epochs and 4 batches of the next, step 34``."""
    part = run.position.part
    inside = f" and {part.num_batches:,} batches of the next" if part else ""
    return f"{len(run.position.epochs)} of {run.num_epochs} epochs{inside}, step {run.step:,}"


def _sample(learner: Learner, corpus: Corpus) -> str:
    """What the model writes now, after the book's prefix or, where that is foreign to it, the text's own."""
    prefix = _SAMPLE_PREFIX
    if corpus.unit == "word" or any(character not in corpus.vocab for character in prefix):
        prefix = corpus.decode(corpus.tokens[: len(_SAMPLE_PREFIX)])
    return generate(learner, corpus.vocab, prefix, _SAMPLE_LENGTH, unit=corpus.unit, lower=False)
