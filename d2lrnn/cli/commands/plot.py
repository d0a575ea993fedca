"""``d2lrnn plot``: what it asks for, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug
from d2lrnn.cli.commands.request import Request, kind_of_picture


@dataclass(frozen=True)
class PlotRequest(Request):
    """``d2lrnn plot``.

    Attributes:
        runs: the folders of the runs.
        out: the picture to write, whose name says of which kind it is.

    Raises:
        SpecError: the name says no kind that can be written.
    """

    command = "plot"

    runs: Sequence[str]
    out: str

    def __post_init__(self) -> None:
        kind_of_picture(self.out)

    @property
    def kind(self) -> str:
        """``"png"`` or ``"svg"``."""
        return kind_of_picture(self.out)


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Draw the perplexity of saved runs by epoch: on the validation text and in training, the best epoch "
        "marked, with what differs between the runs. It needs matplotlib."
    )
    parser.asks_for(PlotRequest, "d2lrnn plot runs/a runs/b --out curves.svg")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders that train --out wrote")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="the picture to write, or to replace: .png or .svg"
    )
    add_debug(parser)
