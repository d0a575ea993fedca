"""``d2lrnn compare``: what it asks for, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_json
from d2lrnn.cli.commands.request import Request
from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class CompareRequest(Request):
    """``d2lrnn compare``.

    Attributes:
        runs: the folders of the runs, two or more.
        json: the file to write the result to.

    Raises:
        SpecError: there is one run alone.
    """

    command = "compare"

    runs: Sequence[str]
    json: str | None = None

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise SpecError("one run alone has nothing to be compared with: name two or more")


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Compare saved runs: a table of what differs in their specifications, the best perplexity on the "
        "validation text, and the speed."
    )
    parser.asks_for(CompareRequest, "d2lrnn compare runs/a runs/b")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders that train --out wrote, two or more")
    add_json(parser)
    add_debug(parser)
