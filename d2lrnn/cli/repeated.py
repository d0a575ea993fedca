"""The command that repeats a run: options from specifications, the way back from `d2lrnn.cli.new_run`."""

from __future__ import annotations

import shlex
from itertools import accumulate

from d2lrnn.cli.option_values import OptionValues, option_values, set_in_python
from d2lrnn.cli.train_options import OPTIONS, SETTINGS
from d2lrnn.contract.optimizers import SGD
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import STANDARD_INPUT, names_in
from d2lrnn.saving.run import Run
from d2lrnn.training.schedules import Constant

#: Where a run is saved that is resumed in turn.
_FOLDER = "repeated"


def commands_of(run: Run) -> tuple[list[str], list[str]]:
    """What repeats a run of ``d2lrnn train``: a command, and one more for each change on the way.

    Returns:
        The commands, to be typed one after another; and in sentences what they do not repeat.

    Example:
        >>> run = Run(ModelSpec(28), {}, None, DataSpec("my text.txt"), TrainingSpec(), num_epochs=3)
        >>> commands_of(run)[0]
        ["d2lrnn train 'my text.txt' --lr 1.0 --epochs 3 --seed 0"]
    """
    data, training = run.data, run.training
    assert data is not None
    assert training is not None
    stages = [*(change.before for change in run.changes), training]
    values = [option_values(run.model, data, stage) for stage in stages]
    ends, exceptions = _ends(run)
    first = values[0] | {("", "epochs"): ends[0], ("", "backend"): run.backend or None}
    if run.early_stopping is not None:
        first["", "patience"] = run.early_stopping.patience
    words = ["d2lrnn", "train", *first["", "text"], *_words(_given(first, data, stages[0]))]
    words += ["--out", _FOLDER] if run.changes else []
    lines = [shlex.join(words)]
    for before, after, end in zip(values, values[1:], ends[1:], strict=False):
        again = ["d2lrnn", "train", "--resume", _FOLDER, "--epochs", str(end)]
        lines.append(shlex.join([*again, *_words(_changed(before, after))]))
    return lines, [*exceptions, *_not_repeated(run, data, training)]


def _ends(run: Run) -> tuple[list[int], list[str]]:
    """The epochs of every stage, and what cannot be said in epochs."""
    steps = list(accumulate(record.num_steps for record in run.position.epochs))
    ends, exceptions = [], []
    for change in run.changes:
        whole = sum(step <= change.step for step in steps)
        inside = change.step > (steps[whole - 1] if whole else 0)
        ends.append(max(whole + inside, 1))
        if inside or not whole:
            exceptions.append(
                f"The run was changed after training step {change.step:,}, which is not the end of an epoch: "
                "there the command before has to be stopped with Ctrl-C."
            )
    return [*ends, run.num_epochs], exceptions


def _not_repeated(run: Run, data: DataSpec, training: TrainingSpec) -> list[str]:
    """What the options do not say."""
    found = []
    if STANDARD_INPUT in names_in(data.source):
        found.append("The text came from standard input: pipe it in again.")
    if only := list(set_in_python(run.model, data, training)):
        found.append(f"The run was made in Python, with what no option gives: {', '.join(only)}.")
    if run.early_stopping is not None and (since := run.early_stopping.since):
        found.append(
            f"The run went on after epoch {since}, with which its patience was over: where the command ends "
            "there, --resume goes on with more --epochs."
        )
    return found


def _given(values: OptionValues, data: DataSpec, training: TrainingSpec) -> OptionValues:
    """The values that are not the defaults, and those whose default follows from others."""
    kinds = TrainingSpec(
        optimizer=type(training.optimizer)(), schedule=type(training.schedule or Constant())()
    )
    defaults = option_values(ModelSpec(1), DataSpec(), kinds)
    defaults |= {("optimizer", "name"): SGD.name, ("schedule", "name"): Constant.name}
    del defaults["", "seed"], defaults["training", "learning_rate"]
    # A cosine's length is that of the run.
    defaults.pop(("schedule", "steps"), None)
    if data.iterator != DataSpec.iterator:
        del defaults["data", "batch_size"], defaults["data", "num_steps"]
    return {place: value for place, value in values.items() if value != defaults.get(place)}


def _changed(before: OptionValues, after: OptionValues) -> OptionValues:
    """What is given to a run that is resumed; of another schedule, all of it."""
    changed = {place for place, value in after.items() if before.get(place) != value}
    if any(group == "schedule" for group, _ in changed):
        changed |= {place for place in after if place[0] == "schedule"}
    return {place: value for place, value in after.items() if place in changed}


def _words(given: OptionValues) -> list[str]:
    words: list[str] = []
    for option in (*OPTIONS, *SETTINGS):
        value = given.get((option.group, option.field))
        if option.kind is bool and value is not None:
            words.append(option.flag if value else f"--no-{option.flag.removeprefix('--')}")
        elif value is not None:
            words += [option.flag, str(value)]
    return words
