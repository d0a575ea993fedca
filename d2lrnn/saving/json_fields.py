"""From plain data to the library's frozen values, with every type checked.

JSON that a person or another program wrote can hold anything: a text for a number, a number for a truth
value, a field that does not exist. What comes out of here is what the dataclass says, or an error that names
the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from d2lrnn.errors import RunError, SpecError

T = TypeVar("T")

#: Numbers in a file are counts and seeds: what does not fit 63 bits is damage.
_INT_LIMIT = 1 << 63


def decode(cls: type[T], data: object, where: str, known: Mapping[str, object] | None = None) -> T:
    """The dataclass `cls` from an object of JSON that has exactly its fields.

    Args:
        cls: a dataclass whose fields are int, float, bool, str, None, Literals, tuples of these of any
            length, or unions of them.
        data: what was read.
        where: what to call it in an error.
        known: fields that were read already, by name: `data` has them too, and they are not looked at.

    Raises:
        RunError: a field is missing, unknown, of another type, or a value that `cls` itself refuses.

    Example:
        >>> from d2lrnn.contract.optimizers import SGD
        >>> decode(SGD, {"weight_decay": 0, "momentum": 0.9, "nesterov": True}, "the optimizer")
        SGD(weight_decay=0.0, momentum=0.9, nesterov=True)
    """
    if not isinstance(data, dict):
        raise RunError(f"{where} must be an object, and is {_shown(data)}")
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # T is a dataclass
    check_names(data, names, where)
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    values = dict(known or {})
    for name in names:
        if name not in values:
            values[name] = check_type(hints[name], data[name], f"{name} of {where}")
    try:
        return cls(**values)
    except SpecError as error:
        raise RunError(f"{where} is not valid: {error}") from error


def check_names(data: dict[str, Any], names: list[str], where: str) -> None:
    """Raises a RunError where `data` has not exactly these names."""
    missing = [name for name in names if name not in data]
    extra = [name for name in data if name not in names]
    if missing:
        raise RunError(f"{where} lacks {', '.join(missing)}")
    if extra:
        raise RunError(f"{where} has {', '.join(map(_shown, extra))}, which is unknown")


def check_type(hint: Any, value: object, where: str) -> Any:
    """`value`, where it is what `hint` says; an int becomes a float, a list a tuple where one is wanted."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        if _is(kind, value):
            if kind is float:
                return float(value)  # type: ignore[arg-type]  # a number
            return tuple(value) if get_origin(kind) is tuple else value  # type: ignore[arg-type]  # a list
    raise RunError(f"{where} must be {' or '.join(map(_named, kinds))}, and is {_shown(value)}")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _is(hint: Any, value: object) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_is(get_args(hint)[0], each) for each in value)
    if hint is float:
        return _is(int, value) or (type(value) is float and math.isfinite(value))
    if hint is int:
        return type(value) is int and abs(value) < _INT_LIMIT
    return type(value) is (NoneType if hint in (None, NoneType) else hint)


#: What to call a type of JSON.
_KINDS: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "an object",
    list: "a list", NoneType: "null",
}  # fmt: skip


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return f"a list in which each is {_named(get_args(kind)[0])}"
    return _KINDS[kind]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
