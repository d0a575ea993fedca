"""From a request to train to a saved run that is resumed: what may change, and what must stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.new_run import absolute_source, check_cell, check_parameters, schedule_of
from d2lrnn.cli.output import describe_value
from d2lrnn.cli.train_options import option_of
from d2lrnn.contract.optimizers import OPTIMIZERS, find_optimizer
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.data.batches import DataModule
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import RunError, SpecError
from d2lrnn.generation.prompts import prompt_of
from d2lrnn.saving.run import Change, Run, text_digest
from d2lrnn.saving.run_folder import load_run
from d2lrnn.saving.run_text import check_text_may_be_read, check_tokens, text_size
from d2lrnn.training.patience import Patience
from d2lrnn.training.schedules import SCHEDULES, Constant, find_schedule

#: What may be given anew: fields of `TrainingSpec`, beside the schedule.
_CHANGEABLE = {"learning_rate": "learning rate", "clip": "clipping norm"}


def resumed_run(request: TrainRequest, chosen: Backend) -> tuple[Run, Corpus, DataModule]:
    """The run that `request.resume` holds, with what was given anew, and the text that it is trained on.

    Another rate, schedule or clipping norm becomes the run's last `Change`.

    Raises:
        RunError: there is no run, it is damaged, or its text has changed.
        TextError: its text may not be read without being named.
        SpecError: an option was given that does not fit the run.
    """
    assert request.resume is not None
    run = load_run(request.resume)
    if run.data is None or run.training is None or run.vocab is None:
        raise RunError(
            f"{request.resume} holds a model alone, without the text that it was trained on: it can be "
            "loaded, and not resumed"
        )
    check_cell(run.model, chosen)
    _check_unchanged(request, run, run.data, run.training)
    data_spec = run.data
    if request.text:
        data_spec = with_text(run.data, request.text)
    else:
        check_text_may_be_read(run, run.data.source, f"d2lrnn train TEXT --resume {request.resume}")
    corpus, data = data_spec.load(run.vocab)
    check_tokens(run, corpus)
    num_epochs = request.epochs or max(run.num_epochs, 1)
    training = _changed(request, run.training, num_epochs * data.num_train_batches)
    changes = run.changes if training == run.training else (*run.changes, Change(run.step, run.training))
    run = replace(
        run,
        data=data_spec,
        training=training,
        changes=changes,
        num_epochs=num_epochs,
        early_stopping=_early_stopping(request, run),
        text_digest=text_digest(corpus),
        text_size=text_size(data_spec.source),
        prompt=run.prompt or prompt_of(corpus),
    )
    return run, corpus, data


def _early_stopping(request: TrainRequest, run: Run) -> Patience | None:
    """When the run ends early from here on.

    The epochs without a better one count on. Where they are enough to end the run, more epochs than it was
    begun for count anew; the same command again does not, so that a batch system may repeat it.
    """
    before, num_epochs = run.early_stopping, len(run.position.epochs)
    given = before if request.patience is None else Patience(request.patience, before.since if before else 0)
    more = request.epochs is not None and request.epochs > run.num_epochs
    if given is not None and more and given.is_over(run.position.epochs):
        return replace(given, since=num_epochs)
    return given


def with_text(data: DataSpec, names: Sequence[str]) -> DataSpec:
    """The data of a run with other texts in place of its own; they are normalised as its own were."""
    return replace(data, source=absolute_source(names), normalized=data.is_normalized)


def describe_change(before: TrainingSpec, after: TrainingSpec) -> str:
    """What a resumed run does otherwise than before.

    Example:
        >>> describe_change(TrainingSpec(learning_rate=1.0), TrainingSpec(learning_rate=0.1))
        'learning rate 1.0 -> 0.1'
    """
    old, new = _described(before), _described(after)
    return ", ".join(f"{title} {old[title]} -> {new[title]}" for title in old if old[title] != new[title])


def _described(training: TrainingSpec) -> dict[str, str]:
    values = {title: getattr(training, name) for name, title in _CHANGEABLE.items()}
    described = {title: "none" if value is None else str(value) for title, value in values.items()}
    return described | {"schedule": describe_value(training.schedule or Constant())}


def _changed(request: TrainRequest, training: TrainingSpec, num_steps: int) -> TrainingSpec:
    """How the run is trained from here on."""
    given = {name: value for name, value in request.training.items() if name in _CHANGEABLE}
    return replace(
        training, **given, schedule=_changed_schedule(request.schedule, training.schedule, num_steps)
    )


def _changed_schedule(given: Mapping[str, Any], schedule: Any, num_steps: int) -> Any:
    """The schedule from here on: another one, or the run's own with what was given anew."""
    own = schedule or Constant()
    if given.get("name", own.name) != own.name:
        return schedule_of(given, num_steps=num_steps)
    check_parameters(type(own), given, "schedule", SCHEDULES)
    changed = replace(own, **{name: value for name, value in given.items() if name != "name"})
    return None if changed == Constant() else changed


def _check_unchanged(request: TrainRequest, run: Run, data: DataSpec, training: TrainingSpec) -> None:
    """Refuses options that describe another run than the one that is resumed."""
    for name, value in request.model.items():
        _check(request, option_of("model", name).flag, value, getattr(run.model, name))
    # A batch of the data has the rows of all that are accumulated.
    own_data = {"normalized": data.is_normalized, "batch_size": data.batch_size // training.accumulate}
    for name, value in request.data.items():
        _check(request, option_of("data", name).flag, value, own_data.get(name, getattr(data, name)))
    if "accumulate" in request.training:
        flag = option_of("training", "accumulate").flag
        _check(request, flag, request.training["accumulate"], training.accumulate)
    optimizer = training.optimizer
    name = request.optimizer.get("name", optimizer.name)
    find_optimizer(name)
    _check(request, option_of("optimizer", "name").flag, name, optimizer.name)
    check_parameters(type(optimizer), request.optimizer, "optimizer", OPTIMIZERS)
    for name in request.optimizer.keys() - {"name"}:
        value = request.optimizer[name]
        _check(request, option_of("optimizer", name).flag, value, getattr(optimizer, name))
    if "name" in request.schedule:
        find_schedule(request.schedule["name"])
    if request.seed is not None:
        _check(request, "--seed", request.seed, training.seed)


def _check(request: TrainRequest, flag: str, given: object, own: object) -> None:
    if given == own:
        return
    if isinstance(own, bool):
        asked = flag if given else f"--no-{flag.removeprefix('--')}"
        begun = f"with {flag}" if own else f"without {flag}"
    else:
        asked, begun = f"{flag} {given}", "without it" if own is None else f"with {own}"
    raise SpecError(
        f"{asked} does not fit: {request.resume} was begun {begun}. Leave it out, or begin a new run"
    )
