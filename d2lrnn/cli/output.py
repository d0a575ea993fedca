"""The lines for a person that the commands print."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from d2lrnn.cli.streams import in_one_line
from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.optimizers import Optimizer
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, Schedule, TrainingSpec
from d2lrnn.contract.values import Device
from d2lrnn.data.corpus import Corpus, Unit
from d2lrnn.data.coverage import coverage_of
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import LeftoverWarning
from d2lrnn.generation import UnknownTokenWarning
from d2lrnn.registry import ENVIRONMENT_VARIABLE
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import LATEST, find_checkpoint
from d2lrnn.training.metrics import unigram_perplexity
from d2lrnn.training.model_size import bytes_of_training, num_parameters


def describe_backend(chosen: Backend, device: Device, *, asked: str | None = None) -> str:
    """The backend in one line: its name, versions, device, and how it was chosen."""
    asked = asked or os.environ.get(ENVIRONMENT_VARIABLE)
    how = "" if asked else f", the first installed ({ENVIRONMENT_VARIABLE} is not set)"
    return f"backend  {chosen.name} ({describe_versions(chosen)}) on {device.name}{how}"


def describe_versions(chosen: Backend) -> str:
    """What a backend computes with: ``numpy 2.1.0, …``."""
    return ", ".join(f"{package} {version}" for package, version in chosen.versions().items())


def specified(run: Run, chosen: Backend, device: Device) -> dict[str, Any]:
    """What a result in JSON says of a run that is trained: by what, where, and its specifications."""
    assert run.data is not None
    assert run.training is not None
    return {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "device": device.name,
        "model": run.model.to_json(),
        "training": run.training.to_json(),
        "data": run.data.to_json(),
    }


def describe_model(spec: ModelSpec) -> str:
    """A model in one line.

    Example:
        >>> describe_model(ModelSpec(vocab_size=28, num_layers=2, embedding_size=16, dropout=0.1))
        'scratch tanh RNN, embedding of 16, 2 layers of 32 hidden units, dropout 0.1, 28 symbols'
    """
    reset = "" if spec.reset_after is None else f" (reset {'after' if spec.reset_after else 'before'})"
    parts = [f"{spec.implementation} {find_cell(spec.cell).title}{reset}"]
    if spec.embedding_size is not None:
        tied = " tied with the output layer" if spec.tied else ""
        parts.append(f"embedding of {spec.embedding_size:,}{tied}")
    parts.append(f"{spec.num_layers} layer{'s' if spec.num_layers > 1 else ''} of {spec.num_hiddens:,} "
                 "hidden units")  # fmt: skip
    for name in ("input_dropout", "dropout", "output_dropout"):
        if rate := getattr(spec, name):
            parts.append(f"{name.replace('_', ' ')} {rate}")
    return ", ".join([*parts, f"{spec.vocab_size:,} symbols"])


def describe_size(model: ModelSpec, training: TrainingSpec, data: DataSpec, num_workers: int = 1) -> str:
    """How large a model is, and what memory its training needs, in one line.

    Example:
        >>> describe_size(ModelSpec(28), TrainingSpec(), DataSpec())
        '2,876 parameters; with their gradients, the optimizer and a step at least 15.8 MB'
    """
    needed = bytes_of_training(model, training, -(-data.batch_size // num_workers), data.num_steps)
    each = " in each worker" if num_workers > 1 else ""
    return (
        f"{num_parameters(model):,} parameters; with their gradients, the optimizer and a step at least "
        f"{describe_bytes(needed.total)}{each}"
    )


def describe_bytes(size: float) -> str:
    """A number of bytes for people.

    Example:
        >>> describe_bytes(25_000_000_000), describe_bytes(600)
        ('25.0 GB', '0.6 kB')
    """
    units = ["kB", "MB", "GB", "TB"]
    size /= 1000
    while size >= 999.95 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.1f} {units[0]}"


def describe_training(spec: TrainingSpec) -> str:
    """How a model is trained, in one line.

    Example:
        >>> describe_training(TrainingSpec(learning_rate=0.5, accumulate=4))
        'sgd, learning rate 0.5, clipping norm 1.0, each batch in 4 accumulated parts'
    """
    parts = [describe_value(spec.optimizer), f"learning rate {spec.learning_rate}"]
    if spec.schedule is not None:
        parts.append(f"schedule {describe_value(spec.schedule)}")
    parts.append(f"clipping norm {spec.clip}" if spec.clip is not None else "no clipping")
    if spec.accumulate > 1:
        parts.append(f"each batch in {spec.accumulate} accumulated parts")
    return ", ".join(parts)


def describe_value(value: Optimizer | Schedule) -> str:
    """An optimizer or a schedule with the parameters that are not zero.

    Example:
        >>> from d2lrnn.contract.optimizers import SGD
        >>> describe_value(SGD(momentum=0.9))
        'sgd (momentum 0.9)'
    """
    set_ = {each.name: getattr(value, each.name) for each in fields(value)}  # type: ignore[arg-type]
    listed = [
        name if number is True else f"{name.replace('_', ' ')} {number}"
        for name, number in set_.items()
        if number
    ]
    return value.name + (f" ({', '.join(listed)})" if listed else "")


def describe_best(run: Run, folder: str) -> str | None:
    """Which epoch the best checkpoint of a run is of; None where it is the newest, too, or not asked for."""
    best, newest = (find_checkpoint(Path(folder), best=best) for best in (True, False))
    if best == newest:
        return None
    return f"epoch {len(run.position.epochs)}, the best by validation ({Path(folder) / LATEST} is the newest)"


#: What people call a token.
TOKENS: dict[Unit, str] = {"char": "character", "word": "word", "byte": "byte", "bpe": "token"}


def describe_score(
    what: str,
    unit: Unit,
    perplexity: float,
    bits: float,
    *,
    per_char: float | None = None,
    per_byte: float | None = None,
) -> str:
    """Perplexity and bits per token of one part of the text, in one line, and per character and byte of it.

    Example:
        >>> describe_score("validation", "word", 64.0, 6.0, per_char=1.2, per_byte=1.0)
        'validation  perplexity 64.000, 6.000 bits per word, 1.200 per character, 1.000 per byte'
    """
    others = [(per, number) for per, number in (("character", per_char), ("byte", per_byte))
              if number is not None and per != TOKENS[unit]]  # fmt: skip
    listed = "".join(f", {number:.3f} per {per}" for per, number in others)
    return f"{what:<11} perplexity {perplexity:.3f}, {bits:.3f} bits per {TOKENS[unit]}{listed}"


def describe_measure(corpus: Corpus) -> str:
    """What perplexity and bits are, the perplexity for who has learned nothing, and how long a token is.

    Example:
        >>> from d2lrnn.data.corpus import load_corpus
        >>> describe_measure(load_corpus("sample")).partition(" (")[2]
        'guess 28, by frequency 15.9)'
        >>> describe_measure(load_corpus("sample", unit="word")).partition("); ")[2]
        'a word is 4.79 characters of the text, 4.79 bytes'
    """
    unit, frequencies = TOKENS[corpus.unit], corpus.frequencies()
    described = (
        f"perplexity p: as unsure as among p equally likely {unit}s, log2 p bits (guess "
        f"{len(corpus.vocab):,}, by frequency {unigram_perplexity(frequencies):,.1f})"
    )
    if corpus.unit in ("char", "byte"):
        return described
    covered = coverage_of(corpus.vocab, frequencies)
    per_token = (f"{number / covered.tokens:.2f}" for number in (covered.characters, covered.bytes))
    return f"{described}; a {unit} is {' characters of the text, '.join(per_token)} bytes"


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Shows the library's own warnings as one line each, and hides those of the frameworks."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"d2lrnn: warning: {in_one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UnknownTokenWarning)
        # Once, not at every save.
        warnings.simplefilter("default", LeftoverWarning)
        warnings.showwarning = show
        yield
