"""What the commands do. Each takes the parsed words and returns an exit code; errors are `D2LError`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from d2lrnn.cli.bench import bench as bench
from d2lrnn.cli.chapter import chapter as chapter
from d2lrnn.cli.output import (
    check_writable,
    describe_backend,
    describe_model,
    describe_score,
    describe_versions,
    write_json,
)
from d2lrnn.cli.train import train as train
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.data.corpus import BUILT_IN, Unit
from d2lrnn.data.vocabulary import UNKNOWN
from d2lrnn.errors import RunError
from d2lrnn.generation import UnknownTokenWarning
from d2lrnn.generation import generate as continue_text
from d2lrnn.registry import backend
from d2lrnn.registry import backends as all_backends
from d2lrnn.saving.checkpoint import load_run
from d2lrnn.saving.run import Run
from d2lrnn.training.metrics import bits_per_token, perplexity
from d2lrnn.training.trainer import Trainer


def generate(arguments: argparse.Namespace) -> int:
    """``d2lrnn generate``."""
    check_writable("--json", arguments.json)
    run = load_run(arguments.run)
    if run.vocab is None:
        raise RunError(f"{arguments.run} holds a model without a vocabulary: it cannot write")
    chosen = backend()
    learner = chosen.learner(run.build(chosen), run.training or TrainingSpec(), device=arguments.device)
    text = continue_text(
        learner,
        run.vocab,
        arguments.prefix,
        arguments.num,
        unit=_unit(run),
        lower=_is_normalized(run),
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    print(text)
    write_json(arguments.json, {
        "text": text,
        "prefix": arguments.prefix,
        "backend": chosen.name,
        "versions": chosen.versions(),
    })  # fmt: skip
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """``d2lrnn evaluate``."""
    check_writable("--json", arguments.json)
    run = load_run(arguments.run)
    if run.data is None or run.training is None:
        raise RunError(f"{arguments.run} holds a model alone, without the text that it was trained on")
    chosen = backend()
    device = choose_device(arguments.device, chosen.devices())
    corpus, data = run.data.load(run.vocab)
    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    nats, tokens = Trainer(learner, data).validate()
    print(describe_backend(chosen, device))
    print(f"text     {run.data.source}: {data.describe()}")
    print(f"model    {describe_model(run.model)}, {run.step:,} steps, trained with {run.backend}")
    scored = describe_score("validation", corpus.unit, perplexity(nats, tokens), bits_per_token(nats, tokens))
    print(f"{scored}, {tokens:,} tokens")
    write_json(arguments.json, {
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
    for entry in all_backends():
        if not entry.installed:
            print(f"{entry.name:<11} not installed: {entry.install}")
            continue
        _print_backend(entry.name)
    return 0


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
        versions = describe_versions(found)
        devices = ", ".join(f"{device.name} ({device.description})" for device in found.devices())
    except Exception as error:
        print(f"{name:<11} installed, but it cannot be used: {error}")
        return
    print(f"{name:<11} {versions}; devices: {devices}")


def _unit(run: Run) -> Unit:
    """What a token is; a model that was saved alone shows it by its vocabulary."""
    if run.data is not None:
        return run.data.unit
    assert run.vocab is not None
    return "char" if all(len(token) == 1 for token in run.vocab.idx_to_token if token != UNKNOWN) else "word"


def _is_normalized(run: Run) -> bool:
    if run.data is None:
        return False
    return run.data.source in BUILT_IN if run.data.normalized is None else run.data.normalized
