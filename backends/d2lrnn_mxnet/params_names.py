"""What Gluon calls the arrays of recurrent layers in its files, in all its ways, and one name for each.

========================================  ===========================================================
``_unfused.1.i2h_weight``                 layer 1 of a layer, by ``save_parameters``
``_unfused.1.r_cell.i2h_weight``          its direction backward, where it has two
``1.i2h_weight``                          the cell 1 of a `SequentialRNNCell`
``1.r_cell.i2h_weight``                   of a `BidirectionalCell` in it; ``base_cell.`` of a `ZoneoutCell`
``i2h_weight``                            of a cell
``arg:gru0_r1_i2h_weight``                layer 1 backward, by ``export`` or, without ``arg:``, by
                                          ``collect_params().save``; ``gru0_i2h_weight`` of a cell
========================================  ===========================================================

Before all but the last stand the names of the blocks around: ``encoder.rnn._unfused.1.i2h_weight``. The one
name is the prefix with a point behind it, ``i2h_weight``, and but for a cell's ``_l1`` and ``_reverse``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from d2lrnn.errors import PortError

_OWN = r"(?P<own>[ih]2h_(?:weight|bias)|h2r_weight)"
_NUMBER = r"(?P<number>\d{1,3})"
_PATTERNS = (
    re.compile(rf"(?P<prefix>(?:.*\.)?)_unfused\.{_NUMBER}\.(?:(?P<side>[lr])_cell\.)?{_OWN}"),
    re.compile(rf"(?:arg:)?(?P<prefix>(?:.*_)?)(?P<side>[lr]){_NUMBER}_{_OWN}"),
    re.compile(rf"(?:arg:)?(?P<prefix>.*_)(?P<side>)(?P<number>){_OWN}"),
)
_CELLS = re.compile(
    rf"(?P<prefix>(?:.*?\.)??)(?:{_NUMBER}\.)?(?:(?P<side>[lr])_cell\.)?(?P<wrapped>base_cell\.)?{_OWN}"
)


class _Parts(NamedTuple):
    """What a name says: the number of the layer is None for a cell that is in no stack."""

    prefix: str
    number: int | None
    backward: bool
    own: str
    counted: bool = False
    wrapped: bool = False


def one_name_each(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The names in a file by the one name of each, and what is not said of them.

    Args:
        shapes: of all arrays, by their names. Cells of a stack that are not alike get numbers before their
            names, as modules of their own.

    Raises:
        PortError: two of them are the same array's.

    Example:
        >>> one_name_each({"0.i2h_weight": (9, 2), "2.r_cell.i2h_weight": (9, 3)})[0]
        {'i2h_weight_l0': '0.i2h_weight', 'i2h_weight_l1_reverse': '2.r_cell.i2h_weight'}
    """
    said = {name: _parts(name) for name in shapes}
    # In a stack of cells a DropoutCell, which has no arrays, has a number too.
    numbers: dict[str, set[int]] = {}
    kinds: dict[str, set[tuple[int, ...]]] = {}
    for name, each in said.items():
        if each is not None and each.counted and each.number is not None:
            numbers.setdefault(each.prefix, set()).add(each.number)
            if each.own == "h2h_weight":
                kinds.setdefault(each.prefix, set()).add(shapes[name])
    ranks = {prefix: {n: l for l, n in enumerate(sorted(found))} for prefix, found in numbers.items()}
    known: dict[str, str] = {}
    for name, each in said.items():
        one = name if each is None else _one_name(each, ranks, len(kinds.get(each.prefix, ())) < 2)
        if one in known:
            raise PortError(f"{name[:60]} and {known[one][:60]} are names of one array")
        known[one] = name
    wrapped = any(each is not None and each.wrapped for each in said.values())
    return known, (_WRAPPED,) if wrapped else ()


def _one_name(parts: _Parts, ranks: Mapping[str, Mapping[int, int]], alike: bool) -> str:
    if parts.number is None:
        return f"{parts.prefix}{parts.own}"
    number, start = parts.number, ""
    if parts.counted:
        number = ranks[parts.prefix][number]
        if not alike:
            number, start = 0, f"{number}."
    return f"{parts.prefix}{start}{parts.own}_l{number}" + "_reverse" * parts.backward


_WRAPPED = (
    "a base_cell is taken for that of a ZoneoutCell: a ResidualCell has the same names, and computes "
    "something else"
)


def plain_prefix(prefix: str) -> str:
    """A prefix as it stands in the one name.

    Example:
        >>> plain_prefix("arg:gru0_"), plain_prefix("encoder.rnn")
        ('gru0.', 'encoder.rnn.')
    """
    plain = prefix.removeprefix("arg:").rstrip("._")
    return f"{plain}." if plain else ""


def _parts(name: str) -> _Parts | None:
    for pattern in _PATTERNS:
        if found := pattern.fullmatch(name):
            number = int(found["number"]) if found["number"] else None
            return _Parts(plain_prefix(found["prefix"]), number, found["side"] == "r", found["own"])
    if found := _CELLS.fullmatch(name):
        alone = found["number"] is None and found["side"] is None
        number = None if alone else int(found["number"] or 0)
        prefix, backward = plain_prefix(found["prefix"]), found["side"] == "r"
        return _Parts(prefix, number, backward, found["own"], counted=True, wrapped=bool(found["wrapped"]))
    return None
