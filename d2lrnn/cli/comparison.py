"""What runs differ in, and what they came to: for ``d2lrnn compare`` and the legend of ``d2lrnn plot``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import harmonic_mean, mean
from typing import Any

from d2lrnn.cli.streams import in_one_line
from d2lrnn.cli.train_options import OPTIONS
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.data.texts import names_in
from d2lrnn.errors import RunError, SpecError
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_description
from d2lrnn.training.history import EpochRecord, best_epoch
from d2lrnn.training.schedules import Constant

#: A value that a run does not have: the momentum of an optimizer without one.
ABSENT = "-"

#: The names of fields as the command line has them.
_NAMES = {(option.group, option.field): option.flag.lstrip("-") for option in OPTIONS}

#: What decides which tokens are validated on.
_VALIDATION = ("iterator", "num_steps", "num_train", "num_val")


@dataclass(frozen=True)
class Compared:
    """A run among others.

    Attributes:
        path: its folder, as it was given.
        name: what it is called here; no other is called so.
        run: its newest checkpoint, without arrays.
    """

    path: str
    name: str
    run: Run

    @property
    def epochs(self) -> tuple[EpochRecord, ...]:
        """The whole epochs."""
        return self.run.position.epochs

    @property
    def is_finished(self) -> bool:
        """Whether it has as many epochs as were asked for."""
        return len(self.epochs) >= self.run.num_epochs

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the lowest validation perplexity, the first of equals; None where none has ended."""
        return best_epoch(self.epochs)

    @property
    def tokens_per_second(self) -> float | None:
        """Of all epochs, which have as many tokens each; None where none has ended."""
        speeds = [record.tokens_per_second for record in self.epochs]
        return harmonic_mean(speeds) if speeds and all(speed >= 0 for speed in speeds) else None

    @property
    def clipped(self) -> float | None:
        """The share of the steps whose gradient was clipped; None where it is not known of all epochs."""
        shares = [record.clipped for record in self.epochs if record.clipped is not None]
        return mean(shares) if shares and len(shares) == len(self.epochs) else None


def read_runs(folders: Sequence[str]) -> list[Compared]:
    """The runs in folders.

    Raises:
        RunError: one holds no run of ``d2lrnn train``, or it is damaged.
        SpecError: one is given twice.
    """
    real = [os.path.realpath(folder) for folder in folders]
    for number, folder in enumerate(folders):
        if real[number] in real[:number]:
            raise SpecError(f"{folder} is given twice: leave one of them out")
    names = _short_names(folders)
    return [Compared(folder, name, _read(folder)) for folder, name in zip(folders, names, strict=True)]


def specification(run: Run, *, defaults: bool = True) -> dict[str, str]:
    """All that describes a run, by the names of the options of ``d2lrnn train``.

    A value that was changed when the run was resumed stands behind the one before: ``1 -> 0.1``.

    Args:
        run: one of ``d2lrnn train``.
        defaults: whether parameters of the optimizer, the schedule and the cell that have their default are
            among them: of those, the name says it already.
    """
    data, training = run.data, run.training
    assert data is not None
    assert training is not None
    model = run.model.to_json()
    if not defaults and model["reset_after"] in (None, run.model.implementation == "concise"):
        del model["reset_after"]
    values = {_name("model", field): _shown(value) for field, value in model.items()}
    data_values = {**data.to_json(), "source": data.source, "normalized": data.is_normalized}
    if (seed := data_values.pop("seed")) != training.seed or defaults:
        values["data-seed"] = _shown(seed)
    text = in_one_line(", ".join(names_in(data_values.pop("source"))))
    values |= {"text": text, "symbols": values.pop(_name("model", "vocab_size"))}
    values |= {_name("data", field): _shown(value) for field, value in data_values.items()}
    trained = [
        _described(each, defaults=defaults) for each in (*(change.before for change in run.changes), training)
    ]
    if run.early_stopping is not None or defaults:
        values["patience"] = _shown(run.early_stopping.patience if run.early_stopping else None)
    for name in dict.fromkeys(name for each in trained for name in each):
        values[name] = " -> ".join(value for value, _ in groupby(each.get(name, ABSENT) for each in trained))
    return values | {"backend": in_one_line(run.backend)}


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The fields that are not the same in all runs, and their value in each.

    Args:
        runs: runs of ``d2lrnn train``.
    """
    given = [specification(run, defaults=False) for run in runs]
    whole = [specification(run) for run in runs]
    return {
        name: [each.get(name, ABSENT) for each in whole]
        for name in dict.fromkeys(name for each in whole for name in each)
        if len({each.get(name) for each in given}) > 1
    }


def notes(runs: Sequence[Run]) -> list[str]:
    """Why the perplexities of the runs cannot be compared, where that is so."""
    if _differ(run.vocab.to_json() if run.vocab else None for run in runs):
        different = "the runs have different vocabularies: perplexities over different tokens do not compare"
        return [f"{different}; bits per character and per byte do, of the same validation text"]
    if _differ(_text(run) for run in runs):
        return ["the runs have different texts: the perplexity of each is on its own"]
    if _differ([getattr(run.data, name) for name in _VALIDATION] for run in runs):
        return ["the runs were validated on different parts of their text, or in sequences of other lengths"]
    return []


def per_token(runs: Sequence[Run]) -> str:
    """What the bits of the runs are bits per: ``bits/char``."""
    units = {run.data.unit for run in runs if run.data}
    return f"bits/{units.pop()}" if len(units) == 1 else "bits/token"


def bits_of(each: Compared) -> dict[str, float | None]:
    """The bits of the best epoch of a run, by what they are bits per; none where no epoch has ended."""
    best = each.best
    if best is None:
        return {}
    bits = {"bits/char": best.val_bits_per_char, "bits/byte": best.val_bits_per_byte}
    return bits | {per_token([each.run]): best.val_bits_per_token, "bits/token": best.val_bits_per_token}


def _text(run: Run) -> Any:
    """What tells a text from another: the digest of its tokens, and in format 1 its name."""
    return run.text_digest or (run.data and run.data.source)


def _differ(values: Iterator[Any]) -> bool:
    first, *others = values
    return any(other != first for other in others)


def _read(folder: str) -> Run:
    run = load_description(folder)
    if run.data is None or run.training is None:
        raise RunError(
            f"{folder} holds a model alone, without the training that made it: give a run of d2lrnn train"
        )
    return run


def _short_names(folders: Sequence[str]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [Path(os.path.normpath(folder)).parts for folder in folders]
    for number in range(1, max(map(len, parts)) + 1):
        names = [os.path.join(*each[-number:]) if each else folder
                 for each, folder in zip(parts, folders, strict=True)]  # fmt: skip
        if len(set(names)) == len(names) and not any(name in ("best", "latest", ".", "..") for name in names):
            return [in_one_line(name) for name in names]
    return [in_one_line(folder) for folder in folders]


def _described(training: TrainingSpec, *, defaults: bool) -> dict[str, str]:
    """How a model is trained, with the parameters of optimizer and schedule beside the rest."""
    values = training.to_json()
    del values["optimizer"], values["schedule"]
    described = {_name("training", field): _shown(value) for field, value in values.items()}
    for group, chosen in (("optimizer", training.optimizer), ("schedule", training.schedule or Constant())):
        own = type(chosen)().to_json()
        for field, value in chosen.to_json().items():
            if defaults or field == "name" or value != own[field]:
                described[_name(group, field)] = _shown(value)
    return described


def _name(group: str, field: str) -> str:
    return _NAMES.get((group, field), field.replace("_", "-"))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return in_one_line(str(value).removesuffix(".0") if isinstance(value, float) else str(value))
