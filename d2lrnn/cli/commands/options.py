"""Options that several commands have."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from d2lrnn.cli.commands.argument_parser import ArgumentParser

if TYPE_CHECKING:
    from d2lrnn.cli.train_options import Option

#: What stands for a value, by what reads it.
_METAVARS: dict[Any, str] = {int: "N", str: "NAME"}


def add_option(group: argparse._ActionsContainer, option: Option, metavar: str | None = None) -> None:
    """An option of a specification; `metavar` stands for its value, by default one that fits its kind."""
    name: dict[str, Any] = {"dest": f"{option.group}.{option.field}".lstrip("."), "help": option.help}
    if option.kind is bool:
        group.add_argument(
            option.flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, **name
        )
    else:
        metavar = metavar or _METAVARS.get(option.kind, "X")
        # The names of cells and the like are in lower case: GRU is gru.
        kind = str.lower if option.kind is str and option.group else option.kind
        group.add_argument(option.flag, type=kind, metavar=metavar, **name)


def add_config_file(parser: ArgumentParser) -> None:
    """``--config``, which `d2lrnn.cli.parser.parse` reads."""
    parser.add_argument(
        "--config", metavar="FILE",
        help="take all that describes the run from this file, which d2lrnn config prints; what is given here "
        "as well goes before",
    )  # fmt: skip


def add_texts(parser: ArgumentParser, built_in: str) -> None:
    """Any number of texts; `built_in` says which there are, and the default."""
    parser.add_argument(
        "text", nargs="*", metavar="TEXT",
        help=f"text files, folders of .txt files, - for standard input, {built_in}",
    )  # fmt: skip


def add_saved_run(parser: ArgumentParser) -> None:
    """The folder of a saved run."""
    parser.add_argument(
        "run", metavar="DIR",
        help="the folder that train --out wrote; its best epoch is taken, DIR/latest is the newest",
    )  # fmt: skip


def add_backend(parser: argparse._ActionsContainer) -> None:
    """``--backend``."""
    from d2lrnn.cli.train_options import option_of

    add_option(parser, option_of("", "backend"))


def add_device(parser: argparse._ActionsContainer) -> None:
    """``--device``."""
    from d2lrnn.cli.train_options import option_of

    add_option(parser, option_of("", "device"))


def add_json(parser: argparse._ActionsContainer) -> None:
    """``--json``."""
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the result here as JSON, too; - is standard output, and the report goes to stderr then",
    )


def add_debug(parser: argparse._ActionsContainer) -> None:
    """``--debug``."""
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
