"""What describes a run, read from TOML: ``d2lrnn train --config FILE``.

Tables and keys follow from the options of ``d2lrnn train`` (`d2lrnn.cli.train_options`): ``--batch-size`` is
the key ``batch-size`` of the table ``[data]``, ``--schedule`` the ``name`` in ``[schedule]``. The text,
``epochs``, ``seed``, ``backend`` and ``device`` stand before the tables. `d2lrnn.cli.config` writes them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.train_options import NONE, OPTIONS, SETTINGS, Option, number_or_none
from d2lrnn.contract.optimizers import SGD
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import BUILT_IN, STANDARD_INPUT
from d2lrnn.errors import SpecError, reason_of
from d2lrnn.training.schedules import Constant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = Option("TEXT", "", "text", list, "what TEXT is to d2lrnn train; a path is relative to this file")

_MUST_BE = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a name in quotes",
    list: "a name in quotes, or a list of them",
    number_or_none: f'a number or "{NONE}"',
}

#: What is chosen by name, and what the name is where none is given.
_CHOSEN = {"optimizer.name": SGD.name, "schedule.name": Constant.name, "data.iterator": DataSpec.iterator}
#: What applies to one iterator alone.
_WINDOWS = ("data.num_train", "data.num_val")


def table_of(option: Option) -> str:
    """The table that an option stands in; empty for the lines before the first table.

    The rate is the optimizer's: with another optimizer goes another rate.
    """
    return "optimizer" if option.field == "learning_rate" else option.group


def key_of(option: Option) -> str:
    """The key of an option in its table.

    Example:
        >>> from d2lrnn.cli.train_options import option_of
        >>> key_of(option_of("model", "num_hiddens")), key_of(option_of("schedule", "steps"))
        ('hidden', 'steps')
    """
    if option.field in ("name", "text"):
        return option.field
    return option.flag.removeprefix("--").removeprefix(f"{option.group}-")


#: All that a file may have: the keys of each table, and what is before the first one.
TABLES: dict[str, dict[str, Option]] = {}
for _option in (TEXT, *SETTINGS, *OPTIONS):
    TABLES.setdefault(table_of(_option), {})[key_of(_option)] = _option


def read_config(path: str) -> dict[str, Any]:
    """What a file gives, by the names that the parser has: ``{"model.cell": "gru", "epochs": 5}``.

    Raises:
        SpecError: it cannot be read, is not TOML, or has a key that is unknown, in another table or of
            another type than it should; the message has the line, where that can be found.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-8-sig")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--config {path} cannot be read: {reason_of(error)}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"{path} is not TOML: {error}") from None
    file = _File(path, text)
    given: dict[str, Any] = {}
    for name, value in document.items():
        if not isinstance(value, dict):
            given |= file.value("", name, value)
        elif name in TABLES:
            for key, inner in value.items():
                given |= file.value(name, key, inner)
        elif name in TABLES[""]:
            raise file.wrong_type(TABLES[""][name], value, name)
        else:
            raise SpecError(f"{file.where(name)}there is no table [{name}]{_nearest(name, TABLES)}")
    return given


def with_config(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a file gives, and before it what was given beside it.

    Another optimizer or schedule than the file's leaves out its whole table there, and another iterator the
    numbers of windows.

    Example:
        >>> config = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "epochs": 5}
        >>> with_config(config, {"optimizer.name": "adam"})
        {'epochs': 5, 'optimizer.name': 'adam'}
    """
    dropped: set[str] = set()
    for choice, default in _CHOSEN.items():
        if given.get(choice, config.get(choice, default)) != config.get(choice, default):
            table = TABLES[choice.partition(".")[0]].values()
            dropped |= set(_WINDOWS) if choice == "data.iterator" else {_name(option) for option in table}
    return {name: value for name, value in config.items() if name not in dropped} | dict(given)


class _File:
    """A file that is read: it knows where in it something stands."""

    def __init__(self, path: str, text: str) -> None:
        self._path, self._lines = path, text.splitlines()

    def value(self, table: str, key: str, value: Any) -> dict[str, Any]:
        """The entry of one line."""
        option = TABLES[table].get(key)
        if option is None:
            raise SpecError(f"{self.where(table, key)}{_unknown(table, key, value)}")
        kind = option.kind
        if kind is list:
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                raise self.wrong_type(option, value, table, key)
            return {_name(option): [self._beside(name) for name in names]}
        if kind is number_or_none and value == NONE:
            return {_name(option): None}
        if kind in (float, number_or_none) and type(value) in (int, float):
            try:
                return {_name(option): float(value)}
            except OverflowError:
                raise self.wrong_type(option, value, table, key) from None
        if type(value) is not kind:
            raise self.wrong_type(option, value, table, key)
        return {_name(option): value.lower() if isinstance(value, str) and option.group else value}

    def wrong_type(self, option: Option, value: Any, table: str, key: str | None = None) -> SpecError:
        """The error for a value of another type than its option has."""
        shown = "a table" if isinstance(value, dict) else f"{value!r:.60}"
        where = self.where(table, key)
        return SpecError(f"{where}{key or table} is {shown}: it must be {_MUST_BE[option.kind]}")

    def where(self, table: str, key: str | None = None) -> str:
        """The file and, where it can be found, the line of a key or of a table's heading."""
        inside, found = "", rf"\s*[\"']?{re.escape(key or '')}[\"']?\s*="
        for number, line in enumerate(self._lines, start=1):
            heading = re.match(r"\s*\[\s*[\"']?([^\]\"']*?)[\"']?\s*\]", line)
            inside = heading[1] if heading else inside
            if inside == table and (heading if key is None else re.match(found, line)):
                return f"{self._path}, line {number}: "
        return f"{self._path}: "

    def _beside(self, name: str) -> str:
        """A path as seen from the folder of the file."""
        if name in BUILT_IN or name in ("", STANDARD_INPUT):
            return name
        return str(Path(self._path).parent / name)


def _name(option: Option) -> str:
    """What the parser calls the value of an option."""
    return f"{option.group}.{option.field}".lstrip(".")


def _unknown(table: str, key: str, value: Any) -> str:
    """What is wrong with a key that a table does not have."""
    if not table and key in TABLES:
        return f"{key} is {value!r:.60}: it must be a table, [{key}]"
    for other, keys in TABLES.items():
        if key in keys and key != "name":
            return f"{key} belongs {_place(other)}, and stands {_place(table)}"
    if key.replace("-", "_") in TrainRequest.__dataclass_fields__:
        return f"{key} does not describe the run: give --{key.replace('_', '-')} on the command line"
    everywhere = [*TABLES[table], *(each for keys in TABLES.values() for each in keys if each != "name")]
    return f"there is no {key} {_place(table)}{_nearest(key, everywhere)}"


def _place(table: str) -> str:
    return f"in the table [{table}]" if table else "before the first table"


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name.replace("_", "-"), [each for each in known if each], n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else ": d2lrnn config prints what there is"
