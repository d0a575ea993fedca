"""What the commands do. Each takes the parsed words and returns an exit code; errors are `D2LError`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2lrnn.adapter import Backend, Device, Learner, ModelSpec, TrainingSpec
from d2lrnn.atomic import write_atomically
from d2lrnn.chapter_report import ChapterReport
from d2lrnn.chapter_runner import load_tab, run_chapter
from d2lrnn.chapters import TAB_NAMES, Chapter
from d2lrnn.checkpoint import Run, load_run, prepare_folder, save_run
from d2lrnn.data_spec import DataSpec
from d2lrnn.devices import choose_device
from d2lrnn.errors import INTERRUPTED, WRONG_INPUT, DivergedError, RunError, SpecError, reason_of
from d2lrnn.generation import UnknownTokenWarning
from d2lrnn.generation import generate as continue_text
from d2lrnn.losses import bits_per_token, perplexity
from d2lrnn.notebook import check_notebooks_can_be_made, notebook_of
from d2lrnn.parameters import initial_parameters
from d2lrnn.progress import ProgressDisplay, thousands
from d2lrnn.registry import BACKENDS, ENVIRONMENT_VARIABLE, backend, find_backend, third_party_backends
from d2lrnn.text import BUILT_IN, Corpus
from d2lrnn.trainer import EpochRecord, Trainer

_SAMPLE_PREFIX = "it has"
_SAMPLE_LENGTH = 80


def train(arguments: argparse.Namespace) -> int:
    """``d2lrnn train``."""
    # Everything that can be wrong is found before the first step, not after the last.
    data_spec = _data_spec(arguments)
    spec = ModelSpec(
        vocab_size=1,  # until the text is read
        cell=arguments.cell,
        implementation=arguments.impl,
        num_hiddens=arguments.hidden,
        num_layers=arguments.layers,
        dropout=arguments.dropout,
    )
    training = TrainingSpec(learning_rate=arguments.lr, clip=arguments.clip, seed=arguments.seed)
    if arguments.epochs < 1:
        raise SpecError(f"the number of epochs is {arguments.epochs}: it must be at least 1")
    _check_writable("--json", arguments.json)
    chosen = backend()
    device = choose_device(arguments.device, chosen.devices())
    corpus, data = data_spec.load()
    if arguments.out:
        prepare_folder(arguments.out)
    spec = replace(spec, vocab_size=len(corpus.vocab))
    print(_which_backend(chosen, device))
    print(f"text     {data_spec.source}: {data.describe()}")
    print(f"model    {describe_model(spec)}")

    model = chosen.build(spec, initial_parameters(spec, arguments.seed))
    learner = chosen.learner(model, training, device=device.name)
    display = ProgressDisplay(arguments.epochs)

    def epoch_ended(record: EpochRecord) -> None:
        display.epoch(record)
        if arguments.out:
            history = [*trainer.history.to_json()]
            save_run(
                Run(spec, learner.export_parameters(), corpus.vocab, data_spec, training,
                    learner.step, history, chosen.name, chosen.versions()),
                arguments.out,
            )  # fmt: skip

    trainer = Trainer(learner, data, on_step=display.step, on_epoch=epoch_ended)
    try:
        history = trainer.fit(arguments.epochs)
    except DivergedError as error:
        if arguments.out and trainer.history.epochs:
            raise DivergedError(f"{error}. {arguments.out} holds them", error.step) from None
        raise
    finally:
        display.close()
    if not history.epochs:
        print("interrupted before the first step: nothing was learned")
        return INTERRUPTED
    last = history.epochs[-1]
    if history.ended == "interrupted":
        print(f"interrupted in epoch {last.epoch} of {arguments.epochs}; what was learned up to there:")
    print(_scored("train", corpus, last.train_perplexity, last.train_bits_per_token))
    print(_scored("validation", corpus, last.val_perplexity, last.val_bits_per_token))
    print(f"speed       {thousands(last.tokens_per_second)} tokens/s")
    sample = _sample(learner, corpus)
    print(f"sample      {sample}")
    if arguments.out:
        print(f"saved       {arguments.out}")
    _write_json(arguments.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "device": device.name,
        "model": spec.to_json(),
        "training": training.to_json(),
        "data": data_spec.to_json(),
        "ended": history.ended,
        "epochs": history.to_json(),
        "sample": sample,
    })  # fmt: skip
    return INTERRUPTED if history.ended == "interrupted" else 0


def generate(arguments: argparse.Namespace) -> int:
    """``d2lrnn generate``."""
    _check_writable("--json", arguments.json)
    run = load_run(arguments.run)
    chosen = backend()
    learner = chosen.learner(run.build(chosen), run.training, device=arguments.device)
    text = continue_text(
        learner,
        run.vocab,
        arguments.prefix,
        arguments.num,
        unit=run.data.unit,
        lower=_is_normalized(run.data),
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    print(text)
    _write_json(arguments.json, {
        "text": text,
        "prefix": arguments.prefix,
        "backend": chosen.name,
        "versions": chosen.versions(),
    })  # fmt: skip
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """``d2lrnn evaluate``."""
    _check_writable("--json", arguments.json)
    run = load_run(arguments.run)
    chosen = backend()
    device = choose_device(arguments.device, chosen.devices())
    corpus, data = run.data.load(run.vocab)
    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    nats, tokens = Trainer(learner, data).validate()
    print(_which_backend(chosen, device))
    print(f"text     {run.data.source}: {data.describe()}")
    print(f"model    {describe_model(run.model)}, {run.step:,} steps, trained with {run.backend}")
    scored = _scored("validation", corpus, perplexity(nats, tokens), bits_per_token(nats, tokens))
    print(f"{scored}, {tokens:,} tokens")
    _write_json(arguments.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "model": run.model.to_json(),
        "val_perplexity": perplexity(nats, tokens),
        "val_bits_per_token": bits_per_token(nats, tokens),
        "val_tokens": tokens,
    })  # fmt: skip
    return 0


def backends(arguments: argparse.Namespace) -> int:
    """``d2lrnn backends``."""
    for entry in BACKENDS:
        if not entry.installed:
            print(f"{entry.name:<11} not installed: {entry.install}")
            continue
        _print_backend(entry.name)
    for point in third_party_backends():
        _print_backend(point.name)
    return 0


def chapter(arguments: argparse.Namespace) -> int:
    """``d2lrnn chapter``."""
    tab = _tab(arguments.tab)
    source = Chapter(arguments.file)
    num_cells = len(source.cells(tab))
    _check_writable("--json", arguments.json)
    _check_writable("--save-notebook", arguments.save_notebook)
    if arguments.save_notebook:
        check_notebooks_can_be_made()
    library, restored = load_tab(tab)
    print(f"chapter  {source.path}, tab {tab}")
    chosen = backend(tab)
    print(f"backend  {chosen.name} ({_versions(chosen)})")
    report = ChapterReport(num_cells)
    run = run_chapter(source, tab, library, restored=restored, epochs=arguments.epochs, watcher=report)
    seconds = sum(result.seconds for result in run.results)
    num_ok = len(run.results) - len(run.failed)
    print(f"\n{num_ok} of {num_cells} cells ran, in {seconds:.1f} s")
    _write_json(arguments.json, [result.to_json() for result in run.results])
    if arguments.save_notebook:
        _write("--save-notebook", arguments.save_notebook, notebook_of(run))
        print(f"saved    {arguments.save_notebook}")
    if run.interrupted:
        print(f"d2lrnn: interrupted in cell {len(run.results)}", file=sys.stderr)
        return INTERRUPTED
    for result in run.failed:
        print(f"d2lrnn: {result.error}", file=sys.stderr)
    return WRONG_INPUT if run.failed else 0


def describe_model(spec: ModelSpec) -> str:
    """A model in one line: ``scratch RNN, 1 layer of 32 hidden units, 28 symbols``."""
    layers = f"{spec.num_layers} layer{'s' if spec.num_layers > 1 else ''} of {spec.num_hiddens} hidden units"
    reset = "" if spec.reset_after is None else f" (reset {'after' if spec.reset_after else 'before'})"
    dropout = f", dropout {spec.dropout}" if spec.dropout else ""
    return f"{spec.implementation} {spec.cell.upper()}{reset}, {layers}{dropout}, {spec.vocab_size:,} symbols"


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Shows our own warnings as one line each, and keeps the frameworks' to themselves."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"d2lrnn: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UnknownTokenWarning)
        warnings.showwarning = show
        yield


def _print_backend(name: str) -> None:
    # A broken installation is a line of the list, not the end of it: whatever its import raises.
    try:
        found = backend(name)
        versions = _versions(found)
        devices = ", ".join(f"{device.name} ({device.description})" for device in found.devices())
    except Exception as error:
        print(f"{name:<11} installed, but it cannot be used: {error}")
        return
    print(f"{name:<11} {versions}; devices: {devices}")


def _data_spec(arguments: argparse.Namespace) -> DataSpec:
    sliding = arguments.iterator == "sliding"
    source = arguments.text if arguments.text in BUILT_IN else str(Path(arguments.text).absolute())
    return DataSpec(
        source=source,
        unit=arguments.tokens,
        normalized=arguments.normalize,
        iterator=arguments.iterator,
        batch_size=_given(arguments.batch_size, 1024 if sliding else 32),
        num_steps=_given(arguments.steps, 32 if sliding else 35),
        num_train=arguments.num_train,
        num_val=arguments.num_val,
        seed=arguments.seed,
    )


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def _is_normalized(data: DataSpec) -> bool:
    return data.source in BUILT_IN if data.normalized is None else data.normalized


def _tab(name: str | None) -> str:
    """The book's name of the tab that was asked for, also by another name of its backend."""
    known = ", ".join(TAB_NAMES)
    name = name or os.environ.get(ENVIRONMENT_VARIABLE)
    if not name:
        raise SpecError(f"which tab of the chapter? Choose one with --tab: {known}")
    entry = find_backend(name)
    for tab in TAB_NAMES:
        if find_backend(tab) == entry:
            return tab
    raise SpecError(f"the book has no tab for the backend {entry.name}: choose one with --tab: {known}")


def _which_backend(chosen: Backend, device: Device) -> str:
    asked = os.environ.get(ENVIRONMENT_VARIABLE)
    how = "" if asked else f", the first installed ({ENVIRONMENT_VARIABLE} is not set)"
    return f"backend  {chosen.name} ({_versions(chosen)}) on {device.name}{how}"


def _versions(chosen: Backend) -> str:
    return ", ".join(f"{package} {version}" for package, version in chosen.versions().items())


def _scored(what: str, corpus: Corpus, perplexity: float, bits: float) -> str:
    per = "character" if corpus.unit == "char" else "word"
    return f"{what:<11} perplexity {perplexity:.3f}, {bits:.3f} bits per {per}"


def _sample(learner: Learner, corpus: Corpus) -> str:
    """What the model writes now, after the book's prefix or, where that is foreign to it, the text's own."""
    prefix = _SAMPLE_PREFIX
    if corpus.unit == "word" or any(character not in corpus.vocab for character in prefix):
        prefix = corpus.decode(corpus.tokens[: len(_SAMPLE_PREFIX)])
    return continue_text(learner, corpus.vocab, prefix, _SAMPLE_LENGTH, unit=corpus.unit, lower=False)


def _check_writable(option: str, path: str | None) -> None:
    if path is None:
        return
    parent = Path(path).absolute().parent
    if Path(path).is_dir():
        raise RunError(f"{option} {path} is a folder: give the name of a file")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(
            f"{option} {path} cannot be written: there is no folder {parent} that can be written to"
        )


def _write_json(path: str | None, result: dict[str, Any] | list[dict[str, Any]]) -> None:
    if path is not None:
        _write("--json", path, (json.dumps(result, indent=1) + "\n").encode())


def _write(option: str, path: str, content: bytes) -> None:
    try:
        write_atomically(Path(path).absolute(), content)
    except OSError as error:
        raise RunError(f"{option} {path} cannot be written: {reason_of(error)}") from error
