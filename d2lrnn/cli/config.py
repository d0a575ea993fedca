"""``d2lrnn config``: the specification of a run as a file, for ``d2lrnn train --config``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from d2lrnn.cli.commands.config import ConfigRequest
from d2lrnn.cli.config_file import TABLES, key_of
from d2lrnn.cli.new_run import FIRST_EDITION, NUM_EPOCHS
from d2lrnn.cli.option_values import option_values, set_in_python
from d2lrnn.cli.resumed_run import describe_change
from d2lrnn.cli.streams import in_one_line
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import RunError
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import CONFIG_MARK, load_description

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
    values = option_values(ModelSpec(vocab_size=1), DataSpec(), TrainingSpec())
    values["", "epochs"], values["data", "normalized"] = NUM_EPOCHS, DataSpec().is_normalized
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
    if only := list(set_in_python(run.model, run.data, run.training)):
        head.append(f"# Set in Python, where no option sets it: {', '.join(only)}.")
    values = option_values(run.model, run.data, run.training)
    values["", "epochs"], values["data", "normalized"] = run.num_epochs, run.data.is_normalized
    if patience := run.early_stopping:
        values["", "patience"] = patience.patience
        if patience.since:
            head.append(f"# Went on after epoch {patience.since}, with which its patience was over.")
    # Any backend gives the same run: which one did is only said.
    values["", "backend"] = run.backend or None
    following = {("", "backend"), *([("data", "normalized")] if run.data.normalized is None else [])}
    return _text([in_one_line(line) for line in head], values, following)


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
