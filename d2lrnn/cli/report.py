"""``d2lrnn report``: a saved run as a page to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d2lrnn.cli.commands.generate import TEMPERATURE
from d2lrnn.cli.commands.report import ReportRequest
from d2lrnn.cli.comparison import specification
from d2lrnn.cli.opened_model import forbidden
from d2lrnn.cli.output import (
    describe_backend,
    describe_best,
    describe_model,
    describe_training,
    describe_versions,
)
from d2lrnn.cli.output_files import check_writable, write_output
from d2lrnn.cli.repeated import commands_of
from d2lrnn.cli.resumed_run import with_text
from d2lrnn.cli.streams import in_one_line
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.protocols import Learner
from d2lrnn.data.byte_level import BYTE_UNITS, bytes_of
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import describe_source
from d2lrnn.data.vocabulary import TokenArray, Unit, Vocab, unit_of
from d2lrnn.errors import RunError, TextError
from d2lrnn.generation import generate
from d2lrnn.generation.prefixes import beginnings_of, indices_of
from d2lrnn.generation.prompts import prompt_from
from d2lrnn.registry import backend
from d2lrnn.report.html import Report, Sample, name_of, page
from d2lrnn.report.reading import read, rows_to_read
from d2lrnn.report.units import telling_units
from d2lrnn.saving.run import Run, text_digest
from d2lrnn.saving.run_folder import kept_checkpoints, load_description, load_run
from d2lrnn.saving.run_text import check_text_may_be_read, check_tokens
from d2lrnn.training.history import best_epoch

#: How many characters a sample adds, and has that stands for a text that is gone.
_SAMPLE, _SUBSTITUTE = 200, 1800
#: The rows that are read side by side, and the characters of each.
_ROWS, _STEPS = 8, 900
#: Words are so many times as long as characters: there are fewer of them of everything.
_SHORTER = 5
#: Of more checkpoints than this some are left out.
_CHECKPOINTS = 8
_TEMPERATURES = (0.0, 0.5, 0.8, 1.0, 1.3)


class _Whole(NamedTuple):
    """A run of ``d2lrnn train``, with what a model alone lacks."""

    run: Run
    data: DataSpec
    vocab: Vocab
    unit: Unit
    prompt: str


@dataclass(frozen=True)
class _Passage:
    """What the model reads, and where it is from, in sentences."""

    tokens: TokenArray
    told: str
    is_own_text: bool


def report(request: ReportRequest) -> int:
    """Writes the page; returns the exit code.

    Raises:
        RunError: there is no run of ``d2lrnn train``, it is unreadable, or the page cannot be written.
        TextError: the text that was named cannot be read.
    """
    check_writable("--html", request.html)
    whole = _load(request.run)
    run, vocab, unit = whole.run, whole.vocab, whole.unit
    chosen = backend(request.backend)
    device = choose_device(request.device, chosen.devices())
    assert run.training is not None
    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    print(describe_backend(chosen, device, asked=request.backend))
    print(f"model    {describe_model(run.model)}, {run.step:,} steps, trained with {run.backend}")
    if which := describe_best(run, request.run):
        print(f"from     {which}")
    passage = _passage(request, whole, learner)
    print(f"read     {passage.told}")
    num_units = run.model.num_layers * run.model.num_hiddens
    reading = read(learner, rows_to_read(passage.tokens, _ROWS, _of_unit(_STEPS, unit), num_units))
    symbols = [_symbol(token, unit) for token in vocab.idx_to_token]
    texts = [[symbols[token] for token in row] for row in reading.tokens.tolist()]

    def sample(temperature: float) -> str:
        number = _of_unit(_SAMPLE, unit)
        return generate(learner, vocab, whole.prompt, number, temperature=temperature, lower=False)

    by_temperature = [Sample(_temperature(each), whole.prompt, sample(each)) for each in _TEMPERATURES]
    newest = load_description(request.run)
    kept, by_epoch = _by_epoch(request.run, whole, learner, lambda: sample(TEMPERATURE))
    commands, exceptions = commands_of(newest)
    shown = Report(
        name=in_one_line(request.run),
        summary=[
            *_summary(newest, unit),
            f"This page shows the model after {_after(run)}, on {chosen.name} ({describe_versions(chosen)}).",
        ],
        unit=unit,
        epochs=newest.position.epochs,
        kept=kept,
        by_epoch=by_epoch,
        by_temperature=by_temperature,
        passage=passage.told,
        is_own_text=passage.is_own_text,
        symbols=symbols,
        texts=texts,
        reading=reading,
        units=telling_units(reading, texts, unit),
        specification=specification(newest),
        commands=commands,
        exceptions=exceptions,
    )
    write_output("--html", request.html, page(shown).encode("utf-8", "backslashreplace"))
    print(f"saved    {request.html}")
    return 0


def _load(folder: str) -> _Whole:
    run = load_run(folder, best=True)
    if run.data is None or run.training is None or run.vocab is None:
        raise RunError(
            f"{folder} holds a model alone, without the training that made it: only a run of d2lrnn train "
            "can be reported on"
        )
    prompt = run.prompt or prompt_from(run.vocab)
    return _Whole(run, run.data, run.vocab, unit_of(run.vocab), prompt)


def _passage(request: ReportRequest, whole: _Whole, learner: Learner) -> _Passage:
    """The validation text, or the text that was named, or where both are missing one by the model itself."""
    run, data, vocab = whole.run, whole.data, whole.vocab
    if request.text:
        other = with_text(data, request.text)
        corpus, _ = other.load_to_evaluate(vocab)
        if text_digest(corpus) == run.text_digest:
            tokens = other.batches(corpus).val_tokens
            return _Passage(tokens, f"From {_source(other)}: the beginning of the validation part.", True)
        told = f"From {_source(other)}, another text than that of the run: its beginning."
        return _Passage(corpus.tokens, told, False)
    try:
        again = f"d2lrnn report {request.run} TEXT --html {request.html}"
        check_text_may_be_read(run, data.source, again)
        corpus, batches = data.load(vocab)
        check_tokens(run, corpus)
    except (TextError, RunError) as error:
        text = generate(
            learner, vocab, whole.prompt, _of_unit(_SUBSTITUTE, whole.unit),
            temperature=1.0, lower=False, forbid=forbidden(no_unknown=True),
        )  # fmt: skip
        (indices,) = indices_of(vocab, beginnings_of(vocab, text, whole.unit, False).tokens)
        tokens = np.array(indices, np.int32)
        told = in_one_line(str(error)).rstrip(".")
        return _Passage(tokens, f"{told}. In its place stands a text that the model wrote itself.", False)
    return _Passage(batches.val_tokens, f"From {_source(data)}: the beginning of the validation part.", True)


def _symbol(token: str, unit: Unit) -> str:
    """A token as it is shown: of bytes, those that are no whole character by their numbers."""
    return bytes_of([token]).decode("utf-8", "backslashreplace") if unit in BYTE_UNITS else token


def _of_unit(number: int, unit: Unit) -> int:
    return number // _SHORTER if unit == "word" else number


def _source(data: DataSpec) -> str:
    return in_one_line(describe_source(data.source))


def _by_epoch(
    folder: str, whole: _Whole, learner: Learner, sample: Callable[[], str]
) -> tuple[str, list[Sample]]:
    """What is kept, as a sentence, and a sample of each; the learner has its parameters again in the end."""
    kept = list(_kept(folder, whole.run.identity))
    names = [_after(run) for _, run in kept]
    places = sorted({round(n) for n in np.linspace(0, len(kept) - 1, min(len(kept), _CHECKPOINTS))})
    samples, unreadable = [], []
    for place in places:
        try:
            parameters = load_run(kept[place][0]).parameters
        except RunError:
            unreadable.append(names[place])
            continue
        learner.import_parameters(parameters)
        samples.append(Sample(f"After {names[place]}", whole.prompt, sample()))
    learner.import_parameters(whole.run.parameters)
    if len(kept) == 1:
        told = f"One checkpoint is kept, that after {names[0]}."
    elif len(places) == len(kept):
        told = f"{len(kept)} checkpoints are kept, those after {'; '.join(names)}."
    else:
        told = f"{len(kept)} checkpoints are kept, from {names[0]} to {names[-1]}: {len(places)} are shown."
    if unreadable:
        told += f" Not readable, and so not shown: {'; '.join(unreadable)}."
    told += (
        " With --keep N, d2lrnn train keeps the N newest, beside the best. All samples are at temperature "
        f"{TEMPERATURE}, from the same beginning, with the same seed."
    )
    return told, samples


def _kept(folder: str, identity: str) -> Iterator[tuple[Path, Run]]:
    """The checkpoints of a run, the oldest first, without their arrays."""
    for path in kept_checkpoints(Path(folder)):
        with suppress(RunError):
            run = load_description(path)
            if run.identity == identity:
                yield path, run


def _after(run: Run) -> str:
    """Where a checkpoint stands: ``epoch 3 (300 steps)``."""
    whole = len(run.position.epochs)
    steps = f"{run.step:,} step{'s' if run.step != 1 else ''}"
    if run.position.part is not None:
        return f"{steps}, inside epoch {whole + 1}"
    return f"epoch {whole} ({steps})" if whole else steps


def _temperature(value: float) -> str:
    return "Temperature 0: the likeliest token each time" if value == 0 else f"Temperature {value:g}"


def _summary(run: Run, unit: Unit) -> list[str]:
    """What was trained, and what it came to."""
    assert run.data is not None
    assert run.training is not None
    epochs = run.position.epochs
    trained = f"{in_one_line(run.backend)}: {describe_training(run.training)}"
    lines = [
        f"Model: {describe_model(run.model)}.",
        f"Trained on {_source(run.data)} with {trained}.",
        f"{len(epochs)} of {run.num_epochs} epochs{_so_far(run)}.",
    ]
    best = best_epoch(epochs)
    if best is not None:
        lines.append(
            f"Best on the validation text: perplexity {best.val_perplexity:.2f}, "
            f"{best.val_bits_per_token:.2f} bits per {name_of(unit)}, after epoch {best.epoch}."
        )
    return lines


def _so_far(run: Run) -> str:
    if run.position.part is not None:
        return f", and {run.position.part.num_batches:,} batches of the next one, so far"
    return "" if len(run.position.epochs) >= run.num_epochs else " so far"
