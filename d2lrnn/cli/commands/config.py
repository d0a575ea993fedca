"""``d2lrnn config``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class ConfigRequest(Request):
    """``d2lrnn config``.

    Attributes:
        run: the folder of a saved run; None is a run without any option.
    """

    command = "config"

    run: str | None = None


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Print a file with every setting of a run, its default and what it means, or that of a saved run: "
        "train --config trains it."
    )
    parser.asks_for(
        ConfigRequest,
        "d2lrnn config > run.toml && d2lrnn train --config run.toml",
        "d2lrnn config runs/a",
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="the folder of a saved run (default: a run without any option)"
    )
    add_debug(parser)
