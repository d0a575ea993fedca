"""From a request to train to a run that has not begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.memory import check_memory
from d2lrnn.cli.train_options import option_of, owners
from d2lrnn.contract.optimizers import OPTIMIZERS, SGD, Optimizer, find_optimizer
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.batches import DataModule, shares_of_whole_text
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.encoded import read_header
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import BUILT_IN, STANDARD_INPUT, Source, is_encoded, source_of
from d2lrnn.errors import SpecError
from d2lrnn.generation.prompts import prompt_of
from d2lrnn.saving.run import Run, text_digest
from d2lrnn.saving.run_text import text_size
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.patience import Patience
from d2lrnn.training.schedules import SCHEDULES, Constant, Cosine, find_schedule

#: Where the number of epochs is not given.
NUM_EPOCHS = 100

#: Batch size and steps of the first edition's iterators, where they are not given.
FIRST_EDITION = {"batch_size": 32, "num_steps": 35}

_Value = TypeVar("_Value")


def new_run(request: TrainRequest, chosen: Backend) -> tuple[Run, Corpus, DataModule]:
    """The run, and the text that it is trained on.

    Raises:
        SpecError: values that are out of their range, contradict each other, or are not for this backend.
        TextError: the text cannot be read or is too short.
    """
    assert not isinstance(request.seed, tuple)
    seed = {} if request.seed is None else {"seed": request.seed}
    # All that can be wrong is found before a long text is read; two numbers are known after it.
    model = ModelSpec(**{"vocab_size": 1, **request.model})
    check_cell(model, chosen)
    optimizer = optimizer_of(request.optimizer)
    training = TrainingSpec(
        **{"learning_rate": optimizer.default_rate, **request.training, **seed}, optimizer=optimizer
    )
    schedule_of(request.schedule, num_steps=_UNKNOWN_STEPS)
    data_spec = _data_of(request, training.accumulate, seed)
    check_memory(model, training, data_spec.batch_size, data_spec.num_steps)
    corpus, data = data_spec.load()
    whole = _of_whole_text(data_spec, len(corpus))
    if whole != data_spec:
        data_spec, data = whole, whole.batches(corpus)
    model = replace(model, vocab_size=len(corpus.vocab))
    check_memory(model, training, data_spec.batch_size, data_spec.num_steps)
    num_epochs = request.epochs or NUM_EPOCHS
    schedule = schedule_of(request.schedule, num_steps=num_epochs * data.num_train_batches)
    run = Run(
        model,
        initial_parameters(model, training.seed),
        corpus.vocab,
        data_spec,
        replace(training, schedule=schedule),
        num_epochs=num_epochs,
        text_digest=text_digest(corpus),
        text_size=text_size(data_spec.source),
        prompt=prompt_of(corpus),
        early_stopping=None if request.patience is None else Patience(request.patience),
    )
    return run, corpus, data


#: More steps than a run has, and so than a warm-up may have.
_UNKNOWN_STEPS = 1 << 62


def check_cell(model: ModelSpec, chosen: Backend) -> None:
    """Checks that a backend can build a model, as far as its cell decides that.

    Raises:
        SpecError: it cannot.
    """
    cells = chosen.cells(model.implementation)
    if model.cell not in cells:
        raise SpecError(
            f"the backend {chosen.name} has no {model.implementation} model with the cell {model.cell}: "
            f"choose one of {', '.join(cells)}"
        )


def optimizer_of(given: Mapping[str, Any]) -> Optimizer:
    """The optimizer that was asked for.

    Raises:
        SpecError: its name is unknown, it has no such parameter, or a parameter is out of its range.
    """
    kind = find_optimizer(given.get("name", SGD.name))
    return _made(kind, given, "optimizer", OPTIMIZERS)


def schedule_of(given: Mapping[str, Any], *, num_steps: int) -> Constant | None:
    """The schedule that was asked for; None for a constant rate.

    Args:
        given: its ``name`` and parameters.
        num_steps: the training steps of the run, which a cosine without a length takes.

    Raises:
        SpecError: its name is unknown, it has no such parameter, or a parameter is out of its range.
    """
    kind = find_schedule(given.get("name", Constant.name))
    if kind is Cosine:
        given = {"steps": num_steps, **given}
    schedule = _made(kind, given, "schedule", SCHEDULES)
    return None if schedule == Constant() else schedule


def absolute_source(names: Sequence[str]) -> Source:
    """The texts that were named; a file or a folder by its absolute path, from wherever it is read again.

    Raises:
        SpecError: a name is empty, or standard input is named twice.
    """
    source_of(names)  # before an empty name becomes the path of the working folder
    kept = (*BUILT_IN, STANDARD_INPUT)
    return source_of([name if name in kept else str(Path(name).absolute()) for name in names])


def check_parameters(
    kind: type[Any], given: Mapping[str, Any], group: str, table: Mapping[str, type[Any]]
) -> None:
    """Checks that an optimizer or a schedule has the parameters that were given.

    Args:
        kind: its class.
        given: the parameters, and perhaps its name.
        group: ``"optimizer"`` or ``"schedule"``.
        table: all classes of the group, by name.

    Raises:
        SpecError: it has not; the message says which have.
    """
    for name in given.keys() - {"name"} - {field.name for field in fields(kind)}:
        raise SpecError(
            f"{option_of(group, name).flag} does not apply to the {group} {kind.name}: leave it out, or give "
            f"--{group} and one of {', '.join(owners(table, name))}"
        )


def _made(kind: type[_Value], given: Mapping[str, Any], group: str, table: Mapping[str, type[Any]]) -> _Value:
    check_parameters(kind, given, group, table)
    return kind(**{name: value for name, value in given.items() if name != "name"})


def _of_whole_text(spec: DataSpec, num_tokens: int) -> DataSpec:
    """All of a text of one's own; of the built-in ones as much as the book uses."""
    if spec.source in BUILT_IN or spec.iterator != DataSpec.iterator or spec.num_train is not None:
        return spec
    num_train, num_val = shares_of_whole_text(num_tokens, spec.num_steps, spec.num_val)
    return replace(spec, num_train=num_train, num_val=num_val)


def encoded_values(source: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `DataSpec` that an encoded text decides; none of any other text.

    Raises:
        TextError: the file is damaged.
        SpecError: something else was given.
    """
    if not is_encoded(source):
        return {}
    own = asdict(read_header(str(source)).origin)
    for name, value in own.items():
        if given.get(name, value) != value:
            option = option_of("data", name)
            raise SpecError(
                f"{option.flag} does not fit: {source} was encoded with {name.replace('_', ' ')} {value}. "
                "Leave it out, or encode the text anew"
            )
    return own


def _data_of(request: TrainRequest, accumulate: int, seed: Mapping[str, int]) -> DataSpec:
    source = absolute_source(request.text) if request.text else DataSpec.source
    values = {"source": source, **encoded_values(source, request.data), **request.data, **seed}
    if values.get("iterator", DataSpec.iterator) != DataSpec.iterator:
        values = FIRST_EDITION | values
    size = values.get("batch_size", DataSpec.batch_size)
    if size < 1:
        raise SpecError(f"{option_of('data', 'batch_size').flag} is {size}: it must be at least 1")
    return DataSpec(**{**values, "batch_size": accumulate * size})
