"""From a run back to the options of ``d2lrnn train``: the values that `d2lrnn.cli.new_run` makes it of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any, TypeAlias

from d2lrnn.cli.train_options import NONE, OPTIONS
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import names_in
from d2lrnn.training.schedules import Constant

#: By the group and the field of an option.
OptionValues: TypeAlias = dict[tuple[str, str], Any]


def option_values(model: ModelSpec, data: DataSpec, training: TrainingSpec) -> OptionValues:
    """What the options say of a run, those of its text and its seed too.

    Example:
        >>> values = option_values(ModelSpec(28), DataSpec(batch_size=6), TrainingSpec(accumulate=2))
        >>> values["", "text"], values["model", "num_hiddens"], values["data", "batch_size"]
        (['sample'], 32, 3)
    """
    values: OptionValues = {("", "text"): list(names_in(data.source)), ("", "seed"): training.seed}
    # A batch of the data has the rows of all that are accumulated.
    batch_size = data.batch_size // training.accumulate
    groups: dict[str, dict[str, Any]] = {
        "model": asdict(model),
        "data": {**asdict(data), "batch_size": batch_size},
        "training": {**training.to_json(), "clip": NONE if training.clip is None else training.clip},
        "optimizer": training.optimizer.to_json(),
        "schedule": (training.schedule or Constant()).to_json(),
    }
    return values | {(group, name): value for group, each in groups.items() for name, value in each.items()}


def set_in_python(model: ModelSpec, data: DataSpec, training: TrainingSpec) -> Iterator[str]:
    """What a run has that no option gives: trained by its options, it would be another run."""
    given = {option.field: getattr(model, option.field) for option in OPTIONS if option.group == "model"}
    same = ModelSpec(model.vocab_size, **given)
    for field in fields(model):
        if getattr(same, field.name) != getattr(model, field.name):
            yield f"{field.name} {getattr(model, field.name)}"
    if data.seed != training.seed:
        yield f"seed {data.seed} of the order of the batches"
    if data.batch_size % training.accumulate:
        yield f"batches of {data.batch_size}"
