"""``d2lrnn config``: the specification of a run as a file, for ``d2lrnn train --config``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, fields
from typing import Any

from d2lrnn.cli.config_file import NONE, TABLES, key_of
from d2lrnn.cli.new_run import FIRST_EDITION, NUM_EPOCHS
from d2lrnn.cli.requests import ConfigRequest
from d2lrnn.cli.resumed_run import describe_change
from d2lrnn.cli.streams import in_one_line
from d2lrnn.cli.train_options import OPTIONS
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import names_in
from d2lrnn.errors import RunError
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import CONFIG_MARK, load_description
from d2lrnn.training.schedules import Constant

_HEAD = """\
# The specification of a run: d2lrnn train --config FILE trains it; options given beside it go before.
# A line that begins with # gives nothing: its value follows from other lines, or there is none."""

#: What in a new run follows from the text, the iterator, the optimizer or the schedule.
_FOLLOWING = {
    ("data", "normalized"),
    *(("data", name) for name in FIRST_EDITION),
    *((each.group, each.field) for group in ("optimizer", "schedule") for each in TABLES[group].values()),
} - {("optimizer", "name"), ("schedule", "name")}

#: Where the comments begin.
_COLUMN = 26


def config(request: ConfigRequest) -> int:
    """Prints the file; returns the exit code.

    Raises:
        RunError: there is no saved run, or it holds a model alone.
    """
    print(default_config() if request.run is None else config_of(load_description(request.run)), end="")
    return 0


def default_config() -> str:
    """The file of a run without any option."""
    values = _values(ModelSpec(vocab_size=1), DataSpec(), TrainingSpec()) | {("", "epochs"): NUM_EPOCHS}
    return _text([_HEAD], values, _FOLLOWING)


def config_of(run: Run) -> str:
    """The file of a run, with every number that its defaults came to.

    Its text is named by the absolute path. What the run was trained with on the way, and what only Python can
    set, stands in comments.

    Raises:
        RunError: it is a model alone.
    """
    if run.data is None or run.training is None:
        raise RunError("this is a model alone, without the training that made it: give a run of d2lrnn train")
    head = [CONFIG_MARK, *_HEAD.splitlines()[1:]]
    trainings = [*(change.before for change in run.changes), run.training]
    for change, after in zip(run.changes, trainings[1:], strict=True):
        described = describe_change(change.before, after)
        head.append(f"# Changed on the way: {described} from step {change.step:,}.")
    if only := list(_set_in_python(run.model, run.data, run.training)):
        head.append(f"# Set in Python, where no option sets it: {', '.join(only)}.")
    values = _values(run.model, run.data, run.training) | {("", "epochs"): run.num_epochs}
    if patience := run.early_stopping:
        values["", "patience"] = patience.patience
        if patience.since:
            head.append(f"# Went on after epoch {patience.since}, with which its patience was over.")
    # Any backend gives the same run: which one did is only said.
    values["", "backend"] = run.backend or None
    following = {("", "backend"), *([("data", "normalized")] if run.data.normalized is None else [])}
    return _text([in_one_line(line) for line in head], values, following)


def _values(model: ModelSpec, data: DataSpec, training: TrainingSpec) -> dict[Any, Any]:
    """What the options say of a run, by their group and their field."""
    values: dict[tuple[str, str], Any] = {
        ("", "text"): list(names_in(data.source)),
        ("", "seed"): training.seed,
    }
    # A batch of the data has the rows of all that are accumulated.
    batch_size = data.batch_size // training.accumulate
    groups: dict[str, dict[str, Any]] = {
        "model": asdict(model),
        "data": {**asdict(data), "normalized": data.is_normalized, "batch_size": batch_size},
        "training": {**training.to_json(), "clip": NONE if training.clip is None else training.clip},
        "optimizer": training.optimizer.to_json(),
        "schedule": (training.schedule or Constant()).to_json(),
    }
    return values | {(group, name): value for group, each in groups.items() for name, value in each.items()}


def _set_in_python(model: ModelSpec, data: DataSpec, training: TrainingSpec) -> Iterator[str]:
    """What a run has that no option gives: trained by this file, it would be another run."""
    given = {option.field: getattr(model, option.field) for option in OPTIONS if option.group == "model"}
    same = ModelSpec(model.vocab_size, **given)
    for field in fields(model):
        if getattr(same, field.name) != getattr(model, field.name):
            yield f"{field.name} {getattr(model, field.name)}"
    if data.seed != training.seed:
        yield f"seed {data.seed} of the order of the batches"
    if data.batch_size % training.accumulate:
        yield f"batches of {data.batch_size}"


def _text(head: list[str], values: dict[Any, Any], following: Collection[tuple[str, str]]) -> str:
    lines = head
    for table, options in TABLES.items():
        lines += ["", *([f"[{table}]"] if table else [])]
        for option in options.values():
            place = (option.group, option.field)
            value = values.get(place)
            mark = "#" if value is None or place in following else ""
            line = f"{mark}{key_of(option)} = {'' if value is None else _toml(value)}"
            lines.append(f"{line:{_COLUMN}}  # {option.help}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    r"""A value as TOML.

    Example:
        >>> print(_toml(["a\\b", 'say "x"\x9b']), _toml(True), _toml(1e-08))
        ["a\\b", "say \"x\"\U0000009b"] true 1e-08
    """
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    escaped = (
        f"\\{each}" if each in '"\\' else each if each.isprintable() else f"\\U{ord(each):08x}"
        for each in value
    )  # fmt: skip
    return f'"{"".join(escaped)}"'
