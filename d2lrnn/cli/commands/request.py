"""What every command is asked for, and checks of what was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class Request:
    """What all commands have; take one of the subclasses.

    Attributes:
        debug: whether an error is shown with its traceback.
    """

    #: The name of the command, of its module in `d2lrnn.cli` and of the function therein.
    command: ClassVar[str]

    debug: bool = field(default=False, kw_only=True)

    @property
    def output_paths(self) -> tuple[str | None, ...]:
        """What the options for results name; see `d2lrnn.cli.output_files`."""
        return tuple(getattr(self, name, None) for name in ("json", "csv", "html", "save_notebook"))


#: The kinds of pictures.
_PICTURES = ("png", "svg")


def kind_of_picture(out: str) -> str:
    """``"png"`` or ``"svg"``, by the name of the file."""
    kind = out.rpartition(".")[2].lower()
    if kind not in _PICTURES:
        raise SpecError(f"--out is {out}: its name must end in .{' or .'.join(_PICTURES)}")
    return kind


#: A saved run holds whole numbers of 63 bits.
_LIMIT = 1 << 63


def check_size(option: str, number: int | None) -> None:
    """Raises a SpecError where a saved run could not hold the number."""
    if number is not None and number >= _LIMIT:
        raise SpecError(f"{option} is {number}: it must be below 2**63")


def check_at_least_one(what: str, number: int | None) -> None:
    """Raises a SpecError where the number is below 1."""
    if number is not None and number < 1:
        raise SpecError(f"{what} is {number}: it must be at least 1")


def check_timeout(seconds: float) -> None:
    """Raises a SpecError where --timeout is no time."""
    if not 0 < seconds < float("inf"):
        raise SpecError(f"--timeout is {seconds:g}: it must be a number above 0")


def check_alone(what: str, given: Mapping[str, bool]) -> None:
    """Raises a SpecError where something is given that an option leaves no room for."""
    if unwanted := [name for name, there in given.items() if there]:
        raise SpecError(f"{what}: leave {' and '.join(unwanted)} out")
